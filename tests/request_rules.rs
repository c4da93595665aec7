//! The rules of the request path that need no proxy: one request at a time, on a host that records its calls.
#![allow(missing_docs)]
// Helpers of tests fail as tests do: by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use edgesplit_filter::http::headers::HeaderMap;
use edgesplit_filter::request::{Flow, handle_request};
use edgesplit_filter::response::handle_response;
use edgesplit_filter::worker::Worker;
use edgesplit_testkit::module::recording_host::RecordingHost;
use serde_json::{Value, json};

/// A worker with the experiments that `plugin` has inline, and its host.
struct Site {
    worker: Worker,
    host: RecordingHost,
}

impl Site {
    fn new(plugin: &Value) -> Site {
        let host = RecordingHost::default();
        let worker = Worker::configure(&host, "demo", plugin.to_string().as_bytes());
        Site { worker: worker.unwrap_or_else(|problems| panic!("{problems:?}")), host }
    }

    /// Sends a request with these headers beside those that every request has. Returns the changes of the request, and
    /// then the changes of its response.
    fn request(&mut self, headers: &[(&str, &str)]) -> (Vec<String>, Vec<String>) {
        let standard = [(":method", "GET"), (":path", "/"), (":authority", "shop.example"), ("x-user-id", "u1")];
        let mut all: Vec<(&str, &str)> =
            standard.into_iter().filter(|(name, _)| headers.iter().all(|(given, _)| given != name)).collect();
        all.extend(headers);
        self.host.request = HeaderMap::from_pairs(&all);
        self.host.response = HeaderMap::from_pairs(&[(":status", "200")]);
        self.host.written.take();
        let (Flow::Continue(plan) | Flow::Answered(plan)) = handle_request(&mut self.worker, &self.host);
        let request = self.host.written.take();
        handle_response(&mut self.worker, &self.host, plan);
        (request, self.host.written.take())
    }
}

fn plugin(variants: &Value) -> Value {
    let experiments = json!([{"key": "nav", "state": "running", "route": {"paths": ["/shop*"]}, "variants": variants}]);
    json!({"experiments": {"inline": {"schema": 1, "experiments": experiments}},
           "visitor": {"id": [{"header": "x-user-id"}]}, "paths": {"exclude": ["/shop/static*"]},
           "request": {"owned_headers": ["X-Price", "x-shop-*"], "cache_key": {"query": "__ab"},
                       "preview": {"secret": "0123456789abcdef"}}})
}

fn variants() -> Value {
    json!([{"key": "control", "weight": 0, "baseline": true},
           {"key": "green", "weight": 10000, "set": {"request_headers": {"x-button": "green"}}}])
}

#[test]
fn owned_names_are_removed_in_every_spelling_and_on_every_path() {
    let mut site = Site::new(&plugin(&variants()));
    for path in ["/shop", "/shop/static/a.js", "/elsewhere"] {
        for name in ["x_ab_assignments", "X_AB_CACHE_KEY", "x-ab_assignments", "x_button", "x-price", "X_Shop_Id"] {
            let (written, _) = site.request(&[(":path", path), (name, "forged"), (name, "twice")]);
            assert!(written.contains(&format!("-{name}")), "{name} on {path}: {written:?}");
            assert!(!written.iter().any(|line| line.contains("forged")), "{written:?}");
            let sets_own = written.contains(&"x-button: green".to_owned());
            assert_eq!(sets_own, path == "/shop", "{name} on {path}: {written:?}");
        }
    }
}

#[test]
fn owned_parameters_are_removed_in_every_encoding() {
    let mut site = Site::new(&plugin(&variants()));
    for (query, expected) in [
        ("__ab=x", ""),
        ("a=1&%5F_ab=x&_%5fab&__%61b=&b=2&__ab=y", "?a=1&b=2"),
        ("%5F%5F%61%62=x&&__ab_preview=1~0~a.b~c", ""),
        ("%5f_ab%5Fpreview=x&a", "?a"),
        ("__ab=1&__abc=2", "?__abc=2"),
    ] {
        for path in ["/shop/static/a.js", "/elsewhere"] {
            let (written, _) = site.request(&[(":path", &format!("{path}?{query}"))]);
            assert_eq!(written, [format!(":path={path}{expected}")], "{query}");
        }
    }
}

#[test]
fn connection_cannot_make_the_next_hop_drop_owned_headers() {
    let mut site = Site::new(&plugin(&variants()));
    let connection = |written: &[String]| -> Vec<String> {
        written.iter().filter(|line| line.contains("connection")).cloned().collect()
    };
    let upgrade = [("connection", "Upgrade, x_ab-assignments"), ("Connection", "X-Button ,keep-alive")];
    let (written, _) = site.request(&[&upgrade[..], &[(":path", "/shop"), ("upgrade", "websocket")]].concat());
    assert_eq!(connection(&written), ["-connection", "connection: Upgrade, keep-alive"]);
    assert!(written.contains(&"x-ab-assignments: nav=green".to_owned()), "{written:?}");
    let (written, _) = site.request(&[("connection", "x-price")]);
    assert_eq!(connection(&written), ["-connection"]);
    let (written, _) = site.request(&[("connection", "Upgrade"), ("upgrade", "websocket")]);
    assert_eq!(connection(&written), [""; 0]);
}
