//! Browsers that validate a page with nginx as the origin, which gives all variants of a file one `etag`, and with Varnish
//! behind Envoy.

use super::{assert_exposures, envoy_before, plugin};
use edgesplit_testkit::caches::Cache;
use edgesplit_testkit::client::{Client, Reply};
use edgesplit_testkit::http::Response;
use edgesplit_testkit::root;
use edgesplit_testkit::stack::{Services, document, experiment};
use serde_json::{Value, json};

/// A request of a browser that has a copy of the page.
fn validate(client: &mut Client, id: &str, copy: &Reply) -> Reply {
    let mut request = client.get("/shop").header("x-user-id", id);
    for (name, condition) in [("etag", "if-none-match"), ("last-modified", "if-modified-since")] {
        if let Some(value) = copy.header(name) {
            request = request.header(condition, value);
        }
    }
    request.send()
}

fn with_experiment(validators: &str) -> Value {
    let nav = experiment("nav", json!({"route": {"paths": ["/shop"]}, "forced": {"c1": "control"}}));
    plugin(document(&[nav]), json!({"response": {"validators": validators}}))
}

#[test]
fn page_cached_before_the_experiment_is_no_page_of_a_variant() {
    let services = Services::start(&json!({}));
    let file =
        format!("server {{ listen SOCKET; location / {{ root {}; try_files /LICENSE =404; }} }}", root().display());
    let Some(nginx) = Cache::nginx_with(&file) else { return };
    let before = envoy_before(&services, &nginx, &plugin(document(&[]), json!({})));
    let old = before.client().get("/shop").header("x-user-id", "u1").send();
    assert!(old.header("etag").is_some() && old.header("last-modified").is_some(), "{old:?}");

    let unchanged = envoy_before(&services, &nginx, &with_experiment("unchanged"));
    assert_eq!(validate(&mut unchanged.client(), "u1", &old).status, 304, "the visitor keeps the page of no variant");
    assert_exposures(&services, &mut unchanged.client(), "/shop", &["u1 nav=green /shop 304"]);
    services.collector.clear();

    let envoy = envoy_before(&services, &nginx, &with_experiment("per_variant"));
    let mut client = envoy.client();
    let green = validate(&mut client, "u1", &old);
    assert_eq!((green.status, &green.body), (200, &old.body));
    assert_ne!(green.header("etag"), old.header("etag"));
    let again = validate(&mut client, "u1", &green);
    assert_eq!((again.status, again.header("etag")), (304, green.header("etag")), "its own page is confirmed");
    // The baseline is the page from before.
    let control = validate(&mut client, "c1", &old);
    assert_eq!((control.status, control.header("etag")), (304, old.header("etag")));
    assert_eq!(validate(&mut client, "c1", &green).status, 200);
    assert_eq!(validate(&mut before.client(), "u1", &green).status, 200, "a variant's page does not outlive it");
    assert_exposures(&services, &mut client, "/shop", &["u1 nav=green /shop 200"]);
}

#[test]
fn varnish_validates_the_page_of_each_variant() {
    let services = Services::start(&json!({}));
    services.origin.respond(|request| {
        let variant = if request.header("x-ab-cache-key").is_some() { "green" } else { "control" };
        Response::new(200).header("cache-control", "public, max-age=600").header("etag", "\"v1\"").body(variant)
    });
    let Some(varnish) = Cache::varnish(services.origin.port()) else { return };
    let envoy = envoy_before(&services, &varnish, &with_experiment("per_variant"));
    let mut client = envoy.client();
    let [green, control] = ["u1", "c1"].map(|id| client.get("/shop").header("x-user-id", id).send());
    assert_eq!((green.text().as_str(), control.text().as_str()), ("green", "control"));
    for (id, own, other) in [("u1", &green, &control), ("c1", &control, &green)] {
        assert_eq!(validate(&mut client, id, own).status, 304, "{id}");
        let whole = validate(&mut client, id, other);
        assert_eq!((whole.status, &whole.body), (200, &own.body), "{id}");
    }
    assert_eq!(services.origin.server.requests_received(), 2, "all others were answered by Varnish");
}
