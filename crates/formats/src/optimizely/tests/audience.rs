//! Conditions one by one, with typed attributes and with texts from a request.

use super::*;
use edgesplit_engine::attribute::{AttributeName, AttributeValue};

/// A visitor whose attributes all come from a request, and are texts.
struct Request(&'static [(&'static str, &'static str)]);

impl Attributes for Request {
    fn attribute<'a>(&'a self, name: &'a AttributeName) -> AttributeValue<'a> {
        let found = self.0.iter().find(|(known, _)| *known == name.written());
        found.map_or(AttributeValue::Missing, |(_, text)| AttributeValue::Text((*text).into()))
    }
}

fn targeted(conditions: Value) -> Datafile {
    let audiences = json!([{"id": "a", "name": "", "conditions": conditions}]);
    let experiment = with(rule("1", 10_000), json!({"audienceIds": ["a"]}));
    compiled(&document(json!({"experiments": [experiment], "typedAudiences": audiences, "rollouts": []})))
}

#[test]
fn conditions_hold_do_not_hold_or_are_unknown() {
    let condition = |operator: &str, value: Value| json!({"type": "custom_attribute", "name": "a", "match": operator, "value": value});
    let cases = [
        (condition("exact", json!("x")), json!({"a": "x"}), Some(true)),
        (condition("exact", json!("x")), json!({"a": "y"}), Some(false)),
        (condition("exact", json!("x")), json!({"a": 1}), None),
        (condition("exact", json!("x")), json!({}), None),
        (condition("exact", json!("x")), json!({"a": null}), None),
        (condition("exact", json!(1)), json!({"a": 1.0}), Some(true)),
        (condition("exact", json!(1)), json!({"a": true}), None),
        (condition("exact", json!(true)), json!({"a": 1}), None),
        (condition("exact", json!(true)), json!({"a": false}), Some(false)),
        (condition("exact", json!(1)), json!({"a": 9_007_199_254_740_994_u64}), None),
        (condition("exact", json!(1)), json!({"a": 9_007_199_254_740_993_u64}), None),
        (condition("exact", json!(9_007_199_254_740_993_u64)), json!({"a": 9_007_199_254_740_992_u64}), None),
        (condition("lt", json!(0)), json!({"a": i64::MIN}), None),
        (condition("lt", json!(0)), json!({"a": -9_007_199_254_740_992_i64}), Some(true)),
        (condition("exact", json!([])), json!({"a": []}), None),
        (condition("exists", json!(null)), json!({"a": false}), Some(true)),
        (condition("exists", json!(null)), json!({"a": null}), Some(false)),
        (condition("exists", json!(null)), json!({}), Some(false)),
        (condition("substring", json!("b")), json!({"a": "abc"}), Some(true)),
        (condition("substring", json!("d")), json!({"a": "abc"}), Some(false)),
        (condition("substring", json!("1")), json!({"a": 1}), None),
        (condition("gt", json!(1)), json!({"a": 1.5}), Some(true)),
        (condition("gt", json!(1)), json!({"a": 1}), Some(false)),
        (condition("ge", json!(1)), json!({"a": 1}), Some(true)),
        (condition("lt", json!(1)), json!({"a": 1}), Some(false)),
        (condition("le", json!(1)), json!({"a": 1}), Some(true)),
        (condition("gt", json!(1)), json!({"a": "2"}), None),
        (condition("gt", json!(1)), json!({"a": true}), None),
        (condition("gt", json!("1")), json!({"a": 2}), None),
        (condition("semver_eq", json!("2.1")), json!({"a": "2.1.9"}), Some(true)),
        (condition("semver_gt", json!("2.1")), json!({"a": "2.1.9"}), Some(false)),
        (condition("semver_ge", json!("2.1")), json!({"a": "2.1.9"}), Some(true)),
        (condition("semver_lt", json!("2.1")), json!({"a": "2.0"}), Some(true)),
        (condition("semver_le", json!("2.1")), json!({"a": 2}), None),
        (condition("semver_le", json!(2)), json!({"a": "2"}), None),
        (condition("semver_ne", json!("2")), json!({"a": "2"}), None),
        (condition("like", json!("x")), json!({"a": "x"}), None),
        (condition("qualified", json!("segment")), json!({}), None),
        (json!({"type": "third_party_dimension", "match": "qualified", "value": "segment"}), json!({}), Some(false)),
        (json!({"type": "third_party_dimension", "value": 5}), json!({}), Some(false)),
        (
            json!({"type": "third_party_dimension", "name": "a", "match": "exact", "value": "x"}),
            json!({"a": "x"}),
            None,
        ),
        (json!({"type": "other", "name": "a", "match": "exact", "value": "x"}), json!({"a": "x"}), None),
        (json!({"type": "custom_attribute", "name": "a", "value": "x"}), json!({"a": "x"}), Some(true)),
        (json!([]), json!({}), Some(false)),
        (json!(["and"]), json!({}), Some(true)),
        (json!(["not"]), json!({}), None),
        (json!(["not", ["or"], ["and"]]), json!({}), Some(true)),
        (json!([["and"], ["or"]]), json!({}), Some(true)),
        (json!(["and", ["not"], ["or"]]), json!({}), Some(false)),
        (json!(["and", ["not"], ["and"]]), json!({}), None),
        (json!(["or", ["not"], ["and"]]), json!({}), Some(true)),
        (json!(["or", ["not"], ["or"]]), json!({}), None),
        (json!("text"), json!({}), None),
    ];
    for (condition, attributes, expected) in cases {
        let holds = |condition: Value| decided(&targeted(condition), 0, &attributes)[1].is_some();
        // A visitor is in only if the condition is known to hold or, negated, is known not to hold.
        let actual = (holds(condition.clone()), holds(json!(["not", condition])));
        assert_eq!(actual, (expected == Some(true), expected == Some(false)), "{condition} {attributes}");
    }
}

#[test]
fn text_from_a_request_is_read_as_the_type_of_the_condition() {
    let number = json!({"type": "custom_attribute", "name": "header.x-age", "match": "gt", "value": 17});
    let truth = json!({"type": "custom_attribute", "name": "cookie.beta", "match": "exact", "value": true});
    let datafile = targeted(json!(["and", number, truth]));
    let is_in = |attributes: Request| decided(&datafile, 0, &attributes)[1].is_some();
    assert!(is_in(Request(&[("header.x-age", "18"), ("cookie.beta", "true")])));
    for attributes in [
        &[("header.x-age", "17"), ("cookie.beta", "true")],
        &[("header.x-age", "18"), ("cookie.beta", "yes")],
        &[("header.x-age", "old"), ("cookie.beta", "true")],
        &[("header.x-age", ""), ("cookie.beta", "true")],
        &[("header.x-age", "inf"), ("cookie.beta", "true")],
        &[("header.x-age", "1e400"), ("cookie.beta", "true")],
    ] {
        assert!(!is_in(Request(attributes)), "{attributes:?}");
    }
}
