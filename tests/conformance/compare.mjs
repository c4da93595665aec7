// Compares `edgesplit evaluate` with the vendors' own SDKs on generated payloads, and prints every difference.
//
//   node compare.mjs COMMAND [PAYLOADS [SEED]]
//
// Each payload is decided for a number of visitors. The same seed gives the same payloads.
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import * as growthbook from "./growthbook.mjs";
import * as optimizely from "./optimizely.mjs";
import { Random } from "./random.mjs";

const VISITORS = 25;
const DIFFERENCES_SHOWN_MAX = 20;

const [command, payloads = "2000", seed = "1"] = process.argv.slice(2);
const folder = mkdtempSync(join(tmpdir(), "edgesplit-conformance-"));

/** Our decisions: for each visitor, the decisions by key. */
function evaluate(format, payload, visitors) {
  const config = join(folder, "config.json");
  writeFileSync(config, JSON.stringify(payload));
  const input = visitors.map((visitor) => `${JSON.stringify(visitor)}\n`).join("");
  const run = spawnSync(command, ["evaluate", "--format", format, "--config", config], { input, encoding: "utf8" });
  const lines = run.stdout.trim().split("\n").filter(Boolean);
  if (lines.length !== visitors.length) throw new Error(`evaluate failed: ${run.stderr}\n${JSON.stringify(payload)}`);
  return lines.map((line) => new Map(JSON.parse(line).decisions.map((decision) => [decision.key, decision])));
}

function compare(vendor) {
  const random = new Random(Number(seed));
  const kinds = new Map();
  let decisions = 0, differences = 0;
  for (let number = 0; number < Number(payloads); number += 1) {
    const payload = vendor.payload(random);
    const visitors = Array.from({ length: VISITORS }, () => vendor.visitor(random));
    const ours = evaluate(vendor.format, payload, visitors);
    const decide = vendor.sdk(payload);
    visitors.forEach((visitor, at) => {
      for (const [key, { kind, ...expected }] of Object.entries(decide(visitor))) {
        const found = vendor.comparable(ours[at].get(key));
        decisions += 1;
        kinds.set(kind, (kinds.get(kind) ?? 0) + 1);
        if (isDeepStrictEqual(found, expected)) continue;
        differences += 1;
        if (differences <= DIFFERENCES_SHOWN_MAX) {
          console.log(`${vendor.format}: payload ${number}, ${key}, ${JSON.stringify(visitor)}`);
          console.log(`  SDK       ${JSON.stringify(expected)}\n  edgesplit ${JSON.stringify(found)}`);
          console.log(`  payload   ${JSON.stringify(vendor.part(payload, key))}`);
        }
      }
    });
  }
  const shares = [...kinds].map(([kind, count]) => `${kind} ${count}`).join(", ");
  console.log(`${vendor.format}: ${payloads} payloads, ${decisions} decisions (${shares}), ${differences} differences`);
  return differences;
}

try {
  const differences = compare(growthbook) + compare(optimizely);
  process.exitCode = differences === 0 ? 0 : 1;
} finally {
  rmSync(folder, { recursive: true });
}
