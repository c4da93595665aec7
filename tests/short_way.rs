//! Most requests pass by what previews, sticky buckets and effects would ask of them. That is a short way to the same place:
//! here every request goes both ways, since the same experiments stand beside one, on another route, that does more.
#![allow(missing_docs, unreachable_pub, dead_code, reason = "the host is shared with other tests")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use edgesplit_filter::http::headers::HeaderMap;
use edgesplit_filter::request::{Flow, on_request};
use edgesplit_filter::response::on_response;
use edgesplit_filter::worker::Worker;
use edgesplit_testkit::module::recording_host::RecordingHost;
use serde_json::{Value, json};

/// An experiment on `/shop`, of which `more` says what it is beside that.
fn experiment(key: &str, more: &Value) -> Value {
    let mut experiment = json!({"key": key, "state": "running", "route": {"paths": ["/shop*"]}, "variants": [
        {"key": "control", "weight": 5000, "baseline": true}, {"key": "green", "weight": 5000}]});
    experiment.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    experiment
}

/// All kinds of experiments that do no more than to tell the origin and caches.
fn experiments() -> Vec<Value> {
    let seven: Vec<Value> = [1_000, 1_000, 1_000, 1_000, 1_000, 1_000, 4_000]
        .into_iter()
        .enumerate()
        .map(|(at, weight)| json!({"key": format!("v{at}"), "weight": weight}))
        .collect();
    vec![
        experiment("z-plain", &json!({})),
        experiment("share", &json!({"traffic": 6_000})),
        experiment("none", &json!({"traffic": 0})),
        experiment("seven", &json!({"variants": seven})),
        experiment("forced", &json!({"forced": {"visitor-1": "green", "visitor-2": "control"}})),
        experiment("audience", &json!({"audience": {"country": {"$in": ["DE", "FR"]}}})),
        experiment("winner", &json!({"state": "concluded", "winner": "green"})),
        experiment("paused", &json!({"state": "paused"})),
        experiment("later", &json!({"starts": "2100-01-01T00:00:00Z"})),
        experiment("layer", &json!({"layer": {"name": "l", "slots": [0, 5_000]}})),
        experiment("country", &json!({"unit": "country"})),
        experiment("guarded", &json!({"guardrail": {"metric": "error_rate"}})),
        experiment("a-plain", &json!({"route": {"paths": ["/shop/cart"], "methods": ["GET"]}})),
        // A page on which everything is plain: there, who comes again is remembered.
        experiment("list", &json!({"route": {"paths": ["/list*"]}})),
        experiment("half-list", &json!({"route": {"paths": ["/list*"]}, "traffic": 5_000})),
    ]
}

/// The experiments of `/shop`, and one elsewhere that does `more`.
fn worker(host: &RecordingHost, settings: &Value, more: &Value) -> Worker {
    let mut all = experiments();
    all.push(experiment("elsewhere", &json!({"route": {"paths": ["/elsewhere"]}})));
    all.last_mut().unwrap().as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let goals = json!([{"key": "bought", "route": {"paths": ["/shop/thanks"]}, "status": ["2xx"]}]);
    let mut plugin = json!({
        "experiments": {"inline": {"schema": 1, "revision": "r1", "experiments": all, "goals": goals}},
        "visitor": {"id": [{"cookie": "uid"}], "attributes": {"country": "header.x-country"}},
        "request": {"sticky": {}, "cache_key": {"budget": 1_000_000}},
    });
    for (block, fields) in settings.as_object().unwrap() {
        let mine = plugin.as_object_mut().unwrap().entry(block).or_insert_with(|| json!({}));
        mine.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    }
    Worker::configure(host, "test", plugin.to_string().as_bytes()).unwrap()
}

/// Requests that differ in everything that decides about the way.
fn requests() -> Vec<Vec<(&'static str, Vec<u8>)>> {
    let paths =
        ["/shop", "/list/1", "/shop/cart?a=1&ab_ck=forged", "/shop/thanks", "/list/2", "/about", "/elsewhere/not"];
    let cookies: [&[&[u8]]; 7] = [
        &[],
        &[b"uid=visitor-1"],
        &[b"theme=dark; uid=visitor-2; consent=yes"],
        &[b"theme=dark", b"uid=visitor-3"],
        &[b"uid=\xff; consent=yes"],
        &[b"uid="],
        &[b"ab_visitor=3f5a3c5e-1c9b-4b7e-9a53-0a0d3c1f7c11; consent=yes"],
    ];
    let others: [&[(&str, &str)]; 6] = [
        &[],
        &[("user-agent", "Googlebot/2.1")],
        &[("sec-gpc", "1"), ("user-agent", "Firefox/145.0")],
        &[("x-country", "DE")],
        &[("x-ab-assignments", "forged"), ("x-country", "US")],
        &[("X-AB-Cache-Key", "forged"), ("x-ab-cache-key", "twice")],
    ];
    let mut requests = Vec::new();
    for (path, method) in paths.into_iter().zip(["GET", "POST"].into_iter().cycle()) {
        for cookies in cookies {
            for more in others {
                let line = [(":authority", "shop.example"), (":path", path), (":method", method)];
                let named = line.iter().chain(more).map(|(name, value)| (*name, value.as_bytes().to_vec()));
                requests.push(named.chain(cookies.iter().map(|cookie| ("cookie", cookie.to_vec()))).collect());
            }
        }
    }
    requests
}

/// All that the proxy and the services see of the requests, one line for each thing.
fn seen(settings: &Value, more: &Value, is_simple: bool) -> Vec<String> {
    let mut host = RecordingHost::default();
    let mut worker = worker(&host, settings, more);
    let snapshot = worker.snapshot.clone().unwrap();
    assert_eq!((snapshot.is_simple, snapshot.disabled.as_slice()), (is_simple, &[][..]), "{more}");
    let responses: [&[(&str, &str)]; 4] = [
        &[(":status", "200")],
        &[(":status", "404"), ("cache-control", "public, max-age=60")],
        &[
            (":status", "503"),
            ("cache-control", "no-cache"),
            ("cache-control", "s-maxage=1"),
            ("surrogate-control", "a"),
        ],
        &[],
    ];
    let mut seen = Vec::new();
    // The second time, exposures are known already.
    for _ in 0..2 {
        for (number, request) in requests().into_iter().enumerate() {
            host.request = HeaderMap::from_pairs(&request);
            host.response = HeaderMap::from_pairs(responses[number % responses.len()]);
            let Flow::Continue(pending) = on_request(&mut worker, &host) else { panic!("answered") };
            host.written.borrow_mut().push("response".to_owned());
            on_response(&mut worker, &host, pending);
            seen.push(format!("{number}: {:?}", host.written.take()));
            if number % 16 == 0 {
                host.clock_ms.set(host.clock_ms.get() + 100);
                worker.tick(&host);
            }
        }
    }
    host.clock_ms.set(host.clock_ms.get() + 60_000);
    worker.tick(&host);
    seen.extend(host.calls.take());
    seen.extend(host.counted.take().into_iter().map(|(name, count)| format!("{name} {count}")));
    seen
}

#[test]
fn both_ways_lead_to_the_same() {
    for settings in [
        json!({}),
        json!({"events": {"cluster": "collector"}}),
        json!({"events": {"cluster": "collector"}, "visitor": {"mint": {}}}),
        json!({"visitor": {"consent": {"cookie": "consent", "contains": "yes"}, "expire_cookies": true, "mint": {}}}),
        json!({"visitor": {"bots": "include"}, "response": {"downstream_caching": "unchanged"}}),
        json!({"request": {"cache_key": {"query": "ab_ck", "budget": 1_000_000}}, "events": {"cluster": "collector"}}),
    ] {
        let short = seen(&settings, &json!({}), true);
        let given = short.iter().filter(|line| line.contains("x-ab-assignments: ")).count();
        assert!(given > 100, "{settings}: {given}");
        let has_events = settings.get("events").is_some();
        assert_eq!(short.iter().any(|line| line.starts_with("collector ")), has_events, "{settings}");
        let effect = json!([{"key": "control", "weight": 5000, "baseline": true},
                            {"key": "green", "weight": 5000, "set": {"response_headers": {"x-color": "green"}}}]);
        for more in [json!({"variants": effect}), json!({"sticky": true})] {
            for (short, long) in short.iter().zip(seen(&settings, &more, false)) {
                assert_eq!(*short, long, "{settings} beside {more}");
            }
        }
    }
}
