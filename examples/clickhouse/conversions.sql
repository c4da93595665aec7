-- Conversion rates with their 95 % intervals, and how far each is from the baseline's (`lift`), with its 95 % interval
-- (Newcombe, Interval estimation for the difference between independent proportions, 1998, method 10). An interval of the
-- lift without 0 is a difference that chance alone rarely makes. Look at it once, when the test ends as planned: looked at
-- every day until it pleases, it means nothing.
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
