-- Conversion rates with their 95 % intervals, and their differences to the baseline (`lift`) with two intervals of 95 %. If
-- an interval of the lift excludes 0, chance alone rarely explains the difference.
--
-- lift_low and lift_high (Newcombe, Interval estimation for the difference between independent proportions, 1998, method 10)
-- are valid at one look, at the planned end of the test. always_low and always_high are the dashboard's interval and valid at
-- every look, so you may stop at the first good result (Waudby-Smith et al., Time-uniform central limit theory and asymptotic
-- confidence sequences, 2024). They are wider, and absent below 100 visitors of a side.
SELECT experiment, goal, variant, visitors, converted, rate, low, high, lift, lift_low, lift_high,
  if(is_base, 0., if(is_small, nan, lift - half)) AS always_low,
  if(is_base, 0., if(is_small, nan, lift + half)) AS always_high
FROM (
  SELECT experiment, goal, variant, visitors, converted, rate, low, high, rate - base_rate AS lift,
    variant = base AS is_base, least(visitors, base_visitors) < 100 AS is_small,
    if(is_base, 0., lift - sqrt(pow(rate - low, 2) + pow(base_high - base_rate, 2))) AS lift_low,
    if(is_base, 0., lift + sqrt(pow(high - rate, 2) + pow(base_rate - base_low, 2))) AS lift_high,
    -- The variance of one visitor's success: of the variant, of the baseline, and at least of both together.
    (converted + 1) / (visitors + 2) AS p, (base_converted + 1) / (base_visitors + 2) AS base_p,
    (converted + base_converted + 1) / (visitors + base_visitors + 2) AS both_p,
    greatest(p * (1 - p), both_p * (1 - both_p)) AS variance,
    greatest(base_p * (1 - base_p), both_p * (1 - both_p)) AS base_variance,
    -2 * log(0.05) AS log_alpha,
    4 / (1 / visitors + 1 / base_visitors) * (log_alpha + log(log_alpha + 1)) / 5000 AS progress,
    sqrt(variance / visitors + base_variance / base_visitors) * sqrt((1 + 1 / progress) * (log(progress + 1) + log_alpha)) AS half
  FROM edgesplit.rates
  ALL INNER JOIN (
    SELECT experiment, goal, variant AS base, visitors AS base_visitors, converted AS base_converted, rate AS base_rate,
      low AS base_low, high AS base_high
    FROM edgesplit.rates
    ALL INNER JOIN (
      SELECT experiment, variant
      FROM edgesplit.weights
      GROUP BY experiment, variant
      HAVING argMax(baseline, version) = 1
    ) AS baseline USING experiment, variant
  ) AS base_of USING experiment, goal
)
ORDER BY experiment, goal, variant
