// Random flag definitions and contexts, decided by flagd's core for JavaScript. Its hash reads UTF-16 units where others read
// UTF-8, so ids and keys are ASCII here. docs/flagd.md and the comments below name the other differences that are left out.
import { FlagdCore } from "@openfeature/flagd-core";

export const format = "flagd";

const VERSIONS = ["1.2.3", "v2.0.0", "2.0.0-rc.1", "1.2", "3", "1.2.3+b", "x", "2.0.0.0"];
const TEXTS = ["a", "DE", "de", "10", "abc", "a b", "true"];
const silent = { error() {}, warn() {}, info() {}, debug() {} };

/** An expression for a number. */
function number(random, depth) {
  const operator = depth > 0 ? random.pick(["+", "-", "*", "min", "max", "%", "/", "var", "value"]) : random.pick(["var", "value"]);
  switch (operator) {
    case "var": return { var: [random.pick(["age", "score", "deep.level"]), random.below(50)] };
    case "value": return random.pick([0, 1, -3, 2.5, 18, 65]);
    case "%": case "/": return { [operator]: [number(random, depth - 1), random.pick([2, 3, 7])] };
    default: return { [operator]: random.list(1, 3, () => number(random, depth - 1)) };
  }
}

/** An expression for a text. */
function text(random, depth) {
  switch (depth > 0 ? random.pick(["var", "value", "cat", "substr"]) : random.pick(["var", "value"])) {
    case "var": return { var: random.pick(["country", "email", "none", "targetingKey", "$flagd.flagKey"]) };
    case "value": return random.pick(TEXTS);
    // Numbers with a default in a text that is compared make the SDK's compiled rules fail.
    case "cat": return { cat: random.list(2, 3, () => text(random, depth - 1)) };
    default: return { substr: [{ var: ["email", "me@example.com"] }, random.pick([0, 2, -4]), random.pick([1, 3, -2])] };
  }
}

/** An expression for a boolean. */
function condition(random, depth) {
  const list = { var: "deep.tags" };
  switch (depth > 0 ? random.below(14) : random.below(8)) {
    case 0: return { [random.pick(["<", "<=", ">", ">="])]: random.list(2, 3, () => number(random, depth - 1)) };
    case 1: return { [random.pick(["==", "!=", "===", "!=="])]: [number(random, depth - 1), number(random, depth - 1)] };
    case 2: return { [random.pick(["==", "!=", "===", "!==", "<", ">"])]: [text(random, depth - 1), text(random, depth - 1)] };
    case 3: return { [random.pick(["starts_with", "ends_with"])]: [text(random, depth - 1), random.pick(TEXTS)] };
    case 4: return { sem_ver: [{ var: "version" }, random.pick(["=", "!=", "<", "<=", ">", ">=", "^", "~", "?"]), random.pick(VERSIONS)] };
    case 5: return { in: [{ var: "country" }, random.list(0, 3, () => random.pick(TEXTS))] };
    case 6: return { in: [random.pick(TEXTS), { var: ["email", ""] }] };
    case 7: return { var: random.pick(["premium", "none", "age", "country"]) };
    case 8: return { [random.pick(["and", "or"])]: random.list(1, 3, () => condition(random, depth - 1)) };
    case 9: return { [random.pick(["!", "!!"])]: [condition(random, depth - 1)] };
    case 10: return { missing: random.list(1, 2, () => random.pick(["age", "none", "deep.level", "country"])) };
    case 11: return { some: [list, { "==": [{ var: "" }, random.pick(["beta", "vip"])] }] };
    case 12: return { "==": [{ reduce: [{ map: [{ filter: [list, { "!=": [{ var: "" }, "vip"] }] }, 1] }, { "+": [{ var: "accumulator" }, { var: "current" }] }, 0] }, random.below(3)] };
    default: return { "$ref": random.pick(["one", "two"]) };
  }
}

function fractional(random, names) {
  const shares = random.list(1, 3, () => (random.chance(0.2) ? [random.pick(names)] : [random.pick(names), random.pick([0, 1, 25, 50, -5, 100000])]));
  return { fractional: random.chance(0.5) ? shares : [{ cat: [{ var: "$flagd.flagKey" }, { var: "targetingKey" }] }, ...shares] };
}

function variant(random, names, depth) {
  if (depth > 0 && random.chance(0.6)) {
    return { if: [condition(random, 3), variant(random, names, depth - 1), variant(random, names, depth - 1)] };
  }
  return random.chance(0.6) ? fractional(random, names) : random.pick([...names, null, "gone"]);
}

export function payload(random) {
  const flag = (at) => {
    const variants = random.pick([{ on: true, off: false }, { a: 1, b: 2.5, c: -3 }, { x: "x", y: "", z: { n: [1, null] } }]);
    const names = Object.keys(variants);
    const made = { state: random.chance(0.05) ? "DISABLED" : "ENABLED", variants };
    if (random.chance(0.9)) made.defaultVariant = random.pick(names);
    // Constants are no targeting.
    if (random.chance(0.9)) made.targeting = { if: [condition(random, 3), variant(random, names, 2), variant(random, names, 2)] };
    return [`flag-${at}`, made];
  };
  const evaluators = { one: { "==": [{ var: "country" }, "DE"] }, two: { ">": [{ var: ["age", 0] }, 18] } };
  return { $evaluators: evaluators, flags: Object.fromEntries(random.list(2, 5, flag)) };
}

export function visitor(random) {
  const attributes = {};
  const add = (name, values) => random.chance(0.7) && (attributes[name] = random.pick(values));
  add("country", TEXTS);
  add("email", ["me@example.com", "abc", "DE@a b"]);
  add("version", VERSIONS);
  add("age", [0, 17, 18, 65, 30.5]);
  add("score", [-1, 0, 0.5, 100]);
  add("premium", [true, false]);
  attributes.deep = { level: random.below(5), tags: random.list(0, 3, () => random.pick(["beta", "vip", "new"])) };
  return random.chance(0.9) ? { id: `user-${random.below(100_000)}`, attributes } : { attributes };
}

export function sdk(definitions) {
  const core = new FlagdCore(undefined, silent);
  core.setConfigurations(JSON.stringify(definitions));
  return ({ id, attributes }) => {
    const context = id === undefined ? attributes : { ...attributes, targetingKey: id };
    const decisions = [...core.getFlags()].map(([key, flag]) => {
      if (flag.state === "DISABLED") return [key, { kind: "disabled", variant: null, value: null, reason: "disabled" }];
      const { value = null, variant = null, reason } = flag.evaluate(context, silent);
      const served = value === null ? null : variant;
      return [key, { kind: reason, variant: served, value, reason: reason.toLowerCase() }];
    });
    return { decisions: Object.fromEntries(decisions), reports: { events: [] }, count: decisions.length };
  };
}

export function comparable(decision) {
  return { variant: decision?.variant, value: decision?.value, reason: decision?.reason };
}

export function part({ flags, $evaluators }, key) {
  return { flag: flags[key], $evaluators };
}
