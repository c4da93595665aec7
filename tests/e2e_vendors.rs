//! Vendors' payloads in a real Envoy: the same decisions as the command's, and events as the vendors' services take them.
#![allow(missing_docs)]
// Helpers of tests fail as tests do: by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice)]

use edgesplit_testkit::client::Outgoing;
use edgesplit_testkit::command;
use edgesplit_testkit::envoy::Envoy;
use edgesplit_testkit::stack::{Accounts, Services, echoed, merged, texts};
use edgesplit_testkit::{DEADLINE, eventually, eventually_eq};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

const VISITORS: usize = 200;
const FORMATS: [&str; 4] = ["optimizely", "growthbook", "eppo", "flagd"];

/// The sample payload of a format. It has five flags.
fn payload(format: &str) -> (PathBuf, Value) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("examples/{format}.json"));
    let payload = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    (file, payload)
}

fn plugin(format: &str, with: Value) -> Value {
    let base = json!({
        "experiments": {"cluster": "experiments", "format": format, "refresh": "1s"}, "effects": {},
        "visitor": {"id": [{"header": "x-user-id"}],
                    "attributes": {"country": "header.x-country", "plan": "cookie.plan", "app_version": "query.app"}},
    });
    merged(base, with)
}

/// A mixed population: every country, plan and version, some without, and the visitors that the payloads name.
#[derive(Debug)]
struct Visitor {
    id: String,
    attributes: Vec<(&'static str, &'static str)>,
}

fn visitors() -> Vec<Visitor> {
    let pick = |number: usize, values: &[&'static str]| values[number % values.len()];
    (0..VISITORS)
        .map(|number| Visitor {
            id: if number == 11 { "qa-1".to_owned() } else { format!("visitor-{number}") },
            attributes: [
                ("country", pick(number, &["DE", "AT", "CH", "FR", ""])),
                ("plan", pick(number / 5, &["pro", "free", "professional", ""])),
                ("app_version", pick(number / 3, &["2.1.0", "2.0.9", "3.0.0-beta", "10.2", "", "x"])),
            ]
            .into_iter()
            .filter(|(_, value)| !value.is_empty())
            .collect(),
        })
        .collect()
}

impl Visitor {
    fn request(&self) -> Outgoing {
        let value = |name| self.attributes.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
        let request = match value("app_version") {
            Some(version) => Outgoing::get(&format!("/shop?a=1&app={version}")),
            None => Outgoing::get("/shop?a=1"),
        };
        let request = request.header("x-user-id", &self.id);
        let request =
            value("country").into_iter().fold(request, |request, country| request.header("x-country", country));
        value("plan").into_iter().fold(request, |request, plan| request.header("cookie", format!("plan={plan}")))
    }

    fn line(&self) -> String {
        let attributes: BTreeMap<_, _> = self.attributes.iter().copied().collect();
        format!("{}\n", json!({"id": self.id, "path": "/shop", "attributes": attributes}))
    }
}

/// What the command decides for these visitors.
fn evaluated(format: &str, visitors: &[Visitor]) -> Vec<Value> {
    let lines: String = visitors.iter().map(Visitor::line).collect();
    let file = payload(format).0;
    let plugin_file = std::env::temp_dir().join(format!("edgesplit-{}-{format}.json", std::process::id()));
    std::fs::write(&plugin_file, plugin(format, json!({})).to_string()).unwrap();
    let files = [file, plugin_file].map(|file| file.to_str().unwrap().to_owned());
    let output = command::edgesplit(&["evaluate", "--config", &files[0], "--plugin", &files[1]], &lines);
    assert!(output.status.success(), "{output:?}");
    command::results(&output)
}

fn until_served(envoy: &Envoy) {
    for mut client in envoy.clients(2) {
        let qa = || client.get("/").header("x-user-id", "qa-1").header("x-country", "DE").send();
        let mut qa = qa;
        eventually(DEADLINE, "the worker has the payload", || {
            (!echoed(&qa(), "x-ab-assignments").is_empty()).then_some(())
        });
    }
}

#[test]
fn decisions_equal_those_of_the_command_in_each_format() {
    for format in FORMATS {
        let services = Services::start(&payload(format).1);
        let envoy = services.envoy(&plugin(format, json!({})));
        until_served(&envoy);
        let visitors = visitors();
        let results = evaluated(format, &visitors);
        let mut clients = envoy.clients(4);
        let (mut decisions, mut reasons) = (0, BTreeMap::<String, usize>::new());
        let mut seen = BTreeSet::new();
        for (number, (visitor, result)) in visitors.iter().zip(&results).enumerate() {
            let reply = clients[number % 4].send(&visitor.request()).unwrap();
            let header = |name: &str| echoed(&reply, name).join(",");
            assert_eq!(header("x-ab-assignments"), result["assignments"], "{visitor:?}: {result}");
            assert_eq!(header("x-ab-cache-key"), result["cache_key"], "{visitor:?}: {result}");
            for decision in result["decisions"].as_array().unwrap() {
                decisions += 1;
                *reasons.entry(decision["reason"].as_str().unwrap().to_owned()).or_default() += 1;
                seen.insert((
                    decision["key"].to_string(),
                    decision["variant"].to_string(),
                    decision["value"].to_string(),
                ));
                let set = decision["value"]["edgesplit"]["request_headers"].as_object();
                for (name, value) in set.into_iter().flatten() {
                    assert_eq!(json!(header(name)), *value, "{visitor:?}: {decision}");
                }
            }
        }
        println!("{format}: {decisions} decisions with {} outcomes, all as the command's; {reasons:?}", seen.len());
        assert_eq!(decisions, 1_000);
        assert!(seen.len() > 10 && reasons.len() >= 3, "a mixed lot: {seen:?} {reasons:?}");
    }
}

/// The bodies that the collector accepted.
fn bodies(services: &Services) -> Vec<Value> {
    services.collector.server.requests().iter().filter_map(|request| request.json()).collect()
}

/// All visitors, each asking twice, and what was decided about them in experiments: id, experiment, variant.
fn shown(services: &Services, envoy: &Envoy, format: &str) -> BTreeSet<(String, String, String)> {
    until_served(envoy);
    let visitors = visitors();
    // One worker: events are deduplicated by worker.
    let mut client = envoy.client();
    for visitor in visitors.iter().chain(&visitors) {
        assert_eq!(client.send(&visitor.request()).unwrap().status, 200);
    }
    let results = evaluated(format, &visitors);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let mut expected = BTreeSet::new();
    for (visitor, result) in visitors.iter().zip(&results) {
        let decisions = result["decisions"].as_array().unwrap().iter();
        for decision in decisions.filter(|decision| decision["in_experiment"] == true) {
            let experiment = decision["experiment"].as_str().map_or_else(|| text(&decision["key"]), str::to_owned);
            expected.insert((visitor.id.clone(), experiment, text(&decision["variant"])));
        }
    }
    Accounts::at_rest(envoy, |accounts| accounts.emitted > 0 && accounts.delivered == accounts.emitted);
    assert!(services.collector.calls() > 0);
    expected
}

#[test]
fn optimizely_gets_its_own_batches() {
    let services = Services::start(&payload("optimizely").1);
    services.collector.answer_status(204);
    let events =
        json!({"cluster": "collector", "format": "optimizely", "path": "/v1/events", "batch": {"max_age": "200ms"}});
    let envoy = Envoy::start(&services.options(&plugin("optimizely", json!({"events": events}))).workers(1));
    let expected = shown(&services, &envoy, "optimizely");
    let mut found = BTreeSet::new();
    let mut uuids = BTreeSet::new();
    for request in services.collector.server.requests() {
        assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/v1/events"));
        assert_eq!(texts(&request, "content-type"), ["application/json"]);
    }
    for body in bodies(&services) {
        assert_eq!(
            (&body["account_id"], &body["project_id"], &body["revision"]),
            (&json!("12001"), &json!("21001"), &json!("42"))
        );
        assert_eq!((&body["anonymize_ip"], &body["enrich_decisions"]), (&json!(true), &json!(true)));
        for visitor in body["visitors"].as_array().unwrap() {
            let snapshot = &visitor["snapshots"][0];
            let (decision, event) = (&snapshot["decisions"][0], &snapshot["events"][0]);
            assert_eq!((&event["key"], &event["entity_id"]), (&json!("campaign_activated"), &decision["campaign_id"]));
            assert!(uuids.insert(event["uuid"].as_str().unwrap().to_owned()), "a uuid is one event's");
            let metadata = &decision["metadata"];
            if metadata["rule_type"] != "rollout" {
                let text = |value: &Value| value.as_str().unwrap().to_owned();
                let of = (text(&visitor["visitor_id"]), text(&metadata["rule_key"]), text(&metadata["variation_key"]));
                assert!(found.insert(of), "an exposure comes once: {visitor}");
            }
        }
    }
    println!("{} impressions, {} of them in experiments", uuids.len(), found.len());
    // The one of `until_served`, on another page.
    found.retain(|(id, ..)| id != "qa-1");
    let expected: BTreeSet<_> = expected.into_iter().filter(|(id, ..)| id != "qa-1").collect();
    assert_eq!(found, expected);
    assert_eq!(Accounts::of(&envoy).delivered, uuids.len() as u64);
}

#[test]
fn growthbook_gets_its_own_events() {
    let services = Services::start(&payload("growthbook").1);
    services.collector.answer_status(200);
    let events = json!({"cluster": "collector", "format": "growthbook", "path": "/track?client_key=sdk-abc",
                        "batch": {"max_age": "200ms"}});
    let envoy = Envoy::start(&services.options(&plugin("growthbook", json!({"events": events}))).workers(1));
    let expected = shown(&services, &envoy, "growthbook");
    for request in services.collector.server.requests() {
        assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/track?client_key=sdk-abc"));
        assert_eq!(texts(&request, "content-type"), ["text/plain"]);
    }
    let mut found = BTreeSet::new();
    for body in bodies(&services) {
        for event in body.as_array().unwrap() {
            assert_eq!(event["event_name"], "Experiment Viewed");
            let properties = &event["properties_json"];
            let text =
                |name: &str| properties[name].as_str().unwrap_or_else(|| panic!("no {name}: {event}")).to_owned();
            assert_eq!(text("hashAttribute"), "id");
            assert!(found.insert((text("hashValue"), text("experimentId"), text("variationId"))), "once: {event}");
        }
    }
    println!("{} experiments viewed", found.len());
    found.retain(|(id, ..)| id != "qa-1");
    let expected: BTreeSet<_> = expected.into_iter().filter(|(id, ..)| id != "qa-1").collect();
    assert_eq!(found, expected);
}

#[test]
fn refused_redirect_of_a_test_is_not_reported() {
    let test = |key: &str, to: &str| {
        json!({"key": key, "variations": [{}, {"urlRedirect": to}], "weights": [0, 1],
               "urlPatterns": [{"type": "simple", "include": true, "pattern": format!("/{key}")}]})
    };
    let tests = [test("away", "https://elsewhere.example/"), test("near", "http://shop.example/new")];
    let services = Services::start(&json!({"features": {}, "experiments": tests}));
    let events = json!({"cluster": "collector", "format": "growthbook", "batch": {"max_age": "100ms"}});
    let envoy = Envoy::start(&services.options(&plugin("growthbook", json!({"events": events}))).workers(1));
    let mut client = envoy.client();
    let mut status = |path| client.get(path).host("shop.example").header("x-user-id", "u1").send().status;
    eventually_eq("the redirect is in force", 302, || status("/near"));
    assert_eq!(status("/away"), 200);
    eventually_eq("delivered", 1, || Accounts::of(&envoy).delivered);
    let viewed = bodies(&services).pop().unwrap();
    assert_eq!(viewed[0]["properties_json"]["experimentId"], "near");
    eventually_eq("the refusal", 1, || envoy.counter("edgesplit.demo.errors.effect_refused"));
}

#[test]
fn events_of_an_eu_project_carry_its_authority() {
    for (region, expected) in [("EU", "eu.logx.optimizely.com"), ("US", "logx.optimizely.com")] {
        let services = Services::start(&merged(payload("optimizely").1, json!({"region": region})));
        let events = json!({"cluster": "collector", "authority": "logx.optimizely.com", "format": "optimizely",
                            "path": "/v1/events", "batch": {"max_age": "100ms"}});
        let envoy = Envoy::start(&services.options(&plugin("optimizely", json!({"events": events}))).workers(1));
        shown(&services, &envoy, "optimizely");
        assert!(services.collector.server.requests().iter().all(|request| texts(request, "host") == [expected]));
    }
}

/// What the vendors' services answer, and what becomes of the events.
#[test]
fn vendor_replies_are_handled_by_status() {
    for (format, answers) in [
        ("optimizely", [(204, "delivered"), (400, "rejected"), (429, "queued")]),
        ("growthbook", [(200, "delivered"), (400, "rejected"), (500, "queued")]),
    ] {
        for (status, outcome) in answers {
            let services = Services::start(&payload(format).1);
            services.collector.answer_status(status);
            let events = json!({"cluster": "collector", "format": format, "batch": {"max_age": "100ms"}});
            let envoy = services.envoy(&plugin(format, json!({"events": events})));
            until_served(&envoy);
            let mut client = envoy.client();
            client.get("/").header("x-user-id", "visitor-1").header("x-country", "DE").send();
            eventually_eq(&format!("{format}: {status}: {outcome}"), true, || {
                let accounts = Accounts::of(&envoy);
                let count = match outcome {
                    "delivered" => accounts.delivered,
                    "rejected" => accounts.rejected,
                    _ => accounts.queued,
                };
                services.collector.calls() > 0 && accounts.emitted > 0 && count == accounts.emitted
            });
        }
    }
}

/// A payload with one experiment of these weights.
fn weighted(weights: [f64; 2], bucket_version: u64) -> Value {
    json!({"features": {"nav": {"defaultValue": "none", "rules": [
        {"key": "nav-test", "seed": "nav-test", "hashAttribute": "id", "fallbackAttribute": "device", "hashVersion": 2,
         "weights": weights, "coverage": 1, "variations": ["plain", "mega"], "meta": [{"key": "plain"}, {"key": "mega"}],
         "bucketVersion": bucket_version, "minBucketVersion": bucket_version}]}}})
}

#[test]
fn growthbook_s_sticky_cookie_keeps_visitors_where_they_are() {
    let services = Services::start(&json!({}));
    let envoy = |payload: Value| {
        services.envoy(&json!({
            "experiments": {"inline": payload, "format": "growthbook"},
            "visitor": {"id": [{"header": "x-user-id"}], "attributes": {"device": "cookie.device"}},
            "request": {"sticky": {"max_age": "1h", "secure": false}}}))
    };
    let cookie_of = |reply: &edgesplit_testkit::client::Reply| -> Option<String> {
        let cookies = reply.header_all("set-cookie");
        assert!(cookies.len() <= 1, "{cookies:?}");
        let cookie = cookies.first()?;
        assert!(cookie.ends_with("; Path=/; Max-Age=3600; SameSite=Lax"), "{cookie}");
        Some(cookie.split(';').next().unwrap().to_owned())
    };
    let (before, after, anew) =
        (envoy(weighted([0.9, 0.1], 0)), envoy(weighted([0.1, 0.9], 0)), envoy(weighted([0.1, 0.9], 1)));
    let [mut before, mut after, mut anew] = [&before, &after, &anew].map(Envoy::client);
    let ask = |client: &mut edgesplit_testkit::client::Client, id: &str, cookie: &str| {
        let reply = client.get("/").header("x-user-id", id).header("cookie", cookie).send();
        assert_eq!(reply.status, 200);
        (echoed(&reply, "x-ab-assignments"), cookie_of(&reply))
    };
    let (mut moved, mut out) = (0, 0);
    for number in 0..100 {
        let id = format!("v {number}@shop");
        let (variant, cookie) = ask(&mut before, &id, "a=1");
        let cookie = cookie.expect("a new bucket is kept");
        let (name, value) = cookie.split_once('=').unwrap();
        // As GrowthBook's own SDKs name and write it.
        assert_eq!(name, format!("gbStickyBuckets__id||v%20{number}%40shop"));
        let text = edgesplit_filter::http::url::percent_decoded(value.as_bytes()).into_owned();
        let key = variant[0].strip_prefix("nav=").unwrap();
        let expected = json!({"attributeName": "id", "attributeValue": id, "assignments": {"nav-test__0": key}});
        assert_eq!(serde_json::from_slice::<Value>(&text).unwrap(), expected);

        // With the cookie, no visitor moves and nothing is written. Without it, visitors move.
        assert_eq!(ask(&mut after, &id, &format!("a=1; {cookie}; b=2")), (variant.clone(), None));
        // Nor with one that a browser's SDK has written, which encodes less.
        let theirs = format!("{name}={}", String::from_utf8_lossy(&text).replace('"', "%22").replace(',', "%2C"));
        assert_eq!(ask(&mut after, &id, &theirs), (variant.clone(), None));
        let (fresh, written) = ask(&mut after, &id, "a=1");
        assert!(written.is_some());
        moved += usize::from(fresh != variant);
        // The bucket of another visitor does not count.
        let stolen = theirs.replace("%22v ", "%22w ");
        assert_eq!(ask(&mut after, &id, &stolen).0, fresh);
        // Visitors of an old version are excluded from the new one, as the experiment asks.
        let (none, _) = ask(&mut anew, &id, &cookie);
        out += usize::from(none.is_empty());
    }
    println!("{moved} of 100 would have moved without the cookie");
    assert!((50..100).contains(&moved), "{moved}");
    assert_eq!(out, 100);

    // Who logs in keeps the bucket of the device.
    let device = ask(&mut before, "", "device=d1");
    let kept = device.1.expect("kept under the attribute that stood in");
    assert!(kept.starts_with("gbStickyBuckets__device||d1="), "{kept}");
    assert_eq!(ask(&mut after, "u1", &format!("device=d1; {kept}")).0, device.0);
    // Without consent, the cookie is removed, from the host's domain too.
    let reply = after.get("/").header("x-user-id", "u1").header("cookie", &kept).header("sec-gpc", "1").send();
    let expired = reply.header_all("set-cookie");
    assert!(echoed(&reply, "x-ab-assignments").is_empty());
    let removal = "gbStickyBuckets__device||d1=; Path=/; ";
    let rest = "Max-Age=0; SameSite=Lax";
    assert_eq!(expired, [format!("{removal}Domain=shop.example; {rest}"), format!("{removal}{rest}")]);
}
