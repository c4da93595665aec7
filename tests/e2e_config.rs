//! Getting the experiments, in a real Envoy: who fetches, what comes into force when, and what a broken config service does.
#![allow(missing_docs)]
// Helpers of tests fail as tests do: by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice)]

use edgesplit_testkit::client::Client;
use edgesplit_testkit::envoy::Envoy;
use edgesplit_testkit::http::Response;
use edgesplit_testkit::server::Behaviour;
use edgesplit_testkit::stack::{Services, document, echoed, experiment, merged};
use edgesplit_testkit::{DEADLINE, eventually, eventually_eq};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const REFRESH: Duration = Duration::from_secs(1);

/// A plugin that fetches every [`REFRESH`], with the members of `with` on top.
fn plugin(with: Value) -> Value {
    let experiments = json!({"cluster": "experiments", "authority": "experiments.internal", "path": "/experiments.json",
                             "headers": {"authorization": "Bearer t"}, "refresh": "1s", "timeout": "2s"});
    merged(json!({"experiments": experiments, "visitor": {"id": [{"header": "x-user-id"}]}}), with)
}

/// A document in which all visitors are in `green` of the experiment `key`.
fn one(key: &str) -> Value {
    document(&[experiment(key, json!({}))])
}

/// What the origin sees of a visitor.
fn assignments(client: &mut Client) -> String {
    let reply = client.get("/").header("x-user-id", "u1").send();
    assert_eq!(reply.status, 200);
    echoed(&reply, "x-ab-assignments").join(" and ")
}

fn config(envoy: &Envoy, name: &str) -> u64 {
    envoy.counter(&format!("edgesplit.demo.config.{name}"))
}

#[test]
fn change_reaches_all_workers_within_the_refresh_interval() {
    let services = Services::start(&one("first"));
    let envoy = Envoy::start(&services.options(&plugin(json!({}))).workers(4));
    let mut clients = envoy.clients(4);
    for client in &mut clients {
        eventually_eq("the first config", "first=green".to_owned(), || assignments(client));
    }
    assert_eq!(envoy.connections_per_worker(), [1, 1, 1, 1]);
    for key in ["second", "third"] {
        services.configs.set_document(&one(key));
        let start = Instant::now();
        for client in &mut clients {
            eventually_eq(key, format!("{key}=green"), || assignments(client));
        }
        // Seconds more on a busy machine.
        assert!(start.elapsed() < REFRESH + Duration::from_secs(10), "{:?}", start.elapsed());
    }
    let request = services.configs.server.requests().remove(0);
    assert_eq!((request.method.as_str(), request.path.as_str()), ("GET", "/experiments.json"));
    assert_eq!(request.header("host").as_deref(), Some("experiments.internal"));
    assert_eq!(request.header("authorization").as_deref(), Some("Bearer t"));
}

/// `first` and 999 others that match nothing here: a megabyte.
fn thousand_experiments(first: &str) -> Value {
    let others = (1..1_000).map(|number| {
        let with = json!({"route": {"paths": [format!("/elsewhere/{number}*")]}, "audience": {"country": {"$ne": "x".repeat(800)}}});
        experiment(&format!("other-{number}"), with)
    });
    document(&std::iter::once(experiment(first, json!({}))).chain(others).collect::<Vec<_>>())
}

#[test]
fn large_config_changes_on_all_workers_under_load() {
    let services = Services::start(&thousand_experiments("first"));
    let envoy = Envoy::start(&services.options(&plugin(json!({}))).workers(2));
    let mut clients = envoy.clients(2);
    for client in &mut clients {
        eventually_eq("the first config", "first=green".to_owned(), || assignments(client));
    }
    for key in ["second", "third"] {
        services.configs.set_document(&thousand_experiments(key));
        // Every answer on the way is a 200 with either config whole: `assignments` asserts the one, this the other.
        for client in &mut clients {
            let mut seen = std::collections::BTreeSet::new();
            eventually_eq(key, format!("{key}=green"), || {
                let assignments = assignments(client);
                seen.insert(assignments.clone());
                assignments
            });
            assert!(seen.len() <= 2 && !seen.contains(""), "{seen:?}");
        }
    }
    assert_eq!(config(&envoy, "rejected"), 0);
}

#[test]
fn one_of_five_vms_fetches_an_interval_and_most_answers_are_304() {
    let services = Services::start(&one("nav"));
    let envoy = Envoy::start(&services.options(&plugin(json!({}))).workers(4));
    let count = 8;
    let fetches = eventually(DEADLINE, "the intervals pass", || {
        let fetches = services.configs.server.requests();
        (fetches.len() >= count).then_some(fetches)
    });
    // The call of the trial VM at the start is lost with it, and a second one may follow at once. After that, an interval is
    // at most a tenth shorter than it is configured. Single gaps also depend on the load of the machine.
    let passed = fetches[count - 1].arrived - fetches[1].arrived;
    assert!(passed >= REFRESH * (count as u32 - 2) * 85 / 100, "{passed:?}");
    let not_modified = eventually(DEADLINE, "they are answered", || {
        Some(services.configs.not_modified()).filter(|not_modified| *not_modified >= count as u64 - 2)
    });
    let sent = services.configs.sent();
    assert!((1..=2).contains(&sent), "{sent} sent");
    eventually(DEADLINE, "counted", || (config(&envoy, "fetch_not_modified") >= not_modified).then_some(()));
    assert_eq!((config(&envoy, "fetch_success"), config(&envoy, "fetch_failure")), (1, 0));
    assert_eq!(config(&envoy, "rejected"), 0);
}

#[test]
fn without_a_config_requests_pass_untouched_and_counted_until_the_service_comes_up() {
    let services = Services::start(&one("nav"));
    services.configs.server.set(Behaviour::Refuse);
    let envoy = services
        .envoy(&plugin(json!({"visitor": {"mint": {"secure": false}}, "request": {"cache_key": {"query": "__ab"}}})));
    let mut client = envoy.client();
    for _ in 0..20 {
        let reply = client.get("/a?b=c").header("x-user-id", "u1").header("x-ab-assignments", "nav=forged").send();
        assert_eq!((reply.status, reply.json()["path"].as_str()), (200, Some("/a?b=c")));
        assert_eq!(echoed(&reply, "x-ab-assignments"), [""; 0]);
        assert_eq!(echoed(&reply, "x-ab-cache-key"), [""; 0]);
        assert_eq!((reply.header("set-cookie"), reply.header("cache-control")), (None, None));
    }
    eventually_eq("counted", 20, || envoy.counter("edgesplit.demo.errors.no_config"));
    eventually(DEADLINE, "failures are counted", || (config(&envoy, "fetch_failure") >= 2).then_some(()));

    services.configs.server.set(Behaviour::Respond);
    eventually_eq("it recovers", "nav=green".to_owned(), || assignments(&mut client));
}

#[test]
fn last_good_config_survives_faults_which_are_counted() {
    let services = Services::start(&one("good"));
    let envoy = services.envoy(&plugin(json!({"experiments": {"max_bytes": 5000, "refresh": "400ms"}})));
    let mut clients = envoy.clients(2);
    for client in &mut clients {
        eventually_eq("the first config", "good=green".to_owned(), || assignments(client));
    }
    let respond = |response: Response| services.configs.server.respond(move |_| response.clone());
    let body = |body: String| respond(Response::new(200).body(body));
    let behave = |behaviour| services.configs.server.set(behaviour);
    let large = merged(one("large"), json!({"padding": "x".repeat(5000)})).to_string();
    let faults: [(&str, &str, &dyn Fn()); 14] = [
        ("503", "fetch_failure", &|| behave(Behaviour::Status(503))),
        ("404", "fetch_failure", &|| behave(Behaviour::Status(404))),
        ("a redirect", "fetch_failure", &|| behave(Behaviour::Status(302))),
        ("not HTTP", "fetch_failure", &|| behave(Behaviour::Garbage)),
        ("a truncated body", "fetch_failure", &|| behave(Behaviour::Truncate)),
        ("no answer in time", "fetch_failure", &|| behave(Behaviour::Hang)),
        ("a body that drips", "fetch_failure", &|| behave(Behaviour::Drip(Duration::from_millis(50)))),
        ("a reset", "fetch_failure", &|| behave(Behaviour::Reset)),
        ("no connection", "fetch_failure", &|| behave(Behaviour::Refuse)),
        ("broken JSON", "rejected", &|| body(r#"{"schema": 1, "experiments": ["#.to_owned())),
        ("JSON of another shape", "rejected", &|| body("[]".to_owned())),
        ("another schema", "rejected", &|| body(merged(one("later"), json!({"schema": 2})).to_string())),
        ("too large", "rejected", &|| body(large.clone())),
        ("an empty body", "rejected", &|| body(String::new())),
    ];
    // Each fault meets a fetch that asks for a new document, not one that is answered 304.
    services.configs.server.respond(|_| Response::json(200, &one("new")));
    eventually_eq("a new config", "new=green".to_owned(), || assignments(&mut clients[0]));
    for (name, counter, fault) in faults {
        let other = if counter == "rejected" { "fetch_failure" } else { "rejected" };
        fault();
        // A fetch that was under way may still be answered by the fault before this one.
        let met = services.configs.server.requests_received() + 1;
        let before = (config(&envoy, counter), config(&envoy, other));
        eventually(DEADLINE, name, || {
            let asked = services.configs.server.requests_received() >= met || name == "no connection";
            (asked && config(&envoy, counter) > before.0).then_some(())
        });
        assert!(config(&envoy, other) <= before.1 + 1, "{name} counts as {counter} alone");
        for client in &mut clients {
            eventually_eq(name, "new=green".to_owned(), || assignments(client));
        }
    }
    services.configs.server.respond(|_| Response::json(200, &one("after")));
    for client in &mut clients {
        eventually_eq("it is asked again", "after=green".to_owned(), || assignments(client));
    }
    // From `good` to `new`, and from `new` to `after`: each once, for both workers.
    eventually_eq("changes", 2, || config(&envoy, "changes"));
    let log = envoy.log();
    for cause in [
        "no connection to cluster \"experiments\": ",
        "cluster \"experiments\" did not answer in time",
        "the call to cluster \"experiments\" broke off: ",
        "the call to cluster \"experiments\" was reset",
        "(status 404)",
    ] {
        assert!(log.contains(cause), "{cause}: {log}");
    }
}

#[test]
fn inline_experiments_are_in_force_until_the_first_good_fetch() {
    let services = Services::start(&one("fetched"));
    services.configs.server.set(Behaviour::Status(500));
    let envoy = services.envoy(&plugin(json!({"experiments": {"inline": one("inline")}})));
    let mut clients = envoy.clients(2);
    for client in &mut clients {
        assert_eq!(assignments(client), "inline=green", "from the first request on");
    }
    eventually(DEADLINE, "failures are counted", || (config(&envoy, "fetch_failure") >= 2).then_some(()));
    assert_eq!(assignments(&mut clients[0]), "inline=green");
    services.configs.server.set(Behaviour::Respond);
    for client in &mut clients {
        eventually_eq("the fetched ones", "fetched=green".to_owned(), || assignments(client));
    }
    services.configs.server.set(Behaviour::Refuse);
    let failures = config(&envoy, "fetch_failure");
    eventually(DEADLINE, "it fails again", || (config(&envoy, "fetch_failure") > failures).then_some(()));
    assert_eq!(assignments(&mut clients[0]), "fetched=green", "inline never comes back");
    assert_eq!(envoy.counter("edgesplit.demo.errors.no_config"), 0);
}

#[test]
fn unknown_cluster_keeps_the_inline_config_and_is_counted() {
    let services = Services::start(&json!({}));
    let envoy = services.envoy(&plugin(json!({"experiments": {"cluster": "nowhere", "inline": one("inline")}})));
    eventually(DEADLINE, "failures are counted", || (config(&envoy, "fetch_failure") >= 3).then_some(()));
    assert_eq!(assignments(&mut envoy.client()), "inline=green");
    assert!(envoy.log().contains("experiments could not be fetched (there is no cluster \"nowhere\")"));
}

#[test]
fn invalid_experiment_is_disabled_alone_and_logged() {
    let mixed = document(&[
        experiment("good", json!({})),
        json!({"key": "bad", "state": "running", "variants": [{"key": "a", "weight": 1}]}),
        experiment("also-good", json!({})),
    ]);
    let services = Services::start(&mixed);
    let envoy = services.envoy(&plugin(json!({})));
    let mut client = envoy.client();
    eventually_eq("the others", "also-good=green, good=green".to_owned(), || assignments(&mut client));
    eventually_eq("the gauge", 1, || config(&envoy, "disabled_experiments"));
    let log = envoy.log();
    assert!(log.lines().any(|line| line.contains("experiments[1].variants")), "{log}");

    services.configs.set_document(&one("good"));
    eventually_eq("mended", "good=green".to_owned(), || assignments(&mut client));
    eventually_eq("the gauge", 0, || config(&envoy, "disabled_experiments"));
}

#[test]
fn config_age_grows_without_confirmation() {
    let services = Services::start(&one("nav"));
    let envoy = services.envoy(&plugin(json!({})));
    eventually_eq("the config", "nav=green".to_owned(), || assignments(&mut envoy.client()));
    services.configs.server.set(Behaviour::Status(503));
    eventually(DEADLINE, "it ages", || (config(&envoy, "age_seconds") >= 4).then_some(()));
    services.configs.server.set(Behaviour::Respond);
    eventually(DEADLINE, "it is young again", || (config(&envoy, "age_seconds") <= 1).then_some(()));
}
