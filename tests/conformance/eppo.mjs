// Random payloads of Eppo's server, decided by the evaluator of its SDKs for JavaScript. The generator leaves out differences
// between the SDKs: booleans as numbers, builds of versions, texts with white space or other bases as numbers, patterns that
// only one engine knows, and times of the present.
import { createRequire } from "node:module";
import { id, TEXTS } from "./random.mjs";

const require = createRequire(import.meta.url);
// The package exports the client alone, which asks for the type of each flag and logs by itself.
const entry = require.resolve("@eppo/js-client-sdk-common");
const { Evaluator } = require(entry.replace(/index\.js$/, "evaluator.js"));

export const format = "eppo";

const VERSIONS = ["0.9.9", "1.2.3", "2.0.0-beta.2", "2.0.0-beta.11", "2.0.0", "10.0.0"];
const NUMBERS = [0, 1, 17, 18, 18.5, 65, -3];
const VALUES = {
  STRING: ["", "text", "größer"], INTEGER: [0, 5, -7], NUMERIC: [0.5, 3.1415926, 2], BOOLEAN: [true, false],
  JSON: ["{}", '{"a":[1,null]}', '{"ü":"x"}'],
};

function condition(random) {
  const order = random.pick(["GTE", "GT", "LTE", "LT"]);
  switch (random.below(7)) {
    case 0: return { attribute: random.pick(["age", "none"]), operator: order, value: random.pick([...NUMBERS, ...NUMBERS.map(String)]) };
    case 1: return { attribute: "version", operator: order, value: random.pick(VERSIONS) };
    case 2: return { attribute: random.pick(["country", "age", "premium", "id"]), operator: random.pick(["ONE_OF", "NOT_ONE_OF"]), value: random.list(0, 3, () => random.pick([...TEXTS, "18", "18.5", "true", "user-1"])) };
    case 3: return { attribute: random.pick(["country", "age", "id"]), operator: random.pick(["MATCHES", "NOT_MATCHES"]), value: random.pick(["^D", "8", "E$", "^(DE|ä)$", "[0-9]{2}", "\\.5", "user-\\d*5", "."]) };
    case 4: return { attribute: random.pick(["country", "none", "age"]), operator: "IS_NULL", value: random.chance(0.5) };
    default: return { attribute: "country", operator: "ONE_OF", value: ["DE", "de", "10"] };
  }
}

function allocation(random, flag, at, variations, total) {
  const keys = Object.keys(variations);
  const salt = `split-${flag}-${at}`;
  const shares = random.split(total, keys.length + 1);
  let end = 0;
  const splits = keys.map((variationKey, number) => {
    const range = { start: end, end: (end += shares[number]) };
    const shards = [{ salt, ranges: [range] }];
    if (random.chance(0.5)) shards.unshift({ salt: `traffic-${flag}`, ranges: [{ start: 0, end: random.chance(0.3) ? total : Math.floor(total * 0.8) }] });
    return random.chance(0.1) ? { variationKey, shards: [] } : { variationKey, shards, ...(random.chance(0.2) ? { extraLogging: { owner: "team" } } : {}) };
  });
  const made = { key: `alloc-${at}`, splits: random.chance(0.2) ? splits.slice(0, 1) : splits, doLog: random.chance(0.7) };
  if (random.chance(0.5)) made.rules = random.list(0, 2, () => ({ conditions: random.list(0, 3, () => condition(random)) }));
  if (random.chance(0.1)) made.startAt = random.pick(["2020-01-01T00:00:00Z", "2090-01-01T00:00:00.500Z"]);
  if (random.chance(0.1)) made.endAt = random.pick(["2020-01-01T00:00:00Z", "2090-01-01T00:00:00.000500Z"]);
  return made;
}

export function payload(random) {
  const flag = (at) => {
    const [key, variationType, totalShards] = [`flag-${at}`, random.pick(Object.keys(VALUES)), random.pick([100, 10_000, 1_000_000])];
    const names = ["control", "größer", "v 5"].slice(0, 1 + random.below(3));
    const variations = Object.fromEntries(names.map((name) => [name, { key: name, value: random.pick(VALUES[variationType]) }]));
    const allocations = random.list(0, 3, (number) => allocation(random, key, number, variations, totalShards));
    return [key, { key, enabled: random.chance(0.95), variationType, variations, allocations, totalShards }];
  };
  return { createdAt: "2026-11-20T10:00:00.000Z", format: "SERVER", environment: { name: "Test" }, flags: Object.fromEntries(random.list(2, 5, flag)) };
}

export function visitor(random) {
  const attributes = {};
  const add = (name, values) => random.chance(0.7) && (attributes[name] = random.pick(values));
  add("country", [...TEXTS, null]);
  add("age", [...NUMBERS, "18", "20", null]);
  add("version", [...VERSIONS, "x", "1.0"]);
  add("premium", [true, false]);
  if (random.chance(0.1)) attributes.id = "alias-1";
  return { id: id(random), attributes };
}

export function reported(visitor) {
  return visitor;
}

/** The reason that `libdd-ffe` gives for a split of an allocation. */
export function reason(flag, key, variationKey) {
  const { rules, startAt, endAt, splits } = flag.allocations.find((allocation) => allocation.key === key);
  const { shards } = splits.find((split) => split.variationKey === variationKey);
  const isFull = ({ ranges, totalShards = flag.totalShards }) => ranges.some(({ start, end }) => start === 0 && end === totalShards);
  if (rules?.length) return "targeting_match";
  if (splits.length > 1) return "split";
  if ((startAt || endAt) && shards.every(isFull)) return "default";
  return shards.length === 0 ? "static" : "split";
}

export function sdk({ flags }) {
  const evaluator = new Evaluator();
  const details = { configEnvironment: { name: "Test" }, configFetchedAt: "", configPublishedAt: "", configFormat: "SERVER" };
  return ({ id, attributes }) => {
    const events = [];
    const decisions = Object.entries(flags).map(([key, flag]) => {
      const found = evaluator.evaluateFlag(flag, details, id, attributes, false, flag.variationType);
      if (!found.variation) {
        const kind = flag.enabled ? "default" : "disabled";
        return [key, { kind, variant: null, experiment: null, value: null, in_experiment: false, reason: kind }];
      }
      const [allocation, variant] = [found.allocationKey, found.variation.key];
      const experiment = `${key}-${allocation}`;
      if (found.doLog) events.push({ featureFlag: key, allocation, experiment, variation: variant, subject: id, ...found.extraLogging });
      const value = flag.variationType === "JSON" ? JSON.parse(found.variation.value) : found.variation.value;
      const kind = reason(flag, allocation, variant);
      return [key, { kind, variant, experiment, value, in_experiment: found.doLog, reason: kind }];
    });
    return { decisions: Object.fromEntries(decisions), reports: { events }, count: decisions.length };
  };
}

export function comparable({ variant, experiment, value, in_experiment, reason }) {
  return { variant, experiment, value, in_experiment, reason };
}

/** The events without the time, and without attributes, which are texts in requests. */
export function comparableReports({ events }) {
  return { events: events.map(({ timestamp, subjectAttributes, ...event }) => event) };
}

export function part({ flags }, key) {
  return flags[key] ?? flags;
}
