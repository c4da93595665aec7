//! Cases of vendors whose rules are decided flag by flag. Each names a payload, a visitor and a time, and the decision of the
//! vendor's SDK. Their `SOURCE.md` names their origin.
//!
//! They are read from `$EDGESPLIT_CONFORMANCE`, by default `../shared/conformance` next to the project.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use edgesplit_engine::condition::request_budget;
use edgesplit_engine::condition::value::JsValue;
use edgesplit_engine::decide::DecisionInput;
use edgesplit_engine::decide_flags;
use edgesplit_engine::flag::{FlagDecisions, FlagVisitor};
use edgesplit_formats::{GENERATION, Options, compile_bytes, find};
use edgesplit_testkit::conformance::{self, CaseTest};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::path::Path;
use std::process::ExitCode;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

fn main() -> ExitCode {
    conformance::main(&[
        CaseTest { name: "unleash::cases", vendor: "unleash", run: |folder| run_cases("unleash", folder) },
        CaseTest { name: "eppo::cases", vendor: "eppo", run: |folder| run_cases("eppo", folder) },
        CaseTest { name: "flagd::cases", vendor: "flagd", run: |folder| run_cases("flagd", folder) },
        CaseTest {
            name: "flagd::cases_of_generation_3",
            vendor: "flagd",
            run: |folder| run_file("flagd", &folder.join("fractional-v3.jsonl"), 3),
        },
        CaseTest { name: "posthog::cases", vendor: "posthog", run: |folder| run_cases("posthog", folder) },
    ])
}

/// Decides every case in `cases.jsonl`.
fn run_cases(vendor: &str, folder: &Path) {
    run_file(vendor, &folder.join("cases.jsonl"), GENERATION);
}

/// Decides every case in `file` by this generation of bucketing.
fn run_file(vendor: &str, file: &Path, generation: u32) {
    let folder = file.parent().expect("a folder");
    let text = std::fs::read_to_string(file).expect("cases");
    let format = find(vendor).expect("a registered format");
    let (mut snapshots, mut failures, mut count) = (HashMap::new(), Vec::new(), 0);
    for line in text.lines() {
        let case: Value = serde_json::from_str(line).expect("a case");
        let config = case["config"].as_str().expect("a payload").to_owned();
        let snapshot = snapshots.entry(config.clone()).or_insert_with(|| {
            let payload = std::fs::read(folder.join(config)).expect("a payload");
            assert_eq!(edgesplit_formats::recognise(&serde_json::from_slice(&payload).unwrap()), Some(format));
            compile_bytes(&payload, &Options { generation, ..Options::new(format, 64) })
                .snapshot
                .expect("a good payload")
        });
        let now = OffsetDateTime::parse(case["now"].as_str().expect("a time"), &Rfc3339).expect("a time");
        let now_ms = 1_000 * now.unix_timestamp();
        let steps = request_budget();
        let input = &case["input"];
        let (id, attributes) = (input["id"].as_str(), &input["attributes"]);
        let visitor = FlagVisitor::new(id, attributes, &steps, now_ms);
        let candidates = snapshot.experiments.iter().position(|flag| case["key"] == flag.key);
        let candidates: Vec<u32> = candidates.map(|number| number as u32).into_iter().collect();
        let rules = snapshot.flag_evaluator.as_deref().expect("rules");
        let mut found = FlagDecisions::default();
        let input = DecisionInput::unrestricted(now_ms, &steps);
        decide_flags(snapshot, rules, &candidates, &input, &visitor, &mut found);
        let expected = case["expect"].as_object().expect("an expected decision");
        let decided = found.decided.first().map(|(flag, outcome, reason)| {
            let outcome = outcome.and_then(|outcome| rules.outcomes(*flag).get(outcome));
            let mut row = json!({"variant": outcome.and_then(|outcome| outcome.variant.as_deref()),
                "experiment": outcome.and_then(|outcome| outcome.experiment.as_deref()),
                "value": outcome.map_or(&Value::Null, |outcome| &outcome.value), "reason": reason.name(),
                "in_experiment": outcome.is_some_and(|outcome| outcome.in_experiment)});
            row.as_object_mut().expect("an object").retain(|name, _| expected.contains_key(name));
            row
        });
        count += 1;
        // 1 is 1.0.
        if !decided.as_ref().is_some_and(|row| JsValue::from(row).is_same(&case["expect"])) {
            failures.push(format!("{case}\n  found {}", decided.unwrap_or_default()));
        }
    }
    println!("{vendor}: {count} cases run, {} failed", failures.len());
    let shown = failures.iter().take(20).cloned().collect::<Vec<_>>().join("\n");
    assert!(failures.is_empty(), "{} of {count} failed\n{shown}", failures.len());
}
