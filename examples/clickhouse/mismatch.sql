-- Sample ratio mismatch: a test of visitors per variant against edgesplit.weights, per experiment. It is the dashboard's
-- test, and holds at every look: if the weights are right, p_value falls below p at any time of a run with a probability of
-- at most p. Below 0.001, do not trust the results of the experiment until you know the cause. If a variant of weight 0 has
-- visitors, p_value is 0.
--
-- log_evidence is the logarithm of a Bayes factor: the counts under shares from a Dirichlet distribution around the weights
-- (concentration 100), against the counts under the weights (Lindon and Malek, Anytime-Valid Inference for Multinomial Count
-- Data, 2022).
SELECT experiment, visitors, log_evidence,
  if(impossible > 0, 0., least(1., exp(-log_evidence))) AS p_value
FROM (
  SELECT experiment, arraySum(shown) AS visitors, arraySum(weights) AS all_weights, 100 AS concentration,
    arrayCount((n, w) -> w > 0 OR n > 0, shown, weights) AS variants,
    arrayCount((n, w) -> w = 0 AND n > 0, shown, weights) AS impossible,
    lgamma(concentration) - lgamma(concentration + visitors) + arraySum(arrayMap(
      (n, w) -> if(w = 0, 0.,
        lgamma(concentration * w / all_weights + n) - lgamma(concentration * w / all_weights) - n * log(w / all_weights)),
      shown, weights
    )) AS log_evidence
  FROM (
    -- Includes variants without visitors, as 0.
    SELECT experiment, groupArray(weight) AS weights, groupArray(of_visitors) AS shown
    FROM (
      SELECT experiment, variant, max(of_weight) AS weight, max(seen) AS of_visitors
      FROM (
        SELECT experiment, variant, argMax(weight, version) AS of_weight, toUInt64(0) AS seen
        FROM edgesplit.weights
        GROUP BY experiment, variant
        UNION ALL
        SELECT experiment, variant, toUInt32(0) AS of_weight, count() AS seen
        FROM edgesplit.visitors
        GROUP BY experiment, variant
      )
      GROUP BY experiment, variant
    )
    GROUP BY experiment
  )
  WHERE variants > 1 AND all_weights > 0 AND visitors > 0
)
ORDER BY experiment
