// Payloads for GrowthBook and the decisions of its SDK.
import { GrowthBook } from "@growthbook/growthbook";
import { id, TEXTS } from "./random.mjs";

export const format = "growthbook";

const NAMES = ["country", "age", "version", "tags", "premium", "company.size", "missing"];

function value(random) {
  return random.pick([random.pick(TEXTS), random.below(100), random.next() * 100, true, false, null]);
}

function operator(random) {
  const list = () => random.list(0, 4, () => value(random));
  return random.pick([
    () => ({ $eq: value(random) }), () => ({ $ne: value(random) }), () => ({ $in: list() }), () => ({ $nin: list() }),
    () => ({ $gt: value(random) }), () => ({ $gte: value(random) }), () => ({ $lt: value(random) }),
    () => ({ $lte: value(random) }), () => ({ $exists: random.chance(0.5) }), () => ({ $regex: random.pick(["^a", "\\d+", "[A-Z]{2}", "😀"]) }),
    () => ({ $vgt: random.pick(TEXTS) }), () => ({ $vlte: random.pick(TEXTS) }), () => ({ $veq: random.pick(TEXTS) }),
    () => ({ $size: random.below(4) }), () => ({ $all: list() }), () => ({ $elemMatch: { $eq: value(random) } }),
    () => ({ $type: random.pick(["string", "number", "boolean", "array", "object", "null", "undefined"]) }),
    () => ({ $not: { $eq: value(random) } }), () => value(random),
  ])();
}

function condition(random, depth = 0) {
  const clauses = () => random.list(1, 3, () => condition(random, depth + 1));
  if (depth < 2 && random.chance(0.25)) {
    return random.pick([() => ({ $or: clauses() }), () => ({ $and: clauses() }), () => ({ $nor: clauses() }), () => ({ $not: condition(random, depth + 1) })])();
  }
  return Object.fromEntries(random.list(1, 2, () => [random.pick(NAMES), operator(random)]));
}

function experiment(random, number) {
  const variations = random.list(2, 4, (at) => `v${at}`);
  const rule = { key: `experiment-${number}`, variations };
  if (random.chance(0.5)) rule.seed = random.pick(["seed", "s2", `experiment-${number}`]);
  if (random.chance(0.7)) rule.hashVersion = random.pick([1, 2]);
  if (random.chance(0.5)) rule.coverage = random.pick([0, 0.1, 0.5, 0.999, 1]);
  if (random.chance(0.6)) rule.weights = random.split(1000, variations.length).map((weight) => weight / 1000);
  if (random.chance(0.5)) rule.meta = variations.map((_, at) => ({ key: `key-${at}` }));
  if (random.chance(0.2)) rule.namespace = ["space", random.pick([0, 0.25]), random.pick([0.5, 1])];
  // Not `company.size`: the SDK looks for an attribute of just that name, and edgesplit also for a path.
  if (random.chance(0.2)) rule.hashAttribute = random.pick(["country", "missing", "age"]);
  if (random.chance(0.1)) rule.fallbackAttribute = "id";
  if (random.chance(0.2)) rule.filters = [{ seed: "filter", ranges: [[0, random.next()]], hashVersion: random.pick([1, 2]) }];
  if (random.chance(0.2)) {
    const middle = random.next();
    rule.ranges = variations.map((_, at) => (at === 0 ? [0, middle] : at === 1 ? [middle, 1] : [1, 1]));
  }
  return rule;
}

function rule(random, number) {
  const made = random.chance(0.6)
    ? experiment(random, number)
    : { force: value(random), ...(random.chance(0.4) && { coverage: random.pick([0, 0.3, 1]), hashAttribute: "id" }) };
  if (random.chance(0.5)) made.condition = condition(random);
  if (random.chance(0.15)) {
    made.parentConditions = [{ id: `feature-${random.below(2)}`, condition: { value: operator(random) }, gate: random.chance(0.5) }];
  }
  return made;
}

export function payload(random) {
  let number = 0;
  // Later features may depend on the first two, which depend on none.
  const features = random.list(3, 5, (at) => {
    const rules = random.list(0, 3, () => rule(random, (number += 1)));
    if (at < 2) rules.forEach((made) => delete made.parentConditions);
    return [`feature-${at}`, { defaultValue: value(random), rules }];
  });
  return { features: Object.fromEntries(features) };
}

export function visitor(random) {
  const attributes = {};
  if (random.chance(0.8)) attributes.country = random.pick(TEXTS);
  if (random.chance(0.8)) attributes.age = value(random);
  if (random.chance(0.8)) attributes.version = random.pick(TEXTS);
  if (random.chance(0.6)) attributes.tags = random.list(0, 4, () => value(random));
  if (random.chance(0.6)) attributes.premium = value(random);
  if (random.chance(0.6)) attributes.company = { size: value(random) };
  return { id: id(random), attributes };
}

export function sdk(payload) {
  return (visitor) => {
    const client = new GrowthBook({ attributes: { id: visitor.id, ...visitor.attributes } }).initSync({ payload });
    const decisions = Object.keys(payload.features).map((key) => {
      const { value, source, experimentResult } = client.evalFeature(key);
      const isIn = source === "experiment" && experimentResult.inExperiment;
      return [key, { kind: source, value, variant: isIn ? experimentResult.key : null }];
    });
    client.destroy();
    return Object.fromEntries(decisions);
  };
}

export function comparable(decision) {
  return { value: decision?.value, variant: decision?.in_experiment ? decision.variant : null };
}

export function part(payload, key) {
  return payload.features[key];
}
