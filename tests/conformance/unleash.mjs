// Random features and contexts, decided by Unleash's SDK for node. Its hash reads UTF-16 units where Yggdrasil reads UTF-8, so
// ids and names are ASCII here. The other differences between the two that are left out: empty texts, values with spaces
// around them, unknown segments, and everything that needs a random draw.
import { createRequire } from "node:module";

const require = createRequire(import.meta.url);
const { default: Client } = require("unleash-client/lib/client.js");
const { defaultStrategies } = require("unleash-client/lib/strategy");

export const format = "unleash";

const COUNTRIES = ["DE", "AT", "US", "de"];
const VERSIONS = ["1.2.3", "1.10.0", "2.0.0-beta.2", "2.0.0-beta.11", "2.0.0"];
const VALUES = {
  country: COUNTRIES, plan: ["pro", "free", "Enterprise"], age: ["17", "18", "18.5", "65"], version: [...VERSIONS, "1.2", "x"],
  remoteAddress: ["10.0.0.7", "192.168.1.77", "8.8.8.8", "2001:db8::1"], environment: ["prod", "dev"], sessionId: ["s1", "s2", "s3"],
};
const FIELDS = Object.keys(VALUES);

function constraint(random) {
  const made = random.pick([
    () => ({ contextName: random.pick([...FIELDS, "userId"]), operator: random.pick(["IN", "NOT_IN"]), values: random.list(1, 3, () => random.pick(VALUES[random.pick(FIELDS)])) }),
    () => ({ contextName: random.pick(FIELDS), operator: random.pick(["STR_STARTS_WITH", "STR_ENDS_WITH", "STR_CONTAINS"]), values: random.list(1, 2, () => random.pick(["D", "e", "pro", "1"])), caseInsensitive: random.chance(0.5) }),
    () => ({ contextName: random.pick(["age", "plan"]), operator: random.pick(["NUM_EQ", "NUM_GT", "NUM_GTE", "NUM_LT", "NUM_LTE"]), value: random.pick(VALUES.age) }),
    () => ({ contextName: "currentTime", operator: random.pick(["DATE_AFTER", "DATE_BEFORE"]), value: random.pick(["2026-11-27T12:00:00.000Z", "2026-11-27T12:59:59+01:00"]) }),
    () => ({ contextName: "version", operator: `SEMVER_${random.pick(["EQ", "GT", "GTE", "LT", "LTE"])}`, value: random.pick(VERSIONS) }),
    () => ({ contextName: random.pick(["country", "version"]), operator: "REGEX", value: random.pick(["^D", "[0-9]+\\.", "e$", "(?=a)", "[[:upper:]]{2}"]), caseInsensitive: random.chance(0.3) }),
    () => ({ contextName: "remoteAddress", operator: "IN_CIDR", values: random.list(1, 2, () => random.pick(["10.0.0.0/24", "192.168.1.77", "2001:db8::/32", "nonsense"])) }),
  ])();
  return { ...made, ...(random.chance(0.3) && { inverted: true }) };
}

function randomPayload(random) {
  return random.pick([undefined, { type: "string", value: "text" }, { type: "json", value: '{"a": [1, null]}' }, { type: "number", value: "-1.5" }, { type: "csv", value: "a,b" }]);
}

function variants(random, stickiness) {
  return random.list(0, 3, (at) => ({ name: `v${at}`, weight: random.pick([0, 1, 333, 1000]), stickiness, payload: randomPayload(random) }));
}

function strategy(random) {
  const stickiness = random.pick(["default", "userId", "country"]);
  const groupId = random.pick(["shared", "group"]);
  const share = String(random.pick([0, 10, 50, 100]));
  const [name, parameters] = random.pick([
    ["default", { groupId, stickiness }], ["flexibleRollout", { rollout: share, stickiness, groupId }], ["flexibleRollout", { rollout: share, stickiness, groupId }],
    ["gradualRolloutUserId", { percentage: share, groupId, stickiness }], ["gradualRolloutSessionId", { percentage: share, groupId, stickiness }],
    ["userWithId", { userIds: "user-1, user-2", groupId, stickiness }], ["remoteAddress", { IPs: "10.0.0.7,8.8.8.8", groupId, stickiness }], ["ourOwn", { groupId, stickiness }],
  ]);
  // A field that is missing would be drawn.
  const chosen = stickiness === "country" ? [] : variants(random, stickiness);
  return { name, parameters, constraints: random.list(0, 2, () => constraint(random)), segments: random.chance(0.2) ? [random.pick([1, 2])] : [], variants: chosen };
}

export function payload(random) {
  const feature = (at) => {
    const made = { name: `feature-${at}`, enabled: random.chance(0.9), strategies: random.list(0, 3, () => strategy(random)) };
    if (random.chance(0.4)) made.variants = variants(random, "userId");
    if (made.variants?.length && random.chance(0.3)) made.variants[0].overrides = [{ contextName: "country", values: ["DE"] }];
    if (made.variants?.every(({ weight }) => weight === 0)) delete made.variants;
    for (const one of made.strategies) if (one.variants.every(({ weight }) => weight === 0)) one.variants = [];
    // The first two depend on none.
    if (at > 1 && random.chance(0.4)) {
      const parent = random.pick(["feature-0", "feature-1", "feature-2", "none"]);
      made.dependencies = [random.pick([{ feature: parent }, { feature: parent, enabled: false }])];
    }
    return made;
  };
  const segments = [1, 2].map((id) => ({ id, constraints: random.list(0, 2, () => constraint(random)) }));
  return { version: 2, features: random.list(3, 6, feature), segments };
}

export function visitor(random) {
  const attributes = { currentTime: random.pick(["2026-11-27T12:00:00Z", "2026-11-27T11:59:59Z", "2027-01-01T00:00:00Z"]) };
  for (const field of FIELDS) if (random.chance(0.7)) attributes[field] = random.pick(VALUES[field]);
  return { id: `user-${random.below(100_000)}`, attributes };
}

export function reported({ id, attributes }) {
  return { id, attributes: { id, ...attributes } };
}

function value({ payload: made }) {
  if (!made) return true;
  return made.type === "json" || made.type === "number" ? JSON.parse(made.value) : made.value;
}

export function sdk({ features, segments }) {
  const byName = new Map(features.map((feature) => [feature.name, feature]));
  const byId = new Map(segments.map((segment) => [segment.id, segment]));
  const client = new Client({ getToggle: (name) => byName.get(name), getSegment: (id) => byId.get(id) }, defaultStrategies);
  return ({ id, attributes }) => {
    const events = [];
    const decisions = features.map(({ name }) => {
      const context = { ...attributes, userId: id, featureToggle: name };
      const variant = client.getVariant(name, context);
      if (!variant.enabled) return [name, { kind: variant.feature_enabled ? "on" : "off", variant: null, value: variant.feature_enabled }];
      events.push({ feature: name, variant: variant.name });
      return [name, { kind: "variant", variant: variant.name, value: value(variant) }];
    });
    return { decisions: Object.fromEntries(decisions), reports: { events }, count: features.length };
  };
}

export function comparable(decision) {
  return { variant: decision?.variant, value: decision?.value };
}

export function comparableReports({ events }) {
  return { events: events.map(({ feature, variant }) => ({ feature, variant })) };
}

export function part({ features, segments }, key) {
  return { feature: features.find(({ name }) => name === key), segments };
}
