//! Payloads of vendors' services. Those that compile are also decided. The first byte selects the vendor, unless the
//! environment has `FORMAT=posthog`.

use edgesplit_engine::condition::request_budget;
use edgesplit_engine::decide::DecisionInput;
use edgesplit_engine::decide_flags;
use edgesplit_engine::flag::{FlagDecisions, FlagVisitor};
use edgesplit_formats::{Options, compile_bytes, find, formats};
use serde_json::json;

/// The time of the decisions.
const NOW_MS: i64 = 1_795_392_000_000;

/// Takes one input.
pub(crate) fn run(data: &[u8]) {
    let Some((which, payload)) = data.split_first() else { return };
    let format = match std::env::var("FORMAT") {
        Ok(name) => find(&name),
        // The first format is Edgesplit's own.
        Err(_) => formats().nth(1 + usize::from(which % 16)),
    };
    let Some(format) = format else { return };
    let compiled = compile_bytes(payload, &Options::new(format, 64));
    let Some(snapshot) = compiled.snapshot else {
        assert!(compiled.problems.errors() > 0, "refused without a reason");
        return;
    };
    let rules = snapshot.flag_evaluator.as_deref().expect("a vendor's format has rules");
    let attributes = json!({"id": "u1", "country": "DE", "tags": ["a", 1, null], "nested": {"a": {"b": "1.2.3"}},
                            "url": "https://shop.example/checkout/1?a=b"});
    let steps = request_budget();
    let visitor = FlagVisitor::new(Some("u1"), &attributes, &steps, NOW_MS);
    let input = DecisionInput::unrestricted(NOW_MS, &steps);
    let candidates: Vec<u32> = (0..).take(snapshot.experiments.len()).collect();
    let mut found = FlagDecisions::default();
    decide_flags(&snapshot, rules, &candidates, &input, &visitor, &mut found);
    for (flag, outcome, _) in &found.decided {
        assert!(outcome.is_none_or(|outcome| outcome < rules.outcomes(*flag).len()), "an outcome that there is not");
    }
}
