//! Reading payloads: problems are reported where they are, and disable only the part that they are in.

use super::*;
use crate::Options;

#[test]
fn document_other_than_a_payload_is_refused() {
    for (bytes, expected) in [
        (&b"{"[..], "not JSON: "),
        (b"[]", "expected an object, found the list []"),
        (b"{}", "features: missing; expected an object of features"),
        (br#"{"features": null}"#, "features: missing"),
        (br#"{"features": []}"#, "features: expected an object"),
        (br#"{"features": {}, "savedGroups": []}"#, "savedGroups: expected an object"),
        (
            br#"{"features": {}, "encryptedFeatures": "a.b"}"#,
            "encryptedFeatures: is encrypted, and no key is configured",
        ),
    ] {
        let compiled = crate::compile_bytes(bytes, &Options::new(&GrowthBook, 64));
        assert!(compiled.snapshot.is_none(), "{expected}");
        assert!(compiled.problems.iter().any(|problem| problem.to_string().starts_with(expected)), "{compiled:?}");
    }
}

#[test]
fn encrypted_payload_is_read_with_its_key() {
    let key = "AAECAwQFBgcICQoLDA0ODw==";
    let document = json!({"features": {}, "encryptedFeatures": FEATURES_ENCRYPTED});
    let payload = compile(&document, Some(key)).payload.expect("a payload");
    assert_eq!(decided(&payload, "f", &json!({})).0, "ü");
    for (encrypted, key) in
        [(FEATURES_ENCRYPTED, "AAECAwQFBgcICQoLDA0OEA=="), (NO_JSON_ENCRYPTED, key), ("", key), ("!", key)]
    {
        let compiled = compile(&json!({"features": {}, "encryptedFeatures": encrypted}), Some(key));
        assert!(compiled.payload.is_none(), "{encrypted}");
    }
}

#[test]
fn problem_has_its_path_and_disables_its_feature_alone() {
    let rule =
        |rule: Value| json!({"features": {"checkout": {"rules": [{"force": 1}, rule]}, "other": {"defaultValue": 1}}});
    for (wrong, expected) in [
        (json!({"variations": [0, 1], "weights": "x"}), "weights: expected a list, found the string \"x\""),
        (json!({"variations": [0, 1], "weights": [0.5, null]}), "weights[1]: expected a number, found null"),
        (json!({"variations": {}}), "variations: expected a list"),
        (json!({"variations": [0, 1], "meta": [{}]}), "meta: expected one entry for each of the 2 variations"),
        (json!({"variations": [0, 1], "ranges": [[0, 0.5], [1]]}), "ranges[1]: expected a range"),
        (json!({"variations": [0, 1], "namespace": ["n", 0]}), "namespace: expected a namespace"),
        (json!({"variations": [0, 1], "filters": [{"ranges": []}]}), "filters[0].seed: missing"),
        (json!({"variations": [0, 1], "bucketVersion": -1}), "bucketVersion: expected a whole number"),
        (json!({"force": 1, "condition": "x"}), "condition: expected an object"),
        (json!({"force": 1, "coverage": "all"}), "coverage: expected a number"),
        (json!({"force": 1, "tracks": [{"result": {}}]}), "tracks[0].experiment: missing"),
        (json!({"parentConditions": [{}]}), "parentConditions[0].id: missing"),
        (json!({"key": 5, "variations": [0, 1]}), "key: expected a string"),
        (json!(5), ": expected an object"),
    ] {
        let document = rule(wrong.clone());
        let compiled = payload(&document);
        let path = "features.checkout.rules[1]";
        let expected =
            if expected.starts_with(':') { format!("{path}{expected}") } else { format!("{path}.{expected}") };
        assert!(problems(&document)[0].starts_with(&expected), "{wrong}: {:?}", problems(&document));
        let [disabled] = &compiled.disabled[..] else { panic!("{wrong}") };
        assert_eq!((disabled.key.as_deref(), disabled.position), (Some("checkout"), 0));
        assert!(disabled.problem.starts_with(&expected), "{disabled:?}");
        assert_eq!(decided(&compiled, "other", &json!({})).0, 1);
    }
}

#[test]
fn warning_does_not_disable_the_feature() {
    for (rule, expected, value) in [
        (json!({"force": 1, "soon": 1}), "features.f.rules[0].soon: unknown field", 1),
        (json!({"variations": [3, 3], "weights": [0.2]}), "features.f.rules[0].weights: not 2 weights", 3),
        (json!({"variations": [3, 3], "hashVersion": 7}), "features.f.rules[0].hashVersion: the hash version 7", 0),
        (
            json!({"force": 1, "condition": {"a": {"$near": 1}}}),
            "features.f.rules[0].condition.a.$near: unknown operator",
            0,
        ),
        (
            json!({"force": 1, "condition": {"id": {"$notInGroup": "g"}}}),
            "features.f.rules[0].condition.id.$notInGroup: there",
            1,
        ),
        (
            json!({"contextualVariations": [3, 3], "contextualBanditRef": "b"}),
            "features.f.rules[0].contextualBanditRef: there is no contextual bandit \"b\"",
            3,
        ),
        (
            json!({"parentConditions": [{"id": "x", "condition": {"value": 1}}], "force": 1}),
            "features.f.rules[0].parentConditions[0].id: there",
            0,
        ),
    ] {
        let document = json!({"features": {"f": {"defaultValue": 0, "rules": [rule]}}});
        assert!(problems(&document)[0].starts_with(expected), "{:?}", problems(&document));
        assert_eq!(decided(&payload(&document), "f", &json!({"id": "u1"})).0, value, "{rule}");
    }
}

#[test]
fn invalid_bandit_disables_its_features() {
    let rule = |bandit: &str| json!({"rules": [{"contextualVariations": [0, 1], "contextualBanditRef": bandit}]});
    let document = json!({
        "features": {"a": rule("good"), "b": rule("bad")},
        "contextualBandits": {
            "good": {"contexts": [{"leafId": 1, "weights": [1, 0]}]}, "bad": {"contexts": [{"leafId": 1, "weights": "x"}]},
        },
    });
    let payload = payload(&document);
    assert_eq!(payload.features.iter().map(|feature| &feature.key).collect::<Vec<_>>(), ["a"]);
    assert_eq!(
        problems(&document)[0],
        "contextualBandits.bad.contexts[0].weights: expected a list, found the string \"x\""
    );
    assert_eq!(
        payload.disabled[0].problem,
        "features.b.rules[0].contextualBanditRef: the contextual bandit \"bad\" is invalid"
    );
}

/// `{"f":{"defaultValue":"ü"}}` and `{}x`, encrypted by Node's `crypto`.
const FEATURES_ENCRYPTED: &str = "EBESExQVFhcYGRobHB0eHw==.dn+mCWdaqSmwZtJ+VpM4B66uhuSd0k6CKAiAo+4apqE=";
const NO_JSON_ENCRYPTED: &str = "EBESExQVFhcYGRobHB0eHw==.ZgjYVYwzZYhw7oQo5j+xyw==";

/// Replaces the `at`-th value of `value`, counted depth first, by `odd`. None if there are fewer.
fn replaced(value: &Value, at: &mut usize, odd: &Value) -> Value {
    if *at == 0 {
        *at = usize::MAX;
        return odd.clone();
    }
    *at = at.saturating_sub(usize::from(*at != usize::MAX));
    match value {
        Value::Array(list) => list.iter().map(|value| replaced(value, at, odd)).collect(),
        Value::Object(members) => {
            members.iter().map(|(name, value)| (name.clone(), replaced(value, at, odd))).collect()
        }
        value => value.clone(),
    }
}

#[test]
fn invalid_value_disables_its_feature_alone() {
    let document = json!({
        "features": {
            "a": {"defaultValue": 1, "rules": [
                {"parentConditions": [{"id": "b", "condition": {"value.x": {"$gt": 1}}, "gate": true}], "force": 1, "coverage": 0.5,
                 "range": [0, 0.5], "tracks": [{"experiment": {"key": "t"}, "result": {"key": "1", "hashValue": "u"}}]},
                {"variations": [1, 2], "weights": [0.5, 0.5], "ranges": [[0, 1], [0, 0]], "meta": [{"key": "0"}, {"name": "x"}],
                 "namespace": ["n", 0, 1], "filters": [{"seed": "s", "ranges": [[0, 1]], "attribute": "id", "hashVersion": 2}],
                 "bucketVersion": 1, "minBucketVersion": 1, "hashVersion": 2, "seed": "s", "condition": {"id": {"$inGroup": "g"}}},
                {"contextualVariations": [1, 2], "contextualBanditRef": "c"},
            ]},
            "b": {"defaultValue": {"x": 2}},
            "untouched": {"defaultValue": true},
        },
        "savedGroups": {"g": {"type": "list", "attributeKey": "id", "values": ["u1"]}},
        "contextualBandits": {"c": {"banditVersion": 1, "contexts": [{"leafId": 1, "condition": {"id": "u1"}, "weights": [1, 0]}]}},
        "experiments": [{"key": "r", "variations": [{}, {"urlRedirect": "https://shop.example/b"}], "persistQueryString": true,
                         "urlPatterns": [{"type": "simple", "include": true, "pattern": "/a*"}, {"type": "regex", "pattern": "^x"}]}],
    });
    let odd = [
        json!(null),
        json!(-1),
        json!(1e300),
        json!(""),
        json!("ä("),
        json!([]),
        json!([[null]]),
        json!({}),
        json!({"$a": 1}),
    ];
    let attributes = json!({"id": "u1"});
    let context = context(&attributes, "https://shop.example/a?x=ä%");
    for odd in &odd {
        for nth in 1.. {
            let mut at = nth;
            let document = replaced(&document, &mut at, odd);
            if at != usize::MAX {
                break;
            }
            let Some(payload) = compile(&document, None).payload else { continue };
            let mut evaluation = Evaluation::new(&payload, &context, Some(StickyDocuments::default()));
            let features = payload.features.iter().enumerate();
            let kept = features.filter(|(at, _)| evaluation.feature(*at).reason.name() == "default_value").count();
            evaluation.redirect();
            // The features stand first, and the last of them is no part of the others.
            let is_features = document["features"]["untouched"]["defaultValue"] != json!(true);
            assert!(kept > 0 || is_features, "{document}");
        }
    }
}
