//! The cache recipes of `envoy/`, in real caches: every visitor gets their own variants, and the origin is asked once for
//! a page and a cache key.
#![allow(missing_docs)]
// Helpers of tests fail as tests do: by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice)]

use edgesplit_testkit::caches::{Cache, on_port, on_socket, start_envoy};
use edgesplit_testkit::client::Client;
use edgesplit_testkit::command;
use edgesplit_testkit::envoy::Envoy;
use edgesplit_testkit::http::{Request, Response};
use edgesplit_testkit::roles::Origin;
use edgesplit_testkit::stack::document;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

const VISITORS: usize = 2_000;
/// Connections that ask side by side.
const CLIENTS: usize = 4;
const PAGES: [&str; 5] = ["/", "/about", "/shop", "/shop/chairs?color=red&size=2", "/checkout"];

/// Three experiments that overlap: on `/shop*` and `/checkout` all of them run, elsewhere fewer. In one of them half of
/// the visitors take part, so that many are in none, and many are in a baseline.
fn experiments() -> Value {
    let variants = |key: &str, weights: &[(&str, u32)]| -> Vec<Value> {
        let variant = |(at, (name, weight)): (usize, &(&str, u32))| match at {
            0 => json!({"key": name, "weight": weight, "baseline": true}),
            _ => json!({"key": name, "weight": weight, "set": {"request_headers": {format!("x-{key}"): name}}}),
        };
        weights.iter().enumerate().map(variant).collect()
    };
    document(&[
        json!({"key": "nav", "state": "running", "traffic": 5000,
               "variants": variants("nav", &[("plain", 5000), ("mega", 5000)])}),
        json!({"key": "button", "state": "running", "traffic": 8000, "route": {"paths": ["/shop*", "/checkout"]},
               "variants": variants("button", &[("grey", 4000), ("green", 3000), ("blue", 3000)])}),
        json!({"key": "price", "state": "running", "route": {"paths": ["/", "/shop*", "/checkout"]},
               "variants": variants("price", &[("net", 5000), ("gross", 5000)])}),
    ])
}

/// The origin's page: the path of the request, and the variants in its headers. The page is cacheable, so it contains
/// nothing about the visitor.
fn page(request: &Request) -> Response {
    let variant = |key: &str| Some(format!("{key}.{}", request.header(&format!("x-{key}"))?));
    // In the order of the cache key.
    let variants: Vec<String> = ["button", "nav", "price"].into_iter().filter_map(variant).collect();
    Response::new(200)
        .header("content-type", "text/plain")
        .header("cache-control", "public, max-age=600")
        // Envoy's cache keeps nothing without it.
        .header("date", httpdate::fmt_http_date(std::time::SystemTime::now()))
        .body(format!("{} {}", request.path, variants.join("~")))
}

/// What a visitor was answered.
#[derive(Debug)]
struct View {
    id: String,
    path: &'static str,
    body: String,
}

/// Every visitor asks for every page. Half of them are known by a header; the others get a cookie with their first answer
/// and ask once more for that page with it.
fn visit(client: &mut Client, number: usize) -> Vec<View> {
    let pages = (0..PAGES.len()).map(|at| PAGES[(at + number) % PAGES.len()]);
    let mut views = Vec::new();
    let mut checked = |reply: edgesplit_testkit::client::Reply, id: &str, path: &'static str| {
        assert_eq!(reply.status, 200, "{path}: {reply:?}");
        assert_eq!(reply.header("cache-control").as_deref(), Some("private, max-age=600"), "{path}: {reply:?}");
        views.push(View { id: id.to_owned(), path, body: reply.text() });
    };
    if number.is_multiple_of(2) {
        let id = format!("visitor-{number}");
        for path in pages {
            // Some say that they have another variant.
            let forged = if number.is_multiple_of(3) { "nav.mega" } else { "" };
            let reply = client.get(path).header("x-user-id", &id).header("x-ab-cache-key", forged).send();
            assert_eq!(reply.header_all("set-cookie"), [""; 0], "who has an id needs no cookie");
            checked(reply, &id, path);
        }
        return views;
    }
    let mut pages = pages.peekable();
    let first = *pages.peek().unwrap();
    let reply = client.get(first).send();
    let cookies = reply.header_all("set-cookie");
    assert_eq!(cookies.len(), 1, "{cookies:?}");
    let cookie = cookies[0].split(';').next().unwrap().to_owned();
    let id = cookie.strip_prefix("ab_visitor=").unwrap().to_owned();
    checked(reply, &id, first);
    for path in pages {
        let reply = client.get(path).header("cookie", &cookie).send();
        assert_eq!(reply.header_all("set-cookie"), [""; 0], "a cookie is for one visitor, once");
        checked(reply, &id, path);
    }
    views
}

/// The cache key of each view, as the command decides it.
fn cache_keys(views: &[View]) -> Vec<String> {
    let config = std::env::temp_dir().join(format!("edgesplit-caches-{}.json", std::process::id()));
    std::fs::write(&config, experiments().to_string()).unwrap();
    let lines: String = views.iter().map(|view| format!("{}\n", json!({"id": view.id, "path": view.path}))).collect();
    let output = command::edgesplit(&["evaluate", "--config", config.to_str().unwrap()], &lines);
    assert!(output.status.success());
    let _ = std::fs::remove_file(config);
    command::results(&output).iter().map(|result| result["cache_key"].as_str().unwrap().to_owned()).collect()
}

fn every_visitor_gets_their_own_variants(envoy: &Envoy, origin: &Origin, what: &str) {
    let views: Vec<View> = std::thread::scope(|scope| {
        let clients = envoy.clients(CLIENTS).into_iter().enumerate().map(|(first, mut client)| {
            scope.spawn(move || {
                (first..VISITORS).step_by(CLIENTS).flat_map(|number| visit(&mut client, number)).collect::<Vec<_>>()
            })
        });
        let threads: Vec<_> = clients.collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let minted: BTreeSet<&str> =
        views.iter().map(|view| view.id.as_str()).filter(|id| !id.starts_with("visitor-")).collect();
    assert_eq!(minted.len(), VISITORS / 2, "every minted id is one visitor's");

    let keys = cache_keys(&views);
    assert_eq!(keys.len(), views.len());
    let mut expected = BTreeMap::new();
    for (view, key) in views.iter().zip(&keys) {
        assert_eq!(view.body, format!("{} {key}", view.path), "{view:?}");
        expected.insert(view.body.clone(), 1);
    }
    let mut asked = BTreeMap::new();
    for request in origin.server.requests() {
        *asked.entry(String::from_utf8(page(&request).body).unwrap()).or_insert(0) += 1;
    }
    println!(
        "{what}: {} requests of {VISITORS} visitors, {} pages and cache keys, {} requests to the origin",
        views.len(),
        expected.len(),
        origin.server.requests_received()
    );
    assert_eq!(asked, expected, "the origin is asked once for a page and a cache key");
    // Two variants or none on every page, with up to 2 * 3 * 2 of them: the test is about something.
    assert!(expected.len() > 30, "{expected:?}");
}

/// A page with a cookie of the origin is for one visitor, even if its `cache-control` allows caching.
fn check_origin_cookie_is_private(envoy: &Envoy, origin: &Origin) {
    let number = std::sync::atomic::AtomicU64::new(0);
    origin.respond(move |request| {
        let number = number.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        page(request).header("set-cookie", format!("session={number}; Path=/"))
    });
    let mut sessions = BTreeSet::new();
    for mut client in envoy.clients(CLIENTS) {
        for visitor in 0..3 {
            let reply = client.get("/login").header("x-user-id", format!("visitor-{visitor}")).send();
            let cookies = reply.header_all("set-cookie");
            assert_eq!(cookies.len(), 1, "{cookies:?}");
            assert!(sessions.insert(cookies[0].clone()), "{cookies:?} was another visitor's");
        }
    }
}

#[test]
fn envoy_s_own_cache_in_the_same_proxy() {
    let origin = Origin::start().unwrap();
    origin.respond(page);
    let envoy = start_envoy("cache-envoy.yaml", &[], &experiments(), &on_port(origin.port()));
    every_visitor_gets_their_own_variants(&envoy, &origin, "cache_v2");
    check_origin_cookie_is_private(&envoy, &origin);
}

#[test]
fn envoy_cache_keeps_cacheable_responses_only() {
    let origin = Origin::start().unwrap();
    let envoy = start_envoy("cache-envoy.yaml", &[], &experiments(), &on_port(origin.port()));
    let mut client = envoy.client();
    for (path, without, with, expected) in [
        ("/a", "", None, 1),
        ("/b", "date", None, 2),
        ("/c", "cache-control", None, 2),
        ("/d", "", Some(("vary", "accept-encoding")), 2),
        ("/e", "", Some(("set-cookie", "a=1")), 2),
    ] {
        origin.respond(move |request| {
            let mut response = page(request);
            response.headers.retain(|(name, _)| name != without.as_bytes());
            with.into_iter().fold(response, |response, (name, value)| response.header(name, value))
        });
        let before = origin.server.requests_received();
        for _ in 0..2 {
            assert_eq!(client.get(path).header("x-user-id", "u1").send().status, 200);
        }
        assert_eq!(origin.server.requests_received() - before, expected, "{path}: without {without:?}, with {with:?}");
    }
}

#[test]
fn varnish_behind_envoy() {
    let origin = Origin::start().unwrap();
    origin.respond(page);
    let Some(varnish) = Cache::varnish(origin.port()) else { return };
    let envoy = start_envoy("envoy.yaml", &[], &experiments(), &on_socket(&varnish.socket()));
    every_visitor_gets_their_own_variants(&envoy, &origin, "Varnish");
    check_origin_cookie_is_private(&envoy, &origin);
}

#[test]
fn nginx_behind_envoy() {
    let origin = Origin::start().unwrap();
    origin.respond(page);
    let Some(nginx) = Cache::nginx(origin.port()) else { return };
    let envoy = start_envoy("envoy.yaml", &[], &experiments(), &on_socket(&nginx.socket()));
    every_visitor_gets_their_own_variants(&envoy, &origin, "nginx");
    check_origin_cookie_is_private(&envoy, &origin);
}
