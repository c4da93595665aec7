//! The seam for formats: one that the product does not know, in one file, goes all the way from its config to headers and
//! to a batch of events.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod toy;

use edgesplit_filter::http::headers::HeaderBlock;
use edgesplit_filter::request::{Flow, handle_request};
use edgesplit_filter::response::handle_response;
use edgesplit_filter::worker::Worker;
use edgesplit_formats::{FormatRef, Options, compile_bytes, registry};
use edgesplit_testkit::module::recording_host::RecordingHost;
use serde_json::{Value, json};

/// The one line.
const FORMATS: &[FormatRef] = &[&toy::Toy];

fn config() -> Value {
    json!({"toy": {"button": {"red": 30, "blue": 70}, "wheel": {"big": 50}}})
}

#[test]
fn format_is_found_by_name_and_by_shape() {
    registry::add(FORMATS);
    let toy = registry::find("toy").unwrap();
    assert_eq!(registry::recognise(&config()), Some(toy));
    let compiled = compile_bytes(config().to_string().as_bytes(), &Options::new(toy, 64));
    let keys: Vec<String> = compiled.snapshot.unwrap().experiments.into_iter().map(|one| one.key).collect();
    assert_eq!(keys, ["button", "wheel"]);
}

#[test]
fn format_compiles_flag_by_flag() {
    registry::add(FORMATS);
    let toy = registry::find("toy").unwrap();
    let text = config().to_string().into_bytes();
    let mut compilation = toy.begin(text.clone(), &Options::new(toy, 64));
    let steps = (0..1_000).take_while(|_| !compilation.advance(0)).count();
    assert!((2..1_000).contains(&steps), "{steps}");
    let (compiled, back) = compilation.finish();
    assert_eq!((compiled.snapshot.unwrap().experiments.len(), back), (2, text));
}

#[test]
fn request_is_decided_and_its_exposures_are_sent() {
    registry::add(FORMATS);
    let plugin = json!({
        "experiments": {"inline": config(), "format": "toy", "routes": [{"keys": ["*"], "paths": ["/play*"]}]},
        "visitor": {"id": [{"header": "x-user-id"}]},
        "events": {"cluster": "collector", "format": "toy", "path": "/toys"},
    });
    let host = RecordingHost::default();
    let mut worker = Worker::configure(&host, "test", plugin.to_string().as_bytes()).unwrap();
    let mut seen = Vec::new();
    for number in 0..20 {
        let id = format!("u{number}");
        let request = [(":authority", "h"), (":path", "/play"), (":method", "GET"), ("x-user-id", &id)];
        let host = RecordingHost { request: HeaderBlock::from_pairs(&request), ..RecordingHost::default() };
        let Flow::Continue(pending) = handle_request(&mut worker, &host) else { panic!("answered") };
        let host = RecordingHost { response: HeaderBlock::from_pairs(&[(":status", "200")]), ..host };
        handle_response(&mut worker, &host, pending);
        let written = host.written.borrow();
        let header = written.iter().find_map(|line| line.strip_prefix("x-ab-assignments: ")).unwrap();
        for pair in header.split(", ") {
            let (flag, variant) = pair.split_once('=').unwrap();
            seen.push(format!("{id} saw {variant} {flag}"));
        }
    }
    assert!(seen.len() > 20 && ["red", "blue", "big"].iter().all(|one| seen.iter().any(|text| text.contains(one))));

    host.clock_ms.set(2_000);
    worker.tick(&host);
    let calls = host.calls.borrow();
    let (cluster, body) = calls[0].split_once(' ').unwrap();
    let body: Value = serde_json::from_str(body).unwrap();
    assert_eq!((cluster, &body), ("collector", &json!({"toys": seen})));
    assert_eq!(host.counted.borrow()["edgesplit.test.decisions.reason.played"], 40);
}
