//! The checks that an observer receives.

use super::*;

/// The checks of the feature `key`, each with `-` in front if it kept the visitor out.
fn checks(document: &Value, key: &str, attributes: &Value) -> Vec<String> {
    let payload = payload(document);
    let context = context(attributes, "");
    let mut evaluation = Evaluation::new(&payload, &context, Some(StickyDocuments::default()));
    evaluation.observe();
    evaluation.feature(payload.feature(key).unwrap());
    let checks = evaluation.take_checks().into_iter();
    checks.map(|check| format!("{}{} {}", if check.passed { "" } else { "-" }, check.name, check.detail)).collect()
}

#[test]
fn checks_name_the_rule_and_the_values() {
    let document = json!({"features": {
        "parent": {"defaultValue": "off", "rules": [{"id": "on", "condition": {"plan": "pro"}, "force": "on"}]},
        "child": {"defaultValue": 0, "rules": [
            {"parentConditions": [{"id": "parent", "condition": {"value": "on"}}], "force": 1},
            {"id": "beta", "condition": {"country": {"$in": ["DE"]}, "age": {"$gte": 18}}, "force": 2},
            {"id": "some", "coverage": 0, "force": 3},
            {"id": "few", "coverage": 0.1, "hashVersion": 2, "force": 3},
            {"key": "exp", "variations": [4, 5], "namespace": ["space", 0.5, 1]},
            {"key": "by-device", "hashAttribute": "device", "variations": [6, 7]},
        ]},
    }});
    let attributes = json!({"id": "u1", "plan": "free", "country": "AT", "age": 17});
    assert_eq!(
        checks(&document, "child", &attributes),
        [
            r#"-rule 1: prerequisite parent: rule 1 (on): condition plan is "free", expected "pro""#,
            r#"-rule 1: prerequisite parent is "off""#,
            r#"-rule 2 (beta): condition age is 17, expected >= 18; country is "AT", expected one of "DE""#,
            "-rule 3 (some): coverage coverage 0",
            "-rule 4 (few): coverage bucket 0.1969 of id, coverage 0.1",
            "-rule 5 (exp): namespace bucket 0.185 of id, range 0.5 to 1",
            "-rule 6 (by-device): hash attribute device has no value to hash",
        ]
    );
    assert_eq!(
        checks(&document, "child", &json!({"id": "u1", "plan": "pro"})),
        ["rule 1: prerequisite parent: rule 1 (on): condition ", r#"rule 1: prerequisite parent is "on""#]
    );
}
