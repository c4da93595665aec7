//! Requests that show no page to a visitor: preflights, `HEAD`, prefetches.

use super::{assert_exposures, plugin};
use edgesplit_testkit::stack::{Services, document, experiment};
use serde_json::{Value, json};

fn growthbook() -> Value {
    let rule = json!({"key": "old", "variations": ["a", "b"], "weights": [0, 1], "coverage": 1, "hashAttribute": "id"});
    json!({"features": {"old": {"defaultValue": "a", "rules": [rule]}}})
}

#[test]
fn requests_without_a_page_are_no_visits() {
    let redirect = json!([{"key": "control", "weight": 0, "baseline": true},
                          {"key": "green", "weight": 10000, "set": {"redirect": "/new"}}]);
    let native = document(&[experiment("old", json!({"route": {"paths": ["/old"]}, "variants": redirect}))]);
    for (format, inline, status) in [("native", native, 302), ("growthbook", growthbook(), 200)] {
        let services = Services::start(&json!({}));
        let with = json!({"experiments": {"format": format}, "visitor": {"mint": {"secure": false}}});
        let envoy = services.envoy(&plugin(inline, with));
        let mut client = envoy.client();
        for id in [Some("u1"), None] {
            let id: Vec<(&str, &str)> = id.into_iter().map(|id| ("x-user-id", id)).collect();
            let preflight = [("origin", "https://other.example"), ("access-control-request-method", "GET")];
            for (method, headers, expected) in [
                ("OPTIONS", &preflight[..], 200),
                ("HEAD", &[], if id.is_empty() { 200 } else { status }),
                ("GET", &[("sec-purpose", "prefetch;prerender")], if id.is_empty() { 200 } else { status }),
            ] {
                let request = client.request(method, "/old");
                let reply =
                    id.iter().chain(headers).fold(request, |request, (name, value)| request.header(name, value)).send();
                assert_eq!((reply.status, reply.header("set-cookie")), (expected, None), "{format} {method} {id:?}");
            }
        }
        assert_exposures(&services, &mut client, "/old", &[]);
        assert_eq!(client.get("/old").header("x-user-id", "u1").send().status, status, "the page itself");
        let shown = if format == "native" { "u1 old=green /old 302" } else { "u1 old=1 /old 200" };
        assert_exposures(&services, &mut client, "/old", &[shown]);
        assert_eq!(envoy.counter("edgesplit.demo.mint.minted"), 0);
    }
}
