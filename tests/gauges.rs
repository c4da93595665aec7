//! What the gauges of the outbox say, and when.
#![allow(missing_docs, unreachable_pub, dead_code, reason = "the host is shared with other tests")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use edgesplit_filter::host::Reply;
use edgesplit_filter::http::headers::HeaderBlock;
use edgesplit_filter::request::{Flow, handle_request};
use edgesplit_filter::response::handle_response;
use edgesplit_filter::worker::Worker;
use edgesplit_testkit::module::recording_host::RecordingHost;
use serde_json::json;

struct Accepted;

impl Reply for Accepted {
    fn headers(&self) -> HeaderBlock {
        HeaderBlock::from_pairs(&[(":status", "204")])
    }

    fn body_len(&self) -> usize {
        0
    }

    fn body(&self, _max: usize) -> Vec<u8> {
        Vec::new()
    }
}

#[test]
fn nothing_waits_any_more_as_soon_as_the_last_batch_is_delivered() {
    let variants = json!([{"key": "control", "weight": 5000, "baseline": true}, {"key": "green", "weight": 5000}]);
    let experiments = json!([{"key": "nav", "state": "running", "variants": variants}]);
    let plugin = json!({
        "experiments": {"inline": {"schema": 1, "revision": "r1", "experiments": experiments}},
        "visitor": {"id": [{"cookie": "uid"}]},
        "events": {"cluster": "collector"},
    });
    let host = RecordingHost {
        request: HeaderBlock::from_pairs(&[(":path", "/"), ("cookie", "uid=visitor-1")]),
        response: HeaderBlock::from_pairs(&[(":status", "200")]),
        ..RecordingHost::default()
    };
    let mut worker = Worker::configure(&host, "test", plugin.to_string().as_bytes()).unwrap();
    let Flow::Continue(pending) = handle_request(&mut worker, &host) else { panic!("answered") };
    handle_response(&mut worker, &host, pending);
    // The call is under way for three seconds.
    while host.clock_ms.get() < 4_000 {
        host.clock_ms.set(host.clock_ms.get() + 100);
        worker.tick(&host);
    }
    let gauge = |name: &str| host.counted.borrow()[&format!("edgesplit.test.outbox.{name}")];
    assert_eq!(gauge("queued_events"), 1);
    assert!(gauge("oldest_age_seconds") >= 2, "{}", gauge("oldest_age_seconds"));

    let calls = host.take_calls();
    assert_eq!(calls.clone().count(), 1);
    for token in calls {
        worker.on_reply(&host, token, &Accepted);
    }
    assert_eq!((gauge("queued_events"), gauge("queued_bytes"), gauge("oldest_age_seconds")), (0, 0, 0));
}
