// Datafiles for Optimizely and the decisions of its SDK.
import { createInstance, createStaticProjectConfigManager, OptimizelyDecideOption } from "@optimizely/optimizely-sdk";
import { id, TEXTS } from "./random.mjs";

export const format = "optimizely";

const NAMES = ["country", "age", "version", "premium"];
const VARIATIONS = ["control", "green", "blue"];

function value(random) {
  return random.pick([random.pick(TEXTS), random.below(100), random.next() * 100, true, false]);
}

function leaf(random) {
  const match = random.pick(["exact", "exists", "substring", "gt", "ge", "lt", "le", "semver_eq", "semver_gt", "semver_ge", "semver_lt", "semver_le"]);
  const made = { type: "custom_attribute", name: random.pick(NAMES), match };
  if (match !== "exists") made.value = match.startsWith("semver") ? random.pick(["2.10.0", "2", "v1.2.3-rc.1", "1.0"]) : value(random);
  return made;
}

function tree(random, depth = 0) {
  if (depth === 2 || random.chance(0.4)) return leaf(random);
  const operator = random.pick(["and", "or", "not"]);
  return [operator, ...random.list(1, operator === "not" ? 1 : 3, () => tree(random, depth + 1))];
}

function experiment(random, number, layer) {
  const count = 1 + random.below(VARIATIONS.length);
  const variations = VARIATIONS.slice(0, count).map((key, at) => ({
    id: `${number}${at}`, key, featureEnabled: random.chance(0.8), variables: [{ id: "v1", value: `${random.below(9)}` }],
  }));
  let end = 0;
  const trafficAllocation = variations.map((variation) => {
    end += random.below(10_000 - end + 1);
    return { entityId: random.chance(0.9) ? variation.id : "", endOfRange: end };
  });
  return {
    id: `${number}`, key: `experiment_${number}`, status: random.chance(0.9) ? "Running" : "Paused", layerId: layer,
    variations, trafficAllocation, forcedVariations: random.chance(0.2) ? { "user-1": variations[0].key } : {},
    audienceIds: [], audienceConditions: random.chance(0.5) ? [random.pick(["and", "or"]), random.pick(["a1", "a2", "a3"])] : [],
  };
}

export function payload(random) {
  const audiences = ["a1", "a2", "a3"].map((id) => ({ id, name: id, conditions: tree(random) }));
  const experiments = random.list(1, 4, (at) => experiment(random, 1_000 + at, `layer_${at}`));
  const grouped = random.list(0, 2, (at) => experiment(random, 2_000 + at, "group"));
  const rollouts = random.list(1, 3, (at) => ({
    id: `rollout_${at}`, experiments: random.list(1, 3, (rule) => experiment(random, 3_000 + at * 100 + rule, `rollout_${at}`)),
  }));
  const unused = [...experiments, ...grouped];
  const featureFlags = random.list(2, 4, (at) => ({
    id: `${4_000 + at}`, key: `flag_${at}`, rolloutId: random.chance(0.7) ? random.pick(rollouts).id : "",
    experimentIds: unused.splice(0, random.below(3)).map((made) => made.id),
    variables: [{ id: "v1", key: "depth", type: "integer", defaultValue: "10" }],
  }));
  const shares = random.split(10_000, grouped.length + 1);
  const groups = grouped.length === 0 ? [] : [{
    id: "7000", policy: random.pick(["random", "random", "overlapping"]), experiments: grouped,
    trafficAllocation: grouped.map((made, at) => ({ entityId: made.id, endOfRange: shares.slice(0, at + 1).reduce((a, b) => a + b) })),
  }];
  return {
    version: "4", accountId: "1", projectId: "2", revision: "3", anonymizeIP: true, botFiltering: false, sdkKey: "key",
    environmentKey: "test", attributes: NAMES.map((key, at) => ({ id: `${5_000 + at}`, key })), events: [], integrations: [],
    audiences: audiences.map(({ conditions, ...rest }) => ({ ...rest, conditions: JSON.stringify(["or", { type: "custom_attribute", name: "unused", match: "exact", value: "x" }]) })),
    typedAudiences: audiences, experiments, groups, rollouts, featureFlags, variables: [],
  };
}

export function visitor(random) {
  const attributes = {};
  for (const name of NAMES) if (random.chance(0.7)) attributes[name] = value(random);
  return { id: random.chance(0.1) ? "user-1" : id(random), attributes };
}

export function sdk(datafile) {
  const client = createInstance({ projectConfigManager: createStaticProjectConfigManager({ datafile: JSON.stringify(datafile) }) });
  if (!client) throw new Error("the SDK refuses the datafile");
  return (visitor) => {
    const user = client.createUserContext(visitor.id, visitor.attributes);
    const decisions = user.decideAll([OptimizelyDecideOption.DISABLE_DECISION_EVENT]);
    return Object.fromEntries(Object.entries(decisions).map(([key, { variationKey, ruleKey, variables }]) => {
      const kind = variationKey === null ? "none" : ruleKey?.startsWith("experiment_3") ? "rollout" : "experiment";
      // Without a variation, edgesplit leaves the defaults of variables to the origin.
      return [key, { kind, variant: variationKey, experiment: variationKey === null ? null : ruleKey, value: variationKey === null ? null : variables }];
    }));
  };
}

export function comparable(decision) {
  const variant = decision?.variant ?? null;
  return { variant, experiment: variant === null ? null : decision.experiment, value: variant === null ? null : decision.value };
}

export function part(datafile, key) {
  const flag = datafile.featureFlags.find((flag) => flag.key === key);
  const rollout = datafile.rollouts.find(({ id }) => id === flag.rolloutId);
  const all = [...datafile.experiments, ...datafile.groups.flatMap((group) => group.experiments)];
  return { flag, experiments: all.filter(({ id }) => flag.experimentIds.includes(id)), groups: datafile.groups, rollout, audiences: datafile.typedAudiences };
}
