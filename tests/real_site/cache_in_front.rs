//! nginx as a cache in front of Envoy. It stores a page for the time in `x-accel-expires`, even if `cache-control` forbids
//! that.

use super::plugin;
use edgesplit_testkit::caches::Cache;
use edgesplit_testkit::client::Client;
use edgesplit_testkit::http::Response;
use edgesplit_testkit::stack::{Services, document, experiment};
use serde_json::json;
use std::collections::BTreeSet;
use std::net::TcpListener;

#[test]
fn nginx_in_front_pins_no_variant() {
    let services = Services::start(&json!({}));
    services.origin.respond(|request| {
        Response::new(200)
            .header("cache-control", "public, max-age=600")
            .header("x-accel-expires", "600")
            .body(request.header("x-ab-assignments").unwrap_or_default())
    });
    let variants = json!([{"key": "control", "weight": 5000, "baseline": true}, {"key": "green", "weight": 5000}]);
    let nav = experiment("nav", json!({"route": {"paths": ["/shop"]}, "variants": variants}));
    let envoy = services.envoy(&plugin(document(&[nav]), json!({})));
    // A port that is free now.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let Some(_nginx) = Cache::nginx_with(&format!(
        "proxy_cache_path cache keys_zone=pages:1m;\nserver {{ listen SOCKET; listen 127.0.0.1:{port};\n\
         location / {{ proxy_pass http://127.0.0.1:{}; proxy_http_version 1.1; proxy_cache pages; proxy_cache_key $request_uri; }} }}",
        envoy.port()
    )) else {
        return;
    };
    let (mut direct, mut cached) = (envoy.client(), Client::new(port));
    let mut shown = BTreeSet::new();
    for visitor in 0..20 {
        let id = format!("visitor-{visitor}");
        let get = |client: &mut Client| client.get("/shop").header("x-user-id", &id).send().text();
        let variant = get(&mut direct);
        assert_eq!(get(&mut cached), variant, "{id}");
        shown.insert(variant);
    }
    assert_eq!(shown.len(), 2, "{shown:?}");
    services.origin.server.take_requests();
    for visitor in 0..5 {
        cached.get("/about").header("x-user-id", format!("visitor-{visitor}")).send();
    }
    assert_eq!(services.origin.server.take_requests().len(), 1, "pages without experiments are cached");
}
