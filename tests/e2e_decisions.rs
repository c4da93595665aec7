//! Decisions in a real Envoy and in the command, against values that were computed independently of the engine.
#![allow(missing_docs)]
// Helpers of tests fail as tests do: by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice)]

use edgesplit_testkit::bootstrap::{ConfigForm, Plugin};
use edgesplit_testkit::client::{Client, Outgoing};
use edgesplit_testkit::command::{self, results};
use edgesplit_testkit::envoy::Envoy;
use edgesplit_testkit::eventually_eq;
use edgesplit_testkit::stack::{Services, document, echoed, experiment, merged};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Output;

fn golden() -> Value {
    serde_json::from_str(include_str!("data/golden_decisions.json")).unwrap()
}

fn golden_experiments() -> Value {
    serde_json::from_str(include_str!("data/golden_experiments.json")).unwrap()
}

/// The plugin configuration of the golden visitors.
fn golden_plugin(golden: &Value) -> Value {
    merged(json!({"experiments": {"inline": golden_experiments()}}), golden["plugin"].clone())
}

fn text<'a>(visitor: &'a Value, name: &str) -> &'a str {
    visitor[name].as_str().unwrap_or_else(|| panic!("no {name} in {visitor}"))
}

/// A golden visitor's request.
fn outgoing(visitor: &Value) -> Outgoing {
    let mut outgoing = Outgoing::new(text(visitor, "method"), text(visitor, "path")).host(text(visitor, "host"));
    for (header, name) in [("x-user-id", "id"), ("x-country", "country")] {
        if let Some(value) = visitor[name].as_str() {
            outgoing = outgoing.header(header, value);
        }
    }
    outgoing
}

/// The values a header must have: none where it is empty.
fn expected(value: &Value) -> Vec<&str> {
    value.as_str().into_iter().filter(|value| !value.is_empty()).collect()
}

#[track_caller]
fn assert_decided(client: &mut Client, visitor: &Value) {
    let reply = client.send(&outgoing(visitor)).unwrap();
    assert_eq!(reply.status, 200, "{visitor}");
    assert_eq!(echoed(&reply, "x-ab-assignments"), expected(&visitor["assignments"]), "{visitor}");
    assert_eq!(echoed(&reply, "x-ab-cache-key"), expected(&visitor["cache_key"]), "{visitor}");
}

/// Sends all visitors on each of the connections, side by side.
fn assert_all_decided(clients: Vec<Client>, visitors: &[Value]) {
    std::thread::scope(|scope| {
        for mut client in clients {
            scope.spawn(move || visitors.iter().for_each(|visitor| assert_decided(&mut client, visitor)));
        }
    });
}

#[test]
fn decisions_match_the_formulas_on_every_worker() {
    let golden = golden();
    let visitors = golden["visitors"].as_array().unwrap();
    assert_eq!(visitors.len(), 1000);
    let services = Services::start(&json!({}));
    for form in [ConfigForm::Text, ConfigForm::Struct] {
        let plugin = Plugin { form, ..Plugin::new(golden_plugin(&golden)) };
        let envoy = Envoy::start(&services.proxy_options().plugin(plugin).workers(4));
        assert_all_decided(envoy.clients(4), visitors);
        assert_eq!(envoy.connections_per_worker(), [1, 1, 1, 1], "{form:?}");
    }
}

#[test]
fn command_makes_the_same_decisions_with_the_same_reasons() {
    let golden = golden();
    let visitors = golden["visitors"].as_array().unwrap();
    let plugin = file("golden_plugin.json", &golden_plugin(&golden).to_string());
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/golden_experiments.json");
    let experiments = golden_experiments();
    let keys: Vec<&Value> = experiments["experiments"].as_array().unwrap().iter().map(|one| &one["key"]).collect();
    // The id by its own name, and as the request carries it.
    for as_header in [false, true] {
        let lines = visitors.iter().map(|visitor| line(visitor, as_header)).collect::<String>();
        let output = evaluate(
            &["--config", path(&data), "--plugin", path(&plugin), "--now", golden["now"].as_str().unwrap()],
            &lines,
        );
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let results = results(&output);
        assert_eq!(results.len(), visitors.len());
        for (result, visitor) in results.iter().zip(visitors) {
            let rows = visitor["decisions"].as_array().unwrap().iter().zip(&keys);
            let decisions: Vec<Value> = rows
                .map(|(row, key)| {
                    json!({"key": key, "experiment": null, "variant": row[0], "value": null, "reason": row[1],
                           "in_experiment": row[0].is_string()})
                })
                .collect();
            let expected = json!({"decisions": decisions, "assignments": visitor["assignments"],
                                  "cache_key": visitor["cache_key"]});
            assert_eq!(*result, expected, "{visitor}");
        }
    }
}

fn line(visitor: &Value, as_header: bool) -> String {
    let mut headers = json!({});
    if let Some(country) = visitor["country"].as_str() {
        headers["x-country"] = json!(country);
    }
    let mut line = json!({"host": visitor["host"], "path": visitor["path"], "method": visitor["method"]});
    match visitor["id"].as_str() {
        Some(id) if as_header => headers["x-user-id"] = json!(id),
        Some(id) => line["id"] = json!(id),
        None => {}
    }
    line["headers"] = headers;
    format!("{line}\n")
}

#[test]
fn bad_line_is_reported_and_the_others_are_answered() {
    let config = file("one_experiment.json", &document(&[experiment("nav", json!({}))]).to_string());
    let output = evaluate(&["--config", path(&config)], "{\"id\": \"u1\"}\n\nnot JSON\n{\"id\": \"u2\"}\n");
    assert_eq!(output.status.code(), Some(1));
    let results = results(&output);
    assert_eq!(results.len(), 3);
    assert_eq!((&results[0]["assignments"], &results[2]["assignments"]), (&json!("nav=green"), &json!("nav=green")));
    assert!(results[1]["error"].is_string(), "{}", results[1]);
}

#[test]
fn audiences_and_units_are_read_from_where_the_aliases_say() {
    let audience = |name: &str, value: &str| json!({"audience": {name: value}});
    let services = Services::start(&json!({}));
    let envoy = services.envoy(&json!({
        "experiments": {"inline": document(&[
            experiment("by-country", audience("country", "DE")),
            experiment("by-plan", audience("plan", "pro")),
            experiment("by-utm", audience("utm", "a b")),
            experiment("by-host", audience("host", "shop.example")),
            experiment("by-header", audience("header.x-tier", "gold")),
            experiment("per-company", json!({"unit": "company"})),
        ])},
        "visitor": {"id": [{"cookie": "uid"}], "attributes": {"country": "header.x-country", "plan": "cookie.plan",
                    "utm": "query.utm_source", "company": "header.x-company"}}}));
    let mut client = envoy.client();
    for (path, host, headers, expected) in [
        ("/", "other.test", vec![("cookie", "uid=1")], vec![]),
        ("/", "other.test", vec![("cookie", "uid=1"), ("x-country", "DE")], vec!["by-country=green"]),
        ("/", "other.test", vec![("cookie", "uid=1"), ("x-country", "de")], vec![]),
        ("/", "other.test", vec![("cookie", "uid=1; plan=pro")], vec!["by-plan=green"]),
        ("/?utm_source=a%20b", "other.test", vec![("cookie", "uid=1")], vec!["by-utm=green"]),
        ("/", "Shop.Example:8080", vec![("cookie", "uid=1")], vec!["by-host=green"]),
        ("/", "other.test", vec![("cookie", "uid=1"), ("x-tier", "gold")], vec!["by-header=green"]),
        // The unit is not the visitor here, who need not be known.
        ("/", "other.test", vec![("x-company", "acme")], vec!["per-company=green"]),
        (
            "/?utm_source=a+b",
            "shop.example",
            vec![("cookie", "plan=pro"), ("cookie", "uid=1")],
            vec!["by-host=green, by-plan=green, by-utm=green"],
        ),
    ] {
        let request =
            headers.iter().fold(client.get(path).host(host), |request, (name, value)| request.header(name, value));
        assert_eq!(echoed(&request.send(), "x-ab-assignments"), expected, "{path} {host} {headers:?}");
    }
}

#[test]
fn two_plugins_in_one_envoy_keep_to_themselves() {
    let services = Services::start(&json!({}));
    let configuration = |key: &str| {
        json!({"experiments": {"inline": document(&[experiment(key, json!({}))])},
               "visitor": {"id": [{"header": "x-user-id"}]},
               "request": {"assignments_header": format!("x-{key}"), "cache_key": {"header": format!("x-key-{key}")}},
               "events": {"cluster": "collector", "path": format!("/{key}"), "batch": {"max_age": "100ms"}}})
    };
    let other = Plugin { name: "other".to_owned(), ..Plugin::new(configuration("b")) };
    let mut other = services.proxy_options().plugin(other).bootstrap();
    let filters = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config/http_filters";
    let second = other.pointer_mut(filters).unwrap()[0].take();
    let envoy = Envoy::start(&services.options(&configuration("a")).adjust(move |bootstrap| {
        bootstrap.pointer_mut(filters).unwrap().as_array_mut().unwrap().insert(1, second.clone());
    }));
    let mut client = envoy.client();
    let reply = client.get("/").header("x-user-id", "u1").send();
    assert_eq!(
        (echoed(&reply, "x-a"), echoed(&reply, "x-b")),
        (vec!["a=green".to_owned()], vec!["b=green".to_owned()])
    );
    for (plugin, key) in [("demo", "a"), ("other", "b")] {
        eventually_eq(plugin, 1, || envoy.counter(&format!("edgesplit.{plugin}.events.delivered")));
        assert_eq!(envoy.counter(&format!("edgesplit.{plugin}.events.emitted")), 1);
        let batches = services.collector.batches();
        let batch = batches.iter().find(|batch| batch.path == format!("/{key}")).unwrap();
        assert_eq!(batch.events[0]["experiment"], key);
    }
    assert_eq!(services.collector.calls(), 2);
}

fn evaluate(arguments: &[&str], input: &str) -> Output {
    command::edgesplit(&[&["evaluate"], arguments].concat(), input)
}

fn file(name: &str, content: &str) -> PathBuf {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&file, content).unwrap();
    file
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}
