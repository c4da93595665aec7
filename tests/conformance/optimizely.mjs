// Datafiles for Optimizely and the decisions of its SDK.
import { createForwardingEventProcessor, createInstance, createStaticProjectConfigManager } from "@optimizely/optimizely-sdk";
import { id, TEXTS } from "./random.mjs";

export const format = "optimizely";

const NAMES = ["country", "age", "version", "premium", "company.size"];
const VARIATIONS = ["control", "green", "blue"];
const VERSIONS = ["2.10.0", "2", "v1.2.3-rc.1", "1.0", "2.10.0-1", "2.10.0-beta", "2.10.0-2beta", "2.10-+1", "2.10.0-", "2.10.0+x", "2.10.0-😀", "2.10.0-～", "9007199254740993", "9007199254740992"];

function value(random) {
  return random.pick([random.pick(TEXTS), random.below(100), random.next() * 100, 2 ** 53, 2 ** 53 + 2, true, false]);
}

function leaf(random) {
  const match = random.pick(["exact", "exists", "substring", "gt", "ge", "lt", "le", "semver_eq", "semver_gt", "semver_ge", "semver_lt", "semver_le", "unknown", "qualified"]);
  const made = { type: random.chance(0.95) ? "custom_attribute" : random.pick(["third_party_dimension", "other"]), name: random.pick(NAMES), match };
  if (match !== "exists") made.value = match.startsWith("semver") ? random.pick(VERSIONS) : value(random);
  if (match === "exact" && random.chance(0.2)) delete made.match;
  return made;
}

function tree(random, depth = 0) {
  if (depth === 2 || random.chance(0.4)) return leaf(random);
  const operator = random.pick(["and", "or", "not"]);
  return [operator, ...random.list(1, operator === "not" ? 1 : 3, () => tree(random, depth + 1))];
}

function targeting(random) {
  if (random.chance(0.5)) return { audienceIds: [] };
  const audience = () => random.pick(["a1", "a2", "a3", "a3", "none"]);
  if (random.chance(0.3)) return { audienceIds: [audience()] };
  return { audienceIds: [], audienceConditions: [random.pick(["and", "or", "not"]), audience()] };
}

function rule(random, number, layer) {
  const count = 1 + random.below(VARIATIONS.length);
  const variables = () => random.list(0, 1, () => ({ id: "v1", value: random.pick([`${random.below(9)}`, "4.5", "12px", "x"]) }));
  const variations = VARIATIONS.slice(0, count).map((key, at) => ({ id: `${number}${at}`, key, featureEnabled: random.chance(0.8), variables: variables() }));
  let end = 0;
  const trafficAllocation = variations.map((variation) => {
    end += random.below(10_000 - end + 1);
    return { entityId: random.chance(0.9) ? variation.id : "", endOfRange: end };
  });
  return { id: `${number}`, key: `experiment_${number}`, status: random.chance(0.9) ? "Running" : "Paused", layerId: layer, variations, trafficAllocation, ...targeting(random) };
}

function experiment(random, number, layer) {
  const made = { ...rule(random, number, layer), forcedVariations: random.chance(0.2) ? { "user-1": random.pick(VARIATIONS) } : {} };
  if (random.chance(0.1)) made.cmab = { attributeIds: [], trafficAllocation: random.pick([0, 5_000, 10_000]) };
  if (random.chance(0.15)) made.type = "fr";
  return made;
}

function holdout(random, number) {
  const { layerId, ...made } = rule(random, number, "");
  if (random.chance(0.4)) made.excludeTargetedDeliveries = random.chance(0.7);
  if (random.chance(0.2)) made.exclude_targeted_deliveries = true;
  if (random.chance(0.3)) made.variations.forEach((variation) => (variation.id = `$opt_dummy_${variation.id}`));
  // Most visitors are not held out.
  const shares = random.chance(0.3) ? 1 : 0.2;
  made.trafficAllocation = made.variations.map(({ id }, at) => ({ entityId: id, endOfRange: Math.floor(((at + 1) / made.variations.length) * shares * 10_000) }));
  return made;
}

export function payload(random) {
  const audiences = ["a1", "a2", "a3"].map((id) => ({ id, name: id, conditions: tree(random) }));
  const experiments = random.list(1, 4, (at) => experiment(random, 1_000 + at, `layer_${at}`));
  const grouped = random.list(0, 2, (at) => experiment(random, 2_000 + at, "group"));
  const rollouts = random.list(1, 3, (at) => ({
    id: `rollout_${at}`, experiments: random.list(0, 3, (number) => ({ ...rule(random, 3_000 + at * 100 + number, `rollout_${at}`), forcedVariations: {} })),
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
  const rules = [...experiments, ...grouped, ...rollouts.flatMap((rollout) => rollout.experiments)].map(({ id }) => id);
  const localHoldouts = random.list(0, 2, (at) => ({ ...holdout(random, 6_100 + at), includedRules: random.list(0, 3, () => random.pick(rules)) }));
  const datafile = {
    version: "4", accountId: "1", projectId: "2", revision: "3", anonymizeIP: random.chance(0.5), sdkKey: "key", environmentKey: "test",
    attributes: NAMES.map((key, at) => ({ id: `${5_000 + at}`, key })), events: [], integrations: [],
    audiences: audiences.map(({ conditions, ...rest }) => ({ ...rest, conditions: JSON.stringify(["or", { type: "custom_attribute", name: "unused", match: "exact", value: "x" }]) })),
    typedAudiences: audiences, experiments, groups, rollouts, featureFlags, variables: [],
    holdouts: random.list(0, 2, (at) => holdout(random, 6_000 + at)).filter(() => random.chance(0.4)), localHoldouts,
  };
  if (random.chance(0.7)) datafile.sendFlagDecisions = random.chance(0.7);
  if (random.chance(0.7)) datafile.botFiltering = random.chance(0.5);
  if (random.chance(0.5)) datafile.region = random.pick(["EU", "US", "eu", ""]);
  return datafile;
}

export function visitor(random) {
  const attributes = {};
  for (const name of NAMES) if (random.chance(0.7)) attributes[name] = random.chance(0.95) ? value(random) : null;
  if (random.chance(0.5)) attributes.version = random.pick(VERSIONS);
  if (random.chance(0.3)) attributes.company = { size: value(random) };
  if (random.chance(0.2)) attributes.$opt_bucketing_id = random.pick([id(random), id(random), 5, true]);
  if (random.chance(0.2)) attributes.$opt_user_agent = "Mozilla/5.0";
  if (random.chance(0.2)) attributes.$opt_other = value(random);
  return { id: random.chance(0.1) ? "user-1" : id(random), attributes };
}

/** The visitor as the program that prints reports takes them. */
export function reported(visitor) {
  return visitor;
}

/** An event without the parts that differ each time, its attributes in an order of their own. */
function comparableEvent(visitor) {
  const { snapshots, attributes, visitor_id } = JSON.parse(JSON.stringify(visitor));
  for (const event of snapshots[0].events) for (const name of ["uuid", "timestamp"]) delete event[name];
  return { visitor_id, attributes: attributes.sort((a, b) => (a.key < b.key ? -1 : 1)), snapshots };
}

export function sdk(datafile) {
  const sent = [];
  const eventDispatcher = { dispatchEvent: async (event) => (sent.push(event), {}) };
  const eventProcessor = createForwardingEventProcessor(eventDispatcher);
  const client = createInstance({ projectConfigManager: createStaticProjectConfigManager({ datafile: JSON.stringify(datafile) }), eventProcessor });
  if (!client) throw new Error("the SDK refuses the datafile");
  const used = datafile.featureFlags.flatMap((flag) => flag.experimentIds);
  const all = [...datafile.experiments, ...datafile.groups.flatMap((group) => group.experiments)];
  const unused = all.filter((made) => !used.includes(made.id)).map(({ key }) => key);
  return (visitor) => {
    sent.length = 0;
    const flags = Object.entries(client.createUserContext(visitor.id, visitor.attributes).decideAll());
    const decisions = flags.map(([key, { variationKey, ruleKey, variables }]) => {
      const kind = variationKey === null ? "none" : ruleKey.startsWith("experiment_3") ? "rollout" : ruleKey.startsWith("experiment_6") ? "holdout" : "experiment";
      return [key, { kind, variant: variationKey, experiment: variationKey === null ? null : ruleKey, value: variables }];
    });
    for (const key of unused) {
      const variant = client.activate(key, visitor.id, visitor.attributes);
      decisions.push([key, { kind: variant === null ? "none" : "without flag", variant, experiment: null, value: null }]);
    }
    const host = datafile.region === "EU" ? "eu.logx.optimizely.com" : "logx.optimizely.com";
    if (sent.some(({ url }) => new URL(url).host !== host)) throw new Error("the SDK sends events to another host");
    const events = sent.flatMap(({ params }) => params.visitors).map(comparableEvent);
    return { decisions: Object.fromEntries(decisions), reports: { events, host }, count: decisions.length };
  };
}

export function comparable(decision) {
  return { variant: decision?.variant, experiment: decision?.experiment, value: decision?.value };
}

export function comparableReports({ events, host }) {
  return { events: events.map(comparableEvent), host };
}

export function part(datafile, key) {
  const flag = datafile.featureFlags.find((flag) => flag.key === key);
  if (!flag) return datafile;
  const rollout = datafile.rollouts.find(({ id }) => id === flag.rolloutId);
  const all = [...datafile.experiments, ...datafile.groups.flatMap((group) => group.experiments)];
  const { groups, holdouts, localHoldouts, typedAudiences } = datafile;
  return { flag, experiments: all.filter(({ id }) => flag.experimentIds.includes(id)), groups, rollout, holdouts, localHoldouts, audiences: typedAudiences };
}
