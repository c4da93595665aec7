//! Documents of a config service. A document that compiles is also evaluated.

use edgesplit_engine::assignments::texts;
use edgesplit_engine::condition::request_budget;
use edgesplit_engine::decide::{DecisionInput, evaluate};
use edgesplit_engine::route::RequestLine;
use edgesplit_engine::snapshot::Choice;
use edgesplit_formats::{NATIVE, Options, compile_bytes};
use serde_json::json;

/// Takes one input.
pub(crate) fn run(data: &[u8]) {
    let compiled = compile_bytes(data, &Options::new(NATIVE, 64));
    let Some(snapshot) = compiled.snapshot else {
        assert!(compiled.problems.errors() > 0, "refused without a reason");
        return;
    };
    assert!(snapshot.disabled.is_empty() || compiled.problems.errors() > 0, "disabled without a reason");
    let attributes = json!({"id": "u1", "country": "DE", "tags": ["a", 1, null], "nested": {"a": {"b": "1.2.3"}}});
    let line = RequestLine { host: b"shop.example".into(), path: b"/checkout/1", method: b"GET" };
    let steps = request_budget();
    let input = DecisionInput::unrestricted(1_795_392_000_000, &steps);
    let mut choices: Vec<Choice> = (snapshot.experiments.iter().enumerate())
        .filter_map(|(position, experiment)| {
            let decision = evaluate(&snapshot, experiment, &line, &input, &attributes, &mut ());
            Some(Choice { experiment: position, variant: decision.variant? })
        })
        .collect();
    let (assignments, cache_key) = texts(&snapshot, &mut choices);
    let text = assignments + &cache_key;
    assert!(text.is_ascii() && !text.contains(['\r', '\n', '\0']), "not fit for a header");
}
