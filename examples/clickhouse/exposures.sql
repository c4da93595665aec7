-- Exposures and visitors of each variant, and its share of the experiment's exposures.
SELECT experiment, variant, exposures, visitors, exposures / total AS share
FROM (
  SELECT ifNull(experiment, '') AS experiment, ifNull(variant, '') AS variant,
    uniqExact(id) AS exposures, uniqExact(unit) AS visitors
  FROM edgesplit.events
  WHERE type = 'exposure'
  GROUP BY experiment, variant
) AS shown
ALL INNER JOIN (
  SELECT ifNull(experiment, '') AS experiment, uniqExact(id) AS total
  FROM edgesplit.events
  WHERE type = 'exposure'
  GROUP BY experiment
) AS whole USING experiment
ORDER BY experiment, variant
