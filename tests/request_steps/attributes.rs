//! Work beside conditions: attributes in events, units, and many flags.

use super::{Case, case, checks, filled, list, native};
use serde_json::{Value, json};

/// Attributes that are looked up beside conditions: units, and those in events.
pub(super) fn attribute_cases() -> Vec<Case> {
    let aliases = |source: &str| {
        let names = (0..64).map(|at| (format!("alias-{at}"), json!(source.replace('#', &at.to_string()))));
        json!({"visitor": {"id": [{"cookie": "uid"}], "attributes": names.collect::<serde_json::Map<_, _>>()}})
    };
    let everyone = || native(64, |_| json!({}));
    let by = |unit: &str| {
        let mut experiments = native(500, |_| json!({}));
        for (number, experiment) in experiments["experiments"].as_array_mut().unwrap().iter_mut().enumerate() {
            experiment["unit"] = unit.replace('#', &number.to_string()).into();
        }
        experiments
    };
    let vendors = |name: &str| {
        let mut plugin = aliases(name);
        plugin["experiments"] = json!({"format": "growthbook"});
        plugin["events"] = json!({"format": "growthbook"});
        plugin
    };
    let tests = |count: usize, unit: &str| {
        let feature = |number: usize| {
            let rule = json!({"key": format!("e{number}"), "variations": [false, true], "weights": [0.5, 0.5],
                "hashAttribute": unit.replace('#', &number.to_string())});
            (format!("f{number}"), json!({"defaultValue": false, "rules": [rule]}))
        };
        json!({"features": (0..count).map(feature).collect::<serde_json::Map<_, _>>()})
    };
    let uid = ("cookie", "uid=1");
    let cookies = |part: &str| format!("uid=1;{}", filled(part));
    let similar = "a".repeat(50);
    let names = format!("{similar}b=1;");
    let long_path = format!("/{}", filled("a"));
    let long_query = format!("/?{}", filled("a=%61&"));
    let named = "cookie.".to_owned() + &similar + "#";
    vec![
        case("aliases of cookies", aliases("cookie.a#"), everyone(), &[("cookie", &cookies("a=;"))]),
        case("aliases of similar cookies", aliases(&named), everyone(), &[("cookie", &cookies(&names))]),
        case("aliases of a long cookie", aliases("cookie.a"), everyone(), &[("cookie", &cookies("a="))]),
        case("aliases of the query", aliases("query.a#"), everyone(), &[uid, (":path", &long_query)]),
        case("aliases of the URL", aliases("url"), everyone(), &[uid, (":path", &long_path)]),
        case("aliases of the host", aliases("host"), everyone(), &[uid, (":authority", &filled("A"))]),
        case("units in cookies", aliases("id"), by(&named), &[("cookie", &cookies(&names))]),
        case("units in the query", aliases("id"), by("query.a#"), &[uid, (":path", &long_query)]),
        case("units by an alias", aliases("query.a#"), by("alias-0"), &[uid, (":path", &long_query)]),
        case("vendor's events", vendors("header.x-a"), tests(500, "id"), &[uid, ("x-a", &filled("a"))]),
        case("vendor's events of a long URL", vendors("url"), tests(500, "id"), &[uid, (":path", &long_path)]),
        case("vendor's events of cookies", vendors(&named), tests(500, "id"), &[("cookie", &cookies(&names))]),
        case("many vendor's events", vendors("id"), tests(5_000, "id"), &[uid]),
        case("vendor's units", vendors("id"), tests(500, "header.x-a"), &[("x-a", &filled("a"))]),
        case("vendor's units in cookies", vendors("id"), tests(500, &named), &[("cookie", &cookies(&names))]),
        case(
            "ids and cookie checks",
            json!({"visitor": {"id": list(8, |at| json!({"cookie": format!("{similar}{at}")})), "mint": {},
                "consent": {"cookie": "acc", "contains": "x"}, "attributes": {"plan": named.replace('#', "x")}}}),
            checks(&["plan", &named], &json!("x")),
            &[("cookie", &format!("acc=x;uid=1;{}", filled(&names)))],
        ),
    ]
}

/// The first flag of each vendor's example, 2,000 times.
pub(super) fn many_flags() -> Vec<Case> {
    let case_of = |(format, list, name, country): (&str, &str, &str, &str)| {
        let example = edgesplit_testkit::root().join(format!("examples/{format}.json"));
        let mut config: Value = serde_json::from_slice(&std::fs::read(example).unwrap()).unwrap();
        let flags = config[list].as_array().cloned();
        let first = flags.map_or_else(|| config[list]["checkout-button"].clone(), |flags| flags[0].clone());
        let flags = (0..2_000).map(|at| {
            let mut flag = first.clone();
            (flag[name], flag["id"]) = (format!("f{at}").into(), at.into());
            flag
        });
        config[list] = match config[list] {
            Value::Array(_) => flags.collect(),
            _ => flags
                .map(|flag| (flag[name].as_str().unwrap().to_owned(), flag))
                .collect::<serde_json::Map<_, _>>()
                .into(),
        };
        let plugin = json!({"experiments": {"format": format},
            "visitor": {"id": [{"cookie": "uid"}], "attributes": {"country": "header.x-country"}}});
        let headers = [("cookie".to_owned(), "uid=1".to_owned()), ("x-country".to_owned(), country.to_owned())];
        Case {
            name: Box::leak(format!("{format} {}", country.len()).into()),
            plugin,
            experiments: config,
            headers: headers.into(),
        }
    };
    let long = filled("DE");
    let vendors = [
        ("eppo", "flags", "key"),
        ("flagd", "flags", "key"),
        ("posthog", "flags", "key"),
        ("unleash", "features", "name"),
    ];
    vendors
        .iter()
        .flat_map(|(format, list, name)| ["DE", &long].map(|country| case_of((format, list, name, country))))
        .collect()
}
