//! `edgesplit evaluate` with vendors' configs.

use super::{datafile, file};
use edgesplit_testkit::command;
use serde_json::{Value, json};

/// The answer to one line, and the messages.
fn evaluate(arguments: &[&str], line: &str) -> (Value, String) {
    let output = command::edgesplit(&[&["evaluate"], arguments].concat(), line);
    let err = String::from_utf8(output.stderr).unwrap();
    (serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {err}")), err)
}

#[test]
fn evaluate_decides_an_optimizely_datafile_by_flag() {
    let config = file("datafile.json", &datafile().to_string());
    let (result, err) = evaluate(&["--format", "optimizely", "--config", &config], r#"{"id": "u1"}"#);
    assert!(err.contains("featureFlags[2].experimentIds: expected a list"), "{err}");
    let row = |key: &str, experiment: Option<&str>, variant: Option<&str>, value, reason: &str, is_in: bool| {
        json!({"key": key, "experiment": experiment, "variant": variant, "value": value, "reason": reason,
               "in_experiment": is_in})
    };
    let expected = json!({
        "decisions": [
            row("checkout", Some("checkout_test"), Some("on"), json!({"color": "green"}), "feature_test", true),
            row("nav", Some("everyone"), Some("on"), json!({}), "rollout", false),
            row("broken", None, None, json!(null), "disabled", false),
            row("alone", None, Some("on"), json!(null), "experiment", true),
        ],
        "assignments": "alone=on, checkout=on",
        "cache_key": "alone.on~checkout.on",
    });
    assert_eq!(result, expected);

    // Without an id there is no decision. The routes are those of the plugin configuration.
    let plugin = file(
        "optimizely-plugin.json",
        &json!({"visitor": {"id": [{"header": "x-user-id"}]}, "experiments": {"inline": {}, "format": "optimizely", "routes": [
            {"keys": ["check*"], "paths": ["/checkout*"], "baseline": "on"}, {"keys": ["check*", "nav"], "hosts": ["h"]}]}})
        .to_string(),
    );
    let reasons = |line: &str| {
        let (result, _) = evaluate(&["--plugin", &plugin, "--config", &config], line);
        let rows = result["decisions"].as_array().unwrap();
        let reasons: Vec<_> = rows.iter().map(|row| row["reason"].as_str().unwrap().to_owned()).collect();
        (reasons, result["cache_key"].as_str().unwrap().to_owned())
    };
    let of = |reasons: [&str; 4], key: &str| (reasons.map(str::to_owned).to_vec(), key.to_owned());
    assert_eq!(reasons("{}"), of(["route", "route", "disabled", "no_unit"], ""));
    assert_eq!(
        reasons(r#"{"headers": {"X-User-Id": "u1"}, "path": "/checkout/2", "host": "h"}"#),
        of(["feature_test", "rollout", "disabled", "experiment"], "alone.on")
    );
    assert_eq!(reasons(r#"{"id": "u1", "headers": {"sec-gpc": "1"}}"#).0, ["route", "route", "disabled", "no_consent"]);
}

#[test]
fn evaluate_decides_a_growthbook_payload_by_feature() {
    let payload = json!({"features": {
        "button": {"defaultValue": "grey", "rules": [
            {"condition": {"plan": "pro", "path": {"$exists": false}}, "key": "colors", "hashAttribute": "id",
             "variations": ["grey", {"edgesplit": {"request_headers": {"x-button": "green"}}}], "weights": [0, 1],
             "meta": [{"key": "control"}, {"key": "green"}]}]},
        "wide": {"defaultValue": 1, "rules": [{"force": {"edgesplit": {"response_headers": {"x-wide": "yes"}}}}]},
        "wrong": {"defaultValue": {"edgesplit": {"request_headers": {"cookie": "x"}}}}}});
    let config = file("payload.json", &payload.to_string());
    let ask = |line: &str| evaluate(&["--format", "growthbook", "--config", &config], line);
    let plugin = json!({"experiments": {"cluster": "c", "format": "growthbook"}, "effects": {}});
    let plugin = file("effects.json", &plugin.to_string());
    let with_effects = |line: &str| evaluate(&["--plugin", &plugin, "--config", &config], line);
    let line = r#"{"id": "u1", "attributes": {"plan": "pro"}}"#;
    let (result, err) = with_effects(line);
    assert!(err.contains("features.wrong.edgesplit.request_headers.cookie: no variant may set this header"), "{err}");
    assert_eq!(result["assignments"], "button=green");
    assert_eq!(result["cache_key"], "button.green.c0b9e3a6c36c8dca~wide..ca7c8bfbb12511b8");
    let (result, err) = ask(line);
    assert!(err.contains("features.wide.edgesplit: not in force: the plugin configuration has no `effects`"), "{err}");
    assert_eq!(result["assignments"], "button=green");
    assert_eq!(result["cache_key"], "button.green");
    assert_eq!(
        result["decisions"][0],
        json!({"key": "button", "experiment": "colors", "variant": "green", "reason": "experiment", "in_experiment": true,
               "value": {"edgesplit": {"request_headers": {"x-button": "green"}}}})
    );
    assert_eq!(
        (&result["decisions"][1]["reason"], &result["decisions"][1]["variant"]),
        (&json!("force"), &json!(null))
    );
    assert_eq!(result["decisions"][2]["reason"], "default_value");
    // The path is an attribute only if the line has one. Typed attributes take precedence over the line's id.
    let reason = |line: &str| ask(line).0["decisions"][0]["reason"].clone();
    assert_eq!(reason(r#"{"id": "u1", "path": "/", "attributes": {"plan": "pro"}}"#), "default_value");
    assert_eq!(reason(r#"{"id": "u1", "attributes": {"plan": "pro", "id": null}}"#), "default_value");
    assert_eq!(reason(r#"{"attributes": {"plan": "pro", "id": 5}}"#), "experiment");
}
