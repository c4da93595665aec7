//! GrowthBook's own cases for conditions: section `evalCondition` of its `cases.json`, spec 0.8.0. Each row is
//! `[name, condition, attributes, expected, saved groups?]`.
//!
//! They are read from `$EDGESPLIT_CONFORMANCE`, else from `../shared/conformance` next to the crate.

use edgesplit::engine::condition::Condition;
use edgesplit::problem::{Node, Problems};
use serde_json::Value;
use std::path::PathBuf;

/// Cases that cannot pass, each with its reason. None so far; a pattern with look-around would be one, for `regex-lite`
/// has none.
const EXCEPTIONS: [(&str, &str); 0] = [];

#[test]
fn every_case_gives_what_growthbook_gives() {
    let root = std::env::var_os("EDGESPLIT_CONFORMANCE")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/conformance"), PathBuf::from);
    let file = root.join("growthbook/cases.json");
    let text = match std::fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error) => {
            println!("skipped: GrowthBook's cases are not at {}: {error}", file.display());
            return;
        }
    };
    let cases: Value = serde_json::from_str(&text).expect("the cases are JSON");
    let rows = cases["evalCondition"].as_array().expect("a list of cases");
    assert!(!rows.is_empty(), "no case in {}", file.display());

    let mut failures = Vec::new();
    for row in rows {
        let (name, expected) = (row[0].as_str().expect("a name"), row[3].as_bool().expect("true or false"));
        if let Some((_, reason)) = EXCEPTIONS.iter().find(|(exception, _)| *exception == name) {
            println!("skipped: {name}: {reason}");
            continue;
        }
        let mut problems = Problems::new();
        let groups = row.get(4).unwrap_or(&Value::Null);
        let condition = Condition::compile(&Node::root(&row[1]), groups, &mut problems);
        if condition.matches(&row[2]) != expected {
            let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
            failures.push(format!("{name}: expected {expected}; problems: {problems:?}"));
        }
    }
    println!("{} of {} cases run, {} failed", rows.len() - EXCEPTIONS.len(), rows.len(), failures.len());
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
