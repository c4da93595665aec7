-- Where the filter's events go. Written for ClickHouse 18.16 and later, tried up to 26.9.
-- docs/clickhouse.md says how to load it and how the filter is told to write there.

CREATE DATABASE IF NOT EXISTS edgesplit;

-- A column for every key of an event (docs/events.md). Delivery is at least once, and a visitor of two workers is reported by
-- both, under one id: rows that agree in what follows ORDER BY are one event. ClickHouse merges them some day, those of one partition: so
-- count uniqExact(id), never count().
CREATE TABLE IF NOT EXISTS edgesplit.events (
  id UUID,
  type String,
  -- RFC 3339 with milliseconds, always UTC: compares as text as it does as time.
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
  -- One column for each name under `visitor.attributes` that is to be kept; the others are skipped.
  `attributes.country` Nullable(String),
  `attributes.plan` Nullable(String)
) ENGINE = ReplacingMergeTree()
PARTITION BY substring(time, 1, 7)
ORDER BY (type, ifNull(experiment, ''), id);

-- What every variant should get, out of the experiments' own document: see weights.jq. The last row of a variant counts.
CREATE TABLE IF NOT EXISTS edgesplit.weights (
  experiment String,
  variant String,
  weight UInt32,
  baseline UInt8,
  version UInt64
) ENGINE = ReplacingMergeTree(version)
ORDER BY (experiment, variant);

-- Every visitor once in each experiment, as of the first exposure. `variants` over 1: the visitor was moved, by a change of
-- weights or salt under way.
CREATE VIEW IF NOT EXISTS edgesplit.visitors AS
SELECT experiment, unit, argMin(shown, time) AS variant, min(time) AS since, uniqExact(shown) AS variants
FROM (
  SELECT ifNull(experiment, '') AS experiment, unit, ifNull(variant, '') AS shown, time
  FROM edgesplit.events
  WHERE type = 'exposure'
)
GROUP BY experiment, unit;

-- Every visitor once for each goal, as of the last time it was met.
CREATE VIEW IF NOT EXISTS edgesplit.goals AS
SELECT ifNull(goal, '') AS goal, unit, max(time) AS last, uniqExact(id) AS times
FROM edgesplit.events
WHERE type = 'goal'
GROUP BY goal, unit;

-- Which share of the visitors of every variant met each goal after they were exposed, with its 95 % interval (Wilson,
-- Probable inference, 1927). Visitors who were moved between variants do not count.
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
      -- Every visitor with every goal, met or not.
      SELECT experiment, variant, unit, since, goal
      FROM (SELECT experiment, variant, unit, since FROM edgesplit.visitors WHERE variants = 1) AS visitor
      CROSS JOIN (SELECT DISTINCT goal FROM edgesplit.goals) AS met
    ) AS pair
    ALL LEFT JOIN (SELECT unit, goal, last FROM edgesplit.goals) AS met USING unit, goal
    GROUP BY experiment, goal, variant
  )
);
