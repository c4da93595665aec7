//! Redirects and denials that Envoy makes itself: no page was shown, and the filter's changes of the request stay out of
//! `location`.

use super::{exposures, http_manager, plugin, routes};
use edgesplit_testkit::bootstrap::ENVOY_VERSION;
use edgesplit_testkit::envoy::Envoy;
use edgesplit_testkit::eventually_eq;
use edgesplit_testkit::http::{Request, Response};
use edgesplit_testkit::module_under_test::is_native;
use edgesplit_testkit::skip::skip;
use edgesplit_testkit::stack::{Services, document, experiment};
use serde_json::{Value, json};

/// Visitors get another path, and caches a key in the URL.
fn experiments() -> Value {
    let set = json!({"path": {"prefix": "/checkout", "with": "/checkout-v2"}});
    let rewritten =
        json!({"route": {"paths": ["/checkout*"]}, "variants": [{"key": "green", "weight": 10_000, "set": set}]});
    document(&[experiment("checkout", rewritten), experiment("site", json!({}))])
}

/// An Envoy with these routes in front of the one to the origin, and a virtual host that requires TLS.
fn start(services: &Services, own: Value) -> Envoy {
    let configuration = plugin(experiments(), json!({"request": {"cache_key": {"query": "__ab"}}}));
    Envoy::start(&services.options(&configuration).adjust(move |bootstrap| {
        let routes = routes(bootstrap).as_array_mut().unwrap();
        routes.splice(0..0, own.as_array().unwrap().clone());
        let all = routes.clone();
        let hosts = &mut http_manager(bootstrap)["route_config"]["virtual_hosts"];
        let tls = json!({"name": "tls", "domains": ["tls.example"], "require_tls": "ALL", "routes": all});
        hosts.as_array_mut().unwrap().push(tls);
    }))
}

/// The status and the location of a response.
fn get(envoy: &Envoy, host: &str, path: &str) -> (u16, String) {
    let reply = envoy.client().get(path).host(host).header("x-user-id", "u1").send();
    (reply.status, reply.header("location").unwrap_or_default())
}

#[test]
fn redirects_of_routes_show_no_change_and_are_no_exposure() {
    if is_native() && *ENVOY_VERSION < [1, 39] {
        return skip("Envoy 1.38 does not name the source of a response to a native module");
    }
    let services = Services::start(&json!({}));
    let envoy = start(
        &services,
        json!([
            {"match": {"prefix": "/", "headers": [{"name": ":authority", "string_match": {"exact": "plain.example"}}]},
             "redirect": {"https_redirect": true}},
            {"match": {"prefix": "/", "headers": [{"name": ":authority", "string_match": {"exact": "moved.example"}}]},
             "redirect": {"host_redirect": "shop.example", "port_redirect": 8443}},
            {"match": {"prefix": "/gone"}, "redirect": {"path_redirect": "/here"}},
            {"match": {"prefix": "/denied"}, "direct_response": {"status": 403}},
        ]),
    );
    for (host, path, expected) in [
        ("plain.example", "/checkout/1?a=1&b", "https://plain.example/checkout/1?a=1&b"),
        ("plain.example", "/elsewhere", "https://plain.example/elsewhere"),
        ("plain.example", "/elsewhere?__ab=forged&c", "https://plain.example/elsewhere?c"),
        ("tls.example", "/checkout", "https://tls.example/checkout"),
        ("moved.example", "/checkout?a=1", "http://shop.example:8443/checkout?a=1"),
        ("shop.example", "/gone/1?a=1", "http://shop.example/here?a=1"),
    ] {
        assert_eq!(get(&envoy, host, path), (301, expected.to_owned()), "{host}{path}");
    }
    assert_eq!(get(&envoy, "shop.example", "/denied").0, 403);
    // The page itself is the visitor's first exposure.
    assert_eq!(get(&envoy, "shop.example", "/checkout").0, 200);
    let shown = ["checkout=green", "site=green"].map(|assigned| format!("u1 {assigned} /checkout 200")).to_vec();
    eventually_eq("exposures", shown, || exposures(&services));
    assert_eq!(services.origin.server.requests_received(), 1);
}

/// A response of the origin's own is as it was: its redirects may lead to a rewritten path, and count.
#[test]
fn redirects_and_denials_of_the_origin_are_exposures() {
    let services = Services::start(&json!({}));
    services.origin.respond(|request: &Request| match request.path.split('?').next() {
        Some("/checkout-v2") => Response::new(301).header("location", format!("{}&slash#top", request.path)),
        _ => Response::new(403),
    });
    let envoy = start(&services, json!([]));
    let location = "/checkout-v2?a=1&slash#top";
    assert_eq!(get(&envoy, "shop.example", "/checkout?a=1"), (301, location.to_owned()));
    let shown = ["checkout=green", "site=green"].map(|assigned| format!("u1 {assigned} /checkout 301")).to_vec();
    eventually_eq("exposures", shown, || exposures(&services));
    let denied = envoy.client().get("/members").header("x-user-id", "u2").send();
    assert_eq!(denied.status, 403);
    eventually_eq("exposures", true, || exposures(&services).contains(&"u2 site=green /members 403".to_owned()));
}

/// A redirect in Envoy's cache is the origin's, too.
#[test]
fn cached_redirects_are_exposures() {
    let services = Services::start(&json!({}));
    services.origin.respond(|_| {
        let response = Response::new(301).header("location", "/there").header("cache-control", "max-age=60");
        response.header("date", httpdate::fmt_http_date(std::time::SystemTime::now()))
    });
    let configuration = plugin(document(&[experiment("site", json!({}))]), json!({}));
    let envoy = Envoy::start(&services.options(&configuration).adjust(|bootstrap| {
        let cache = |of: &str| format!("type.googleapis.com/envoy.extensions.{of}");
        let config = json!({"@type": cache("filters.http.cache_v2.v3.CacheV2Config"), "typed_config": {
            "@type": cache("http.cache_v2.simple_http_cache.v3.SimpleHttpCacheV2Config")}});
        let filters = http_manager(bootstrap)["http_filters"].as_array_mut().unwrap();
        filters.insert(1, json!({"name": "envoy.filters.http.cache_v2", "typed_config": config}));
    }));
    for id in ["u1", "u2"] {
        assert_eq!(envoy.client().get("/").header("x-user-id", id).send().status, 301);
    }
    assert_eq!(services.origin.server.requests_received(), 1);
    let shown = ["u1", "u2"].map(|id| format!("{id} site=green / 301")).to_vec();
    eventually_eq("exposures", shown, || exposures(&services));
}

/// An error in the place of the page may have been caused by the variant: leaving it out would bias the experiment.
#[test]
fn errors_of_envoy_are_exposures() {
    let services = Services::start(&json!({}));
    let envoy = start(&services, json!([{"match": {"prefix": "/down"}, "direct_response": {"status": 503}}]));
    assert_eq!(get(&envoy, "shop.example", "/down").0, 503);
    eventually_eq("exposures", vec!["u1 site=green /down 503".to_owned()], || exposures(&services));
}
