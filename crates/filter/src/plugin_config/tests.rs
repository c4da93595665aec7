mod fields;

use super::protobuf_struct::tests::encode;
use super::*;
use fields::full;
use serde_json::json;

fn shown(problems: &Problems) -> Vec<String> {
    problems.iter().map(ToString::to_string).collect()
}

fn accepted(config: &Value) -> PluginConfig {
    PluginConfig::from_value(config).unwrap_or_else(|problems| panic!("{config}: {:?}", shown(&problems)))
}

fn refused(bytes: &[u8]) -> Vec<String> {
    shown(&PluginConfig::parse(bytes).unwrap_err())
}

#[test]
fn invalid_configurations_are_refused_with_the_path() {
    let rows: Value = serde_json::from_str(include_str!("../../../../tests/data/plugin_config_refused.json")).unwrap();
    let mut unexpected = Vec::new();
    for row in rows.as_array().unwrap() {
        let name = row["name"].as_str().unwrap();
        let problems = PluginConfig::parse(row["config"].to_string().as_bytes()).expect_err(name);
        let is_found = problems.iter().any(|problem| {
            row["field"] == problem.path.as_str() && problem.message.contains(row["message"].as_str().unwrap())
        });
        // One mistake, one problem.
        if !is_found || problems.errors() != 1 {
            unexpected.push(format!("{name}: {:?}", shown(&problems)));
        }
    }
    assert!(unexpected.is_empty(), "{}", unexpected.join("\n"));
}

#[test]
fn every_problem_is_reported() {
    let config = json!({
        "experiments": {"refresh": 10, "timeout": "0s", "inline": []},
        "visitor": {"id": [{"header": "a b"}, {"cookie": "a b"}], "attributes": {"id": "id", "x": "y"}},
        "request": {"assignments_header": "host", "cache_key": {"header": "te", "budget": -1}},
        "events": {"batch": {"max_age": "soon"}, "timeout": "1h", "retry": {"lease": 3}},
        "more": 1,
    });
    let problems = PluginConfig::from_value(&config).unwrap_err();
    let paths: Vec<&str> = problems.iter().map(|problem| problem.path.as_str()).collect();
    let expected = [
        "more",
        "experiments.refresh",
        "experiments.timeout",
        "experiments.inline",
        "visitor.id[0].header",
        "visitor.id[1].cookie",
        "visitor.attributes.id",
        "visitor.attributes.x",
        "request.assignments_header",
        "request.cache_key.header",
        "request.cache_key.budget",
        "events.cluster",
        "events.timeout",
        "events.batch.max_age",
        "events.retry.lease",
    ];
    assert_eq!(paths, expected);
}

#[test]
fn secrets_are_not_repeated() {
    for value in [json!("secret\n"), json!(["secret"])] {
        let config = json!({"experiments": {"cluster": "c", "headers": {"authorization": value}}});
        let problems = shown(&PluginConfig::from_value(&config).unwrap_err());
        assert_eq!(problems.len(), 1);
        assert!(!problems[0].contains("secret"), "{problems:?}");
    }
}

#[test]
fn empty_include_matches_every_path() {
    let config = accepted(&json!({"experiments": {"inline": {}}, "paths": {"include": []}}));
    assert!(config.paths.include.iter().any(|pattern| pattern.matches(b"*")));
}

#[test]
fn json_and_an_encoded_struct_are_distinguished() {
    let expected = accepted(&full());
    assert_eq!(PluginConfig::parse(full().to_string().as_bytes()), Ok(expected.clone()));
    assert_eq!(PluginConfig::parse(format!("\u{feff}{}", full()).as_bytes()), Ok(expected.clone()));
    assert_eq!(PluginConfig::parse(&encode(&full())), Ok(expected));
    // Problems are the same either way.
    let bad = json!({"experiments": {"cluster": "c", "max_bytes": 1.5}});
    let message = "experiments.max_bytes: expected a whole number from 1 to 33554432, found the number 1.5";
    assert_eq!(refused(bad.to_string().as_bytes()), [message]);
    assert_eq!(refused(&encode(&bad)), [message]);
}

#[test]
fn invalid_json_is_located() {
    for empty in ["", " \n", "{}"] {
        let problems = refused(empty.as_bytes());
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].starts_with("experiments: missing; expected an object with a \"cluster\""), "{problems:?}");
    }
    for (text, expected) in [
        (&b"{\n  \"experiments\": {,}\n}"[..], "line 2 column 19"),
        (b"experiments:\n  cluster: a", "line 1 column 1"),
        (b"{} {}", "trailing characters at line 1 column 4"),
        (b"\xff\xfe", "line 1 column 1"),
        (&encode(&full())[..100], "column 0"), // the tag of a Struct is a line feed
    ] {
        let problems = refused(text);
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].starts_with("expected a JSON object"), "{problems:?}");
        assert!(problems[0].contains(expected), "{problems:?}");
    }
}

#[test]
fn damaged_configurations_never_panic() {
    let (text, encoded) = (full().to_string().into_bytes(), encode(&full()));
    for bytes in [text, encoded] {
        for length in 0..bytes.len() {
            let _ = PluginConfig::parse(&bytes[..length]);
            for byte in [0, b'"', b'9', 0x7f, 0xff] {
                let mut mutated = bytes.clone();
                mutated[length] = byte;
                let _ = PluginConfig::parse(&mutated);
            }
        }
    }
}

#[test]
fn fallback_is_a_separate_endpoint() {
    let events = json!({"cluster": "collector", "fallback": {"cluster": "backup", "headers": {"X-Key": "k"}}});
    let config = PluginConfig::from_value(&json!({"experiments": {"cluster": "c"}, "events": events})).unwrap();
    let fallback = config.events.unwrap().fallback.unwrap();
    assert_eq!(
        (fallback.cluster.as_str(), fallback.authority.as_str(), fallback.path.as_str()),
        ("backup", "backup", "/")
    );
    assert_eq!(fallback.headers, [("x-key".to_owned(), "k".to_owned())]);
}

#[test]
fn authority_defaults_to_the_host_of_the_cluster() {
    for (cluster, expected) in [
        ("collector", "collector"),
        ("outbound|80||collector.analytics.svc.cluster.local", "collector.analytics.svc.cluster.local"),
    ] {
        let config = PluginConfig::from_value(&json!({"experiments": {"cluster": cluster}})).unwrap();
        assert_eq!(config.experiments.source.unwrap().endpoint.authority, expected);
    }
}

#[test]
fn spool_is_an_absolute_path() {
    let long = format!("/{}", "a".repeat(1_024));
    for (spool, is_accepted) in [
        (json!(null), true),
        (json!("/var/lib/edgesplit"), true),
        (json!("/"), false),
        (json!("spool"), false),
        (json!("/a\0b"), false),
        (json!(long), false),
        (json!(7), false),
    ] {
        let events = json!({"cluster": "collector", "outbox": {"spool": spool}});
        let config = PluginConfig::from_value(&json!({"experiments": {"cluster": "c"}, "events": events}));
        assert_eq!(config.is_ok(), is_accepted, "{spool}");
    }
}
