-- Sample ratio mismatch: Pearson's chi-squared test of visitors per variant against edgesplit.weights, per experiment.
-- p_value is the probability that chance alone gives a split at least this far off. Below 0.001, do not trust the results
-- of the experiment until you know the cause. If a variant of weight 0 has visitors, p_value is 0.
--
-- Upper tail for k degrees of freedom, x half the statistic (Abramowitz and Stegun, Handbook of Mathematical Functions, 26.4.4-5):
--   k even: exp(-x) * sum of x^i / i!                 for i from 0 to k/2 - 1
--   k odd:  erfc(sqrt(x)) + exp(-x) * sum of x^(i-1/2) / gamma(i+1/2)   for i from 1 to (k-1)/2
SELECT experiment, visitors, statistic, degrees AS degrees_of_freedom,
  multiIf(
    impossible > 0, 0.,
    degrees % 2 = 0,
    exp(-x) * arraySum(arrayMap(i -> pow(x, i) / tgamma(i + 1), range(toUInt64(intDiv(degrees, 2))))),
    erfc(sqrt(x)) + exp(-x) * arraySum(arrayMap(i -> pow(x, i + 0.5) / tgamma(i + 1.5), range(toUInt64(intDiv(degrees, 2)))))
  ) AS p_value
FROM (
  SELECT experiment, arraySum(shown) AS visitors, arraySum(weights) AS all_weights,
    arraySum(arrayMap(
      (n, w) -> if(w = 0, 0., pow(n - visitors * w / all_weights, 2) / (visitors * w / all_weights)), shown, weights
    )) AS statistic,
    toInt64(arrayCount(w -> w > 0, weights)) - 1 AS degrees,
    arrayCount((n, w) -> w = 0 AND n > 0, shown, weights) AS impossible,
    statistic / 2 AS x
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
  WHERE (degrees > 0 OR impossible > 0) AND all_weights > 0 AND visitors > 0
)
ORDER BY experiment
