-- Tables and views for the filter's events. For ClickHouse 18.16 and later, tested up to 26.9.
-- docs/clickhouse.md explains how to load it, and how to configure the filter.

CREATE DATABASE IF NOT EXISTS edgesplit;

-- A column for every key of an event (docs/events.md). Delivery is at least once, and two workers may report a visitor under
-- the same id. Rows with the same sorting key (ORDER BY) are therefore one event. ClickHouse merges them eventually, within
-- a partition, so count uniqExact(id), never count().
CREATE TABLE IF NOT EXISTS edgesplit.events (
  id UUID,
  type String,
  -- RFC 3339 with milliseconds, always UTC, so text order equals time order.
  time String,
  at DateTime MATERIALIZED parseDateTimeBestEffort(time),
  unit String,
  experiment Nullable(String),
  variant Nullable(String),
  goal Nullable(String),
  revision Nullable(String),
  host String,
  path String,
  status Nullable(UInt16),
  -- One column for each name under `visitor.attributes` to store; other attributes are skipped.
  `attributes.country` Nullable(String),
  `attributes.plan` Nullable(String)
) ENGINE = ReplacingMergeTree()
PARTITION BY substring(time, 1, 7)
ORDER BY (type, ifNull(experiment, ''), id);

-- The configured weights, extracted from the experiments document by weights.jq. The last row of a variant counts.
CREATE TABLE IF NOT EXISTS edgesplit.weights (
  experiment String,
  variant String,
  weight UInt32,
  baseline UInt8,
  version UInt64
) ENGINE = ReplacingMergeTree(version)
ORDER BY (experiment, variant);

-- One row per visitor and experiment, from the first exposure. If `variants` is above 1, a change of weights or salt moved
-- the visitor while the experiment ran.
CREATE VIEW IF NOT EXISTS edgesplit.visitors AS
SELECT experiment, unit, argMin(shown, time) AS variant, min(time) AS since, uniqExact(shown) AS variants
FROM (
  SELECT ifNull(experiment, '') AS experiment, unit, ifNull(variant, '') AS shown, time
  FROM edgesplit.events
  WHERE type = 'exposure'
)
GROUP BY experiment, unit;

-- One row per visitor and goal, from the last time the goal was met.
CREATE VIEW IF NOT EXISTS edgesplit.goals AS
SELECT ifNull(goal, '') AS goal, unit, max(time) AS last, uniqExact(id) AS times
FROM edgesplit.events
WHERE type = 'goal'
GROUP BY goal, unit;

-- The share of each variant's visitors who met each goal after their exposure, with its 95 % interval (Wilson, Probable
-- inference, 1927). Visitors who were moved between variants are excluded.
CREATE VIEW IF NOT EXISTS edgesplit.rates AS
SELECT experiment, goal, variant, visitors, converted, rate, middle - half AS low, middle + half AS high
FROM (
  SELECT experiment, goal, variant, visitors, converted, rate,
    (rate + z * z / (2 * visitors)) / (1 + z * z / visitors) AS middle,
    z * sqrt(rate * (1 - rate) / visitors + z * z / (4 * visitors * visitors)) / (1 + z * z / visitors) AS half
  FROM (
    SELECT experiment, goal, variant, count() AS visitors, sum(last >= since) AS converted,
      converted / visitors AS rate, 1.959963984540054 AS z
    FROM (
      -- Every combination of visitor and goal, met or not.
      SELECT experiment, variant, unit, since, goal
      FROM (SELECT experiment, variant, unit, since FROM edgesplit.visitors WHERE variants = 1) AS visitor
      CROSS JOIN (SELECT DISTINCT goal FROM edgesplit.goals) AS met
    ) AS pair
    ALL LEFT JOIN (SELECT unit, goal, last FROM edgesplit.goals) AS met USING unit, goal
    GROUP BY experiment, goal, variant
  )
);
