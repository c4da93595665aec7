// Payloads for GrowthBook and the decisions of its SDK.
import { GrowthBook } from "@growthbook/growthbook";
import { id, TEXTS } from "./random.mjs";

export const format = "growthbook";

// The SDK reports each invalid pattern, at each evaluation.
console.error = () => {};

const NAMES = ["country", "age", "version", "tags", "premium", "company.size", "tags.0", "missing"];
const UNITS = ["country", "missing", "age", "company.size", "premium"];
// JavaScript runs these, and edgesplit does not: one is too large, and one has an octal escape.
const LARGE_PATTERN = `(?:${"[a-z]{200}".repeat(20)}){200}`;
const OCTAL_PATTERN = "\\101";

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
    () => ({ $inGroup: random.pick(["list", "none"]) }), () => ({ $notInGroup: random.pick(["list", "condition"]) }),
    () => ({ $ini: list() }), () => ({ $nini: list() }), () => ({ $alli: list() }), () => ({ $regexi: random.pick(["^DE$", "ä", "[A-Z]{2}"]) }),
    () => ({ $vne: random.pick(TEXTS) }), () => ({ $vgte: random.pick(TEXTS) }), () => ({ $vlt: random.pick(TEXTS) }),
    () => ({ $elemMatch: { [random.pick(["a", "a.b"])]: value(random) } }), () => ({ $elemMatch: { $in: list() } }),
    () => ({ $not: { $eq: value(random) } }), () => value(random),
  ])();
}

function condition(random, depth = 0) {
  const clauses = () => random.list(1, 3, () => condition(random, depth + 1));
  if (depth < 2 && random.chance(0.25)) {
    return random.pick([
      () => ({ $or: clauses() }), () => ({ $and: clauses() }), () => ({ $nor: clauses() }), () => ({ $not: condition(random, depth + 1) }),
      () => ({ $savedGroup: { id: random.pick(["list", "condition", "none"]), ...(random.chance(0.3) && { attributeKey: random.pick(NAMES) }) } }),
    ])();
  }
  return Object.fromEntries(random.list(1, 2, () => [random.pick(NAMES), operator(random)]));
}

function bucketing(random, variations) {
  const made = {};
  if (random.chance(0.5)) made.seed = random.pick(["seed", "s2", "experiment-1"]);
  if (random.chance(0.7)) made.hashVersion = random.pick([1, 2, 2, 3]);
  if (random.chance(0.5)) made.coverage = random.pick([0, 0.1, 0.5, 0.999, 1, null]);
  if (random.chance(0.6)) made.weights = random.split(1000, variations).map((weight) => weight / 1000);
  if (random.chance(0.2)) made.namespace = ["space", random.pick([0, 0.25]), random.pick([0.5, 1])];
  if (random.chance(0.3)) made.hashAttribute = random.pick(UNITS);
  if (random.chance(0.1)) made.fallbackAttribute = "id";
  if (random.chance(0.2)) made.filters = [{ seed: "filter", attribute: random.pick(["id", ...UNITS]), ranges: [[0, random.next()]], hashVersion: random.pick([1, 2]) }];
  if (random.chance(0.2)) {
    const middle = random.next();
    made.ranges = Array.from({ length: variations }, (_, at) => (at === 0 ? [0, middle] : at === 1 ? [middle, 1] : [1, 1]));
  }
  return made;
}

function experiment(random, number) {
  const variations = random.list(2, 4, (at) => `v${at}`);
  const rule = { key: random.chance(0.9) ? `experiment-${number}` : "shared", variations, ...bucketing(random, variations.length) };
  // Rules and redirect tests of one experiment have the same keys.
  if (rule.key !== "shared" && random.chance(0.5)) rule.meta = variations.map((_, at) => ({ key: `key-${at}`, ...(random.chance(0.1) && { passthrough: true }) }));
  return rule;
}

/** A rule of a contextual bandit. */
function bandit(random, number) {
  const { variations, ...made } = experiment(random, number);
  return { ...made, contextualVariations: variations, contextualBanditRef: random.pick(["bandit", "bandit", "none"]) };
}

/** An exposure that was decided elsewhere. */
function track(random) {
  const hashValue = random.pick(["text", 7, 0.5, 1e21]);
  return { experiment: { key: "remote" }, result: { key: "1", variationId: 1, hashAttribute: random.pick(["id", "age"]), hashValue } };
}

function force(random) {
  const made = { force: value(random) };
  if (random.chance(0.4)) Object.assign(made, { coverage: random.pick([0, 0.3, 1, null]), hashAttribute: random.pick(["id", ...UNITS]) });
  if (random.chance(0.1)) made.tracks = random.list(1, 2, () => track(random));
  return made;
}

function rule(random, number) {
  const made = random.pick([experiment, experiment, experiment, bandit, force, force])(random, number);
  if (random.chance(0.5)) made.condition = condition(random);
  if (random.chance(0.15)) made.parentConditions = parents(random, ["feature-0", "feature-1", "unknown"]);
  return made;
}

function parents(random, ids) {
  return [{ id: random.pick(ids), condition: { [random.pick(["value", "value", "value.a"])]: operator(random) }, gate: random.chance(0.5) }];
}

function target(random) {
  const type = random.pick(["simple", "regex"]);
  const pattern = type === "regex" ? random.pick(["^/a", "shop\\.example/[ab]", "(", "\\?q=1"]) : random.pick(["/a", "/a*", "*/b", "shop.example/*", "/a?q=1", "*"]);
  return { include: random.chance(0.8), type, pattern };
}

function redirect(random, number) {
  const count = 2 + random.below(2);
  // Of two that have a visitor the first decides, so a key may be another's or a feature's.
  const made = { key: random.pick([`redirect-${number}`, "shared", "feature-0"]), ...bucketing(random, count), changeId: `c${number}` };
  const url = () => random.pick(["https://shop.example/new", "https://shop.example/a?own=1", "https://other.example/", "https://shop.example/b?q=2#top"]);
  made.variations = Array.from({ length: count }, (_, at) => (at === 0 && random.chance(0.7) ? {} : { urlRedirect: url() }));
  if (!made.variations.some((variation) => variation.urlRedirect)) made.variations[1] = { urlRedirect: url() };
  made.urlPatterns = random.list(0, 3, () => target(random));
  if (random.chance(0.3)) made.condition = condition(random);
  if (random.chance(0.2)) made.parentConditions = parents(random, ["feature-0", "feature-2", "large", "large-child"]);
  if (random.chance(0.5)) made.persistQueryString = random.chance(0.7);
  if (random.chance(0.2)) made.status = random.pick(["draft", "running", "stopped"]);
  if (random.chance(0.1)) made.active = random.chance(0.5);
  if (random.chance(0.1)) made.force = random.below(4);
  if (random.chance(0.1)) made.manual = true;
  if (random.chance(0.05)) made.urlPatterns.push({ include: random.chance(0.5), type: "regex", pattern: random.pick([LARGE_PATTERN, OCTAL_PATTERN]) });
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
  if (random.chance(0.1)) {
    const large = { name: { $regex: random.pick([LARGE_PATTERN, OCTAL_PATTERN]) } };
    features.push(["large", { defaultValue: 1, rules: [{ force: 2, condition: random.pick([large, { $not: large }]) }] }]);
    features.push(["large-child", { defaultValue: 1, rules: [rule(random, 90), { ...force(random), parentConditions: parents(random, ["large"]) }] }]);
    features.push(["large-grandchild", { defaultValue: 1, rules: [{ ...force(random), parentConditions: parents(random, ["large-child"]) }] }]);
  }
  if (random.chance(0.1)) {
    const circle = (to) => ({ defaultValue: 1, rules: [{ force: 2, parentConditions: parents(random, [to]) }] });
    features.push(["circle-a", circle("circle-b")], ["circle-b", circle("circle-a")]);
  }
  const savedGroups = {
    list: random.chance(0.5) ? random.list(0, 4, () => value(random)) : { type: "list", attributeKey: random.pick(NAMES), values: random.list(0, 4, () => value(random)) },
    condition: { type: "condition", condition: condition(random, 2) },
  };
  const contexts = random.list(0, 2, (at) => ({ leafId: at, condition: condition(random), weights: random.split(100, 2 + random.below(3)).map((weight) => weight / 100) }));
  const contextualBandits = { bandit: { banditVersion: 1, contexts } };
  return { features: Object.fromEntries(features), contextualBandits, experiments: random.list(0, 4, (at) => redirect(random, at)), savedGroups };
}

/** The keys of the features that edgesplit disables, and the payload without them: a limit, or a feature with one. */
function split({ features, experiments, ...rest }) {
  const text = (pattern) => JSON.stringify(pattern).slice(1, -1);
  const isLarge = (part) => [LARGE_PATTERN, OCTAL_PATTERN].some((pattern) => JSON.stringify(part).includes(text(pattern)));
  const disabled = new Set();
  const depends = (part) => part.parentConditions?.some(({ id }) => disabled.has(id));
  const isDisabled = ([key, feature]) => !disabled.has(key) && (isLarge(feature) || feature.rules.some(depends));
  for (let found; (found = Object.entries(features).find(isDisabled)); ) disabled.add(found[0]);
  const enabled = Object.entries(features).filter(([key]) => !disabled.has(key));
  const tests = experiments.filter((test) => !isLarge(test) && !depends(test));
  return { disabled, payload: { ...rest, features: Object.fromEntries(enabled), experiments: tests } };
}

export function visitor(random) {
  const attributes = {};
  if (random.chance(0.8)) attributes.country = random.pick(TEXTS);
  if (random.chance(0.8)) attributes.age = value(random);
  if (random.chance(0.8)) attributes.version = random.pick(TEXTS);
  if (random.chance(0.6)) attributes.tags = random.list(0, 4, () => (random.chance(0.2) ? { a: random.pick([value(random), { b: value(random) }]) } : value(random)));
  if (random.chance(0.6)) attributes.premium = value(random);
  if (random.chance(0.6)) attributes.company = { size: value(random) };
  if (random.chance(0.3)) attributes["company.size"] = value(random);
  const path = random.pick(["/", "/a", "/a/", "/a?q=1", "/ab?q=1&x=y", "/b", "/new"]);
  return { id: id(random), attributes, host: random.pick(["shop.example", "other.example"]), path };
}

/** The visitor as the program that prints reports takes them. */
export function reported({ id, attributes, host, path }) {
  return { id, attributes: { id, ...attributes, url: `https://${host}${path}` } };
}

/** Events in an order of their own: the SDK runs redirect tests first. */
function sorted(events) {
  return events.map(({ experimentId, variationId, hashAttribute, hashValue }) => JSON.stringify([experimentId, variationId, hashAttribute, hashValue])).sort();
}

export function sdk(payload) {
  const { disabled, payload: enabled } = split(payload);
  const count = Object.keys(payload.features).length + payload.experiments.filter((test) => !test.manual).length;
  return (visitor) => {
    const events = [];
    const eventLogger = (name, properties) => name === "Experiment Viewed" && events.push(properties);
    const { url, ...attributes } = reported(visitor).attributes;
    const client = new GrowthBook({ attributes, url, eventLogger, log: () => {} }).initSync({ payload: enabled });
    const decisions = Object.keys(payload.features).map((key) => {
      if (disabled.has(key)) return [key, { kind: "disabled", value: null, variant: null, disabled: true }];
      const { value, source, experimentResult } = client.evalFeature(key);
      const isIn = source === "experiment" && experimentResult.inExperiment;
      return [key, { kind: source, value, variant: isIn ? experimentResult.key : null, disabled: false }];
    });
    const redirect = client.getRedirectUrl() || null;
    client.destroy();
    return { decisions: Object.fromEntries(decisions), reports: { events: sorted(events), redirect }, count };
  };
}

export function comparable(decision) {
  const variant = decision?.in_experiment ? decision.variant : null;
  return { value: decision?.value, variant, disabled: decision?.reason === "disabled" };
}

export function comparableReports({ events, redirect }) {
  return { events: sorted(events.map((event) => event.properties_json)), redirect };
}

export function part(payload, key) {
  return payload.features[key] ?? payload;
}
