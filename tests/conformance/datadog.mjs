// Datadog's dialect of Eppo's random payloads, decided by the evaluator of Datadog's SDKs for JavaScript. It gives the
// reason `STATIC` or `SPLIT` by the chosen split alone, `libdd-ffe` by all splits of the allocation: that one is expected.
import { createRequire } from "node:module";
import * as eppo from "./eppo.mjs";

const require = createRequire(import.meta.url);
const { createExposureEvent, evaluate } = require("@datadog/flagging-core");

export const format = "eppo";

const TYPES = { STRING: "string", INTEGER: "number", NUMERIC: "number", BOOLEAN: "boolean", JSON: "object" };

/** Numbers are compared as numbers alone; versions have operators of their own, and any number of parts. */
function condition(random, { attribute, operator, value }) {
  const isOrder = ["GTE", "GT", "LTE", "LT"].includes(operator);
  if (!isOrder) return { attribute, operator, value };
  if (attribute !== "version") return { attribute, operator, value: Number(value) };
  return { attribute, operator: `SEMVER_${random.pick([operator, "EQ", "NEQ"])}`, value: random.pick([value, "1", "1.0", "2.0.0.1"]) };
}

function allocation(random, { rules, splits, ...rest }, totalShards) {
  const made = { ...rest, splits: splits.map(({ extraLogging, shards, ...split }) => {
    const serialId = extraLogging && { serialId: random.below(100) };
    return { ...split, shards: shards.map((shard) => ({ ...shard, totalShards })), ...serialId };
  }) };
  if (rules) made.rules = rules.map(({ conditions }) => ({ conditions: conditions.map((one) => condition(random, one)) }));
  return made;
}

export function payload(random) {
  const { flags, ...rest } = eppo.payload(random);
  const own = Object.entries(flags).map(([key, { totalShards, ...flag }]) => {
    for (const variation of Object.values(flag.variations)) {
      if (flag.variationType === "JSON") variation.value = JSON.parse(variation.value);
    }
    return [key, { ...flag, allocations: flag.allocations.map((one) => allocation(random, one, totalShards)) }];
  });
  return { ...rest, flags: Object.fromEntries(own) };
}

export const { visitor, reported, comparable, part } = eppo;

export function sdk({ flags }) {
  const config = { rules: { response: { flags } } };
  return ({ id, attributes }) => {
    const events = [];
    const context = { targetingKey: id, ...attributes };
    const decisions = Object.entries(flags).map(([key, flag]) => {
      const found = evaluate(config, TYPES[flag.variationType], key, null, context);
      const event = createExposureEvent(context, { ...found, flagKey: key });
      if (event) events.push(event);
      const { allocationKey, doLog } = found.flagMetadata;
      const variant = found.variant ?? null;
      const kind = variant === null ? found.reason.toLowerCase() : eppo.reason(flag, allocationKey, variant);
      const experiment = variant === null ? null : `${key}-${allocationKey}`;
      return [key, { kind, variant, experiment, value: found.value, in_experiment: doLog ?? false, reason: kind }];
    });
    return { decisions: Object.fromEntries(decisions), reports: comparableReports({ events }), count: decisions.length };
  };
}

/** The events without the time, and without attributes, which are texts in requests. */
export function comparableReports({ events }) {
  return { events: events.map(({ timestamp, subject: { id }, ...event }) => ({ ...event, subject: id })) };
}
