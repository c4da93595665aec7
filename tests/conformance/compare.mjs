// Compares the decisions, events and redirects of edgesplit with those of the vendors' own SDKs on generated payloads, and
// prints every difference.
//
//   node compare.mjs COMMAND REPORTS [PAYLOADS [SEED [VENDOR]]]
//
// COMMAND is `edgesplit`, REPORTS the example of that name. Each payload is decided for a number of visitors. The same seed
// gives the same payloads. VENDOR compares with the SDK of one vendor.
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import * as datadog from "./datadog.mjs";
import * as eppo from "./eppo.mjs";
import * as flagd from "./flagd.mjs";
import * as growthbook from "./growthbook.mjs";
import * as optimizely from "./optimizely.mjs";
import { Random } from "./random.mjs";
import * as unleash from "./unleash.mjs";

const VISITORS = 25;
const DIFFERENCES_SHOWN_MAX = 20;

const [command, reports, payloads = "2000", seed = "1", only] = process.argv.slice(2);
const VENDORS = { growthbook, optimizely, eppo, datadog, unleash, flagd };
const folder = mkdtempSync(join(tmpdir(), "edgesplit-conformance-"));
const config = join(folder, "config.json");

/** The answers of a program to the lines of visitors. */
function run(program, args, visitors) {
  const input = visitors.map((visitor) => `${JSON.stringify(visitor)}\n`).join("");
  const { stdout, stderr } = spawnSync(program, args, { input, encoding: "utf8" });
  const lines = stdout.trim().split("\n").filter(Boolean);
  if (lines.length !== visitors.length) throw new Error(`${args[0]} failed: ${stderr}`);
  return lines.map((line) => JSON.parse(line));
}

/** Our decisions by key, and our reports, for each visitor. */
function evaluate(vendor, payload, visitors) {
  writeFileSync(config, JSON.stringify(payload));
  const answers = run(command, ["evaluate", "--format", vendor.format, "--config", config], visitors);
  // A vendor without events has no reports.
  const reported = vendor.reported && run(reports, [vendor.format, config], visitors.map((visitor) => vendor.reported(visitor)));
  return answers.map(({ decisions }, at) => {
    // Redirect tests come after the features whose key they may have.
    const byKey = new Map(decisions.toReversed().map((decision) => [decision.key, decision]));
    return { count: decisions.length, byKey, reports: reported ? vendor.comparableReports(reported[at]) : { events: [] } };
  });
}

function compare([name, vendor]) {
  const random = new Random(Number(seed));
  const kinds = new Map();
  let decisions = 0, events = 0, differences = 0;
  for (let number = 0; number < Number(payloads); number += 1) {
    const payload = vendor.payload(random);
    const visitors = Array.from({ length: VISITORS }, () => vendor.visitor(random));
    const ours = evaluate(vendor, payload, visitors);
    const decide = vendor.sdk(payload);
    const check = (found, expected, key, visitor) => {
      if (isDeepStrictEqual(found, expected)) return;
      differences += 1;
      if (differences > DIFFERENCES_SHOWN_MAX) return;
      console.log(`${name}: payload ${number}, ${key}, ${JSON.stringify(visitor)}`);
      console.log(`  SDK       ${JSON.stringify(expected)}\n  edgesplit ${JSON.stringify(found)}`);
      console.log(`  payload   ${JSON.stringify(vendor.part(payload, key))}`);
    };
    for (const [at, visitor] of visitors.entries()) {
      const { decisions: expected, reports, count } = decide(visitor);
      for (const [key, { kind, ...decision }] of Object.entries(expected)) {
        decisions += 1;
        kinds.set(kind, (kinds.get(kind) ?? 0) + 1);
        check(vendor.comparable(ours[at].byKey.get(key)), decision, key, visitor);
      }
      events += reports.events.length;
      check(ours[at].reports, reports, "reports", visitor);
      check(ours[at].count, count, "decisions", visitor);
    }
  }
  const shares = [...kinds].map(([kind, count]) => `${kind} ${count}`).join(", ");
  console.log(`${name}: ${payloads} payloads, ${decisions} decisions (${shares}), ${events} events, ${differences} differences`);
  return differences;
}

try {
  for (const vendor of Object.entries(VENDORS)) {
    if (only && vendor[0] !== only) continue;
    if (compare(vendor) > 0) process.exitCode = 1;
  }
} finally {
  rmSync(folder, { recursive: true });
}
