-- Conversion rates with their 95 % intervals, and their differences to the baseline (`lift`) with 95 % intervals (Newcombe,
-- Interval estimation for the difference between independent proportions, 1998, method 10). If the interval of the lift
-- excludes 0, chance alone rarely explains the difference. Evaluate it once, at the planned end of the test: if you check
-- daily and stop at the first good result, the interval is not valid.
SELECT experiment, goal, variant, visitors, converted, rate, low, high,
  rate - base_rate AS lift,
  if(variant = base, 0., rate - base_rate - sqrt(pow(rate - low, 2) + pow(base_high - base_rate, 2))) AS lift_low,
  if(variant = base, 0., rate - base_rate + sqrt(pow(high - rate, 2) + pow(base_rate - base_low, 2))) AS lift_high
FROM edgesplit.rates
ALL INNER JOIN (
  SELECT experiment, goal, variant AS base, rate AS base_rate, low AS base_low, high AS base_high
  FROM edgesplit.rates
  ALL INNER JOIN (
    SELECT experiment, variant
    FROM edgesplit.weights
    GROUP BY experiment, variant
    HAVING argMax(baseline, version) = 1
  ) AS baseline USING experiment, variant
) AS base_of USING experiment, goal
ORDER BY experiment, goal, variant
