# The weights of a native config as rows of edgesplit.weights:
#   jq -c -f weights.jq experiments.json
(now | floor) as $version
| .experiments[] | .key as $experiment
| .variants[] | {$experiment, variant: .key, weight, baseline: (if .baseline then 1 else 0 end), $version}
