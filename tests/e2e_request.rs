//! The request and response path in a real Envoy: what the origin and the client see, and what hostile clients cannot do.
#![allow(missing_docs)]
// Helpers of tests fail as tests do: by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice)]

use edgesplit_testkit::http::Response;
use edgesplit_testkit::stack::{Accounts, Services, document, echoed, experiment, merged, texts};
use edgesplit_testkit::{eventually_eq, roles};
use serde_json::{Value, json};

/// A plugin that knows visitors by a header, with the members of `with` on top.
fn plugin(experiments: &[Value], with: Value) -> Value {
    let base = json!({"experiments": {"inline": document(experiments)}, "visitor": {"id": [{"header": "x-user-id"}]}});
    merged(base, with)
}

fn set(effects: Value) -> Value {
    json!({"variants": [{"key": "control", "weight": 0, "baseline": true},
                        {"key": "green", "weight": 10000, "set": effects}]})
}

#[test]
fn owned_headers_of_clients_never_reach_the_origin() {
    let services = Services::start(&json!({}));
    let button = experiment(
        "button",
        merged(
            set(json!({"request_headers": {"X-Button": "green"}})),
            json!({"route": {"paths": ["/shop*", "/static*"]}}),
        ),
    );
    // Experiments that set nothing own no names.
    let disabled = json!({"key": "bad", "state": "running", "variants": [
        {"key": "a", "weight": 1, "set": {"request_headers": {"x-disabled": "1"}}}]});
    let paused = merged(set(json!({"request_headers": {"x-paused": "1"}})), json!({"state": "paused"}));
    let owned = ["x-ab-assignments", "X-AB-Cache-Key", "x-button"];
    let with = json!({"paths": {"exclude": ["/static/*"]}, "request": {"cache_key": {"query": "__ab"}}});
    let envoy = services.envoy(&plugin(&[button, disabled, experiment("paused", paused)], with.clone()));
    // A config that never comes: what the filter owns by its own configuration is still removed.
    let waiting = json!({"experiments": {"cluster": "nowhere"}});
    let without_config = services.envoy(&merged(waiting, with));

    let decided = [Some("button=green"), Some("button.green"), Some("green")];
    for (envoy, path, id, expected_path, expected) in [
        (&envoy, "/shop?a=1&__ab=x&b=2", Some("u1"), "/shop?a=1&b=2&__ab=button.green", decided),
        (&envoy, "/shop?__ab=x", None, "/shop", [None; 3]),
        (&envoy, "/shop?%5f%5Fab=x&_%5fa%62&__ab=&a=1", None, "/shop?a=1", [None; 3]),
        (&envoy, "/shop?__abc=1&x__ab=2&a=__ab", None, "/shop?__abc=1&x__ab=2&a=__ab", [None; 3]),
        (&envoy, "/static/a.js?__ab=x", Some("u1"), "/static/a.js", [None; 3]),
        (&envoy, "/elsewhere?__ab=x&a=1", Some("u1"), "/elsewhere?a=1", [None; 3]),
        (&without_config, "/shop?__ab=x&a=1", Some("u1"), "/shop?a=1", [None; 3]),
    ] {
        for times in [0, 1, 2, 3] {
            let mut client = envoy.client();
            let mut request = client.get(path);
            for name in owned.iter().cycle().take(owned.len() * times) {
                request = request.header(name, "forged");
            }
            if let Some(id) = id {
                request = request.header("x-user-id", id);
            }
            request = request.header("x-disabled", "kept").header("x-paused", "kept");
            // CGI and WSGI give origins these names in the same form as those above.
            let folded = ["x_ab_assignments", "X-AB_Cache_Key"];
            request = folded.into_iter().fold(request, |request, name| request.header(name, "forged"));
            assert_eq!(request.send().status, 200);
            let seen = services.origin.last_request();
            assert_eq!([texts(&seen, "x-disabled"), texts(&seen, "x-paused")], [["kept"], ["kept"]]);
            assert_eq!(folded.map(|name| texts(&seen, name)), [vec![], Vec::<String>::new()], "{path}");
            assert_eq!(seen.path, expected_path, "{path}");
            // Without a config, the headers that experiments set are unknown.
            let names = if std::ptr::eq(envoy, &without_config) { &owned[..2] } else { &owned[..] };
            for (name, expected) in names.iter().zip(expected) {
                assert_eq!(texts(&seen, name), Vec::from_iter(expected), "{name} {times} times on {path}");
            }
        }
    }
}

#[test]
fn variants_set_headers_and_rewrite_paths_in_the_order_of_the_experiments() {
    let services = Services::start(&json!({}));
    services.origin.respond(|request| {
        Response::json(200, &roles::echo(request)).header("x-theme", "origin").header("x-theme", "again")
    });
    let envoy = services.envoy(&plugin(
        &[
            experiment(
                "first",
                set(json!({"request_headers": {"x-a": "1", "x-b": "1"}, "response_headers": {"x-theme": "1"},
                                           "path": {"prefix": "/checkout", "with": "/checkout-v2"}})),
            ),
            experiment(
                "second",
                set(json!({"request_headers": {"x-b": "2"}, "response_headers": {"x-theme": "2", "x-new": "2"},
                                            "path": {"prefix": "/checkout-v2/pay", "with": "/pay"}})),
            ),
            json!({"key": "third", "state": "running", "forced": {"u2": "blue"}, "variants": [
                {"key": "control", "weight": 10000, "baseline": true},
                {"key": "blue", "weight": 0, "set": {"request_headers": {"x-a": "3"}}}]}),
        ],
        json!({}),
    ));
    let mut client = envoy.client();
    for (id, path, expected_path, x_a, x_b) in [
        (Some("u1"), "/checkout?a=1", "/checkout-v2?a=1", vec!["1"], vec!["2"]),
        (Some("u1"), "/checkout/pay/now?a=1", "/pay/now?a=1", vec!["1"], vec!["2"]),
        (Some("u2"), "/other", "/other", vec!["3"], vec!["2"]),
        (None, "/checkout", "/checkout", vec![], vec![]),
    ] {
        let request = client.get(path).header("x-a", "forged");
        let reply = match id {
            Some(id) => request.header("x-user-id", id).send(),
            None => request.send(),
        };
        assert_eq!(reply.json()["path"], expected_path);
        assert_eq!(
            (echoed(&reply, "x-a"), echoed(&reply, "x-b")),
            (x_a.into_iter().map(str::to_owned).collect(), x_b.into_iter().map(str::to_owned).collect())
        );
        let themes = if id.is_some() { vec!["2"] } else { vec!["origin", "again"] };
        assert_eq!(
            (reply.header_all("x-theme"), reply.header("x-new").is_some()),
            (themes.into_iter().map(str::to_owned).collect(), id.is_some())
        );
    }
}

/// The problems that depend on the request are found when it comes.
#[test]
fn effects_stay_within_their_bounds() {
    let services = Services::start(&json!({}));
    let on = |key: &str, effects: Value, path: &str| {
        experiment(key, merged(set(effects), json!({"route": {"paths": [path]}})))
    };
    let rewrite = |with: &str| json!({"path": {"prefix": "/shop", "with": with}});
    let envoy = services.envoy(&plugin(
        &[
            on("root", rewrite("/"), "/shop*"),
            on("folder", rewrite("/v2/"), "/shop../*"),
            on("away", json!({"redirect": "https://evil.example/x"}), "/x"),
            on("listed", json!({"redirect": "https://a.partner.example/y"}), "/y"),
            on("id", json!({"request_headers": {"x_user_id": "admin"}}), "/x"),
            on("forwarded", json!({"request_headers": {"x-forwarded-client-cert": "admin"}}), "/x"),
            on("language", json!({"request_headers": {"accept-language": "de"}}), "/x"),
            on("cookie", json!({"response_headers": {"set-cookie": "a=b"}}), "/x"),
            on("climb", rewrite("/%252e%252e/admin"), "/shop*"),
        ],
        json!({"effects": {"redirect_hosts": ["*.partner.example"]}, "request": {"cache_key": {"budget": 1000}}}),
    ));
    let mut client = envoy.client();
    for (path, expected) in
        [("/shop?a", "/?a"), ("/shop/evil.example", "/shop/evil.example"), ("/shop../a", "/shop../a")]
    {
        let reply = client.get(path).header("x-user-id", "u1").send();
        assert_eq!(reply.json()["path"], expected);
    }
    let request = client.get("/x").header("x-user-id", "u1").header("accept-language", "fr");
    let reply = request.send();
    assert_eq!((reply.status, reply.header("set-cookie")), (200, None), "neither redirected nor with a cookie");
    assert_eq!(echoed(&reply, "x-ab-assignments"), ["away=green"], "the others are disabled");
    assert_eq!(
        (echoed(&reply, "x-user-id"), echoed(&reply, "accept-language")),
        (vec!["u1".to_owned()], vec!["fr".to_owned()])
    );
    let reply = client.get("/y").header("x-user-id", "u1").send();
    assert_eq!(reply.header("location").as_deref(), Some("https://a.partner.example/y"));
    eventually_eq("refusals are counted", 4, || envoy.counter("edgesplit.demo.errors.effect_refused"));
}

#[test]
fn redirect_keeps_the_query_and_has_exposure_and_cookie() {
    let services = Services::start(&json!({}));
    let envoy = services.envoy(&plugin(
        &[
            experiment(
                "local",
                merged(set(json!({"redirect": "/new"})), json!({"route": {"paths": ["/old", "/new"]}})),
            ),
            experiment("later", merged(set(json!({"redirect": "/never"})), json!({"route": {"paths": ["/old"]}}))),
            experiment(
                "abroad",
                merged(set(json!({"redirect": "https://b.example/x?from=a#top"})), json!({"route": {"paths": ["/x"]}})),
            ),
        ],
        json!({"visitor": {"mint": {"on": "any"}}, "request": {"cache_key": {"query": "__ab"}},
               "effects": {"redirect_hosts": ["b.example"]}, "events": {"cluster": "collector", "batch": {"max_age": "100ms"}}}),
    ));
    let mut client = envoy.client();
    for (method, path, host, expected) in [
        ("GET", "/old?a=1&__ab=x&b=%20", "shop.example", Some((302, "/new?a=1&b=%20"))),
        // No id is minted for it, so it has no variant.
        ("HEAD", "/old", "shop.example", None),
        ("POST", "/old?a=1", "shop.example", Some((307, "/new?a=1"))),
        ("GET", "/new?a=1", "shop.example", None),
        ("GET", "/x?a=1", "a.example", Some((302, "https://b.example/x?from=a&a=1#top"))),
        ("GET", "/x?from=a", "B.example:8080", None),
    ] {
        let before = services.origin.server.requests_received();
        let reply = client.request(method, path).host(host).header("x-forwarded-proto", "https").send();
        let reached = services.origin.server.requests_received() - before;
        let is_minted = reply.header("set-cookie").is_some_and(|cookie| cookie.starts_with("ab_visitor="));
        assert_eq!(is_minted, method != "HEAD", "{path}: {reply:?}");
        assert_eq!(reply.header("cache-control").as_deref(), Some("private"), "{path}");
        match expected {
            Some((status, location)) => {
                assert_eq!((reply.status, reply.header("location").as_deref(), reached), (status, Some(location), 0));
            }
            None => assert_eq!((reply.status, reached), (200, 1), "{path}"),
        }
    }
    // Two redirects with two experiments each, and one redirect: each by another visitor. HEAD and the targets show nothing.
    eventually_eq("exposures", 5, || services.collector.events().len());
    let mut statuses: Vec<_> = services
        .collector
        .events()
        .into_values()
        .map(|received| {
            (received.event["path"].as_str().unwrap().to_owned(), received.event["status"].as_u64().unwrap())
        })
        .collect();
    statuses.sort();
    statuses.dedup();
    let expected = [("/old", 302), ("/old", 307), ("/x", 302)];
    assert_eq!(statuses, expected.map(|(path, status)| (path.to_owned(), status)));
    assert_eq!(Accounts::of(&envoy).emitted, 5);
}

#[test]
fn shared_caches_in_front_never_pin_a_variant() {
    // The origin's header, and the client's; none: unchanged.
    let table: [(&[&str], Option<&str>); 14] = [
        (&[], Some("private")),
        (&["public, max-age=60"], Some("private, max-age=60")),
        (&["max-age=60, s-maxage=600"], Some("private, max-age=60")),
        (&["s-maxage=600"], Some("private")),
        (&["PUBLIC,Max-Age=1"], Some("private, Max-Age=1")),
        (&["max-age=60, must-revalidate"], Some("private, max-age=60, must-revalidate")),
        (&["public, no-cache"], Some("no-cache")),
        (&["private, s-maxage=5"], Some("private")),
        (&["private, max-age=60"], None),
        (&["no-store"], None),
        (&["no-cache"], None),
        (&["max-age=60", "public"], Some("private, max-age=60")),
        (&["public", "no-store"], Some("no-store")),
        (&["no-store", "max-age=0"], None),
    ];
    let services = Services::start(&json!({}));
    let experiments = [experiment("nav", json!({"route": {"paths": ["/shop"]}}))];
    let private = services.envoy(&plugin(&experiments, json!({})));
    let unchanged = services.envoy(&plugin(&experiments, json!({"response": {"downstream_caching": "unchanged"}})));
    for (values, expected) in table {
        services.origin.respond(move |_| {
            let edge = ["surrogate-control", "cdn-cache-control"];
            let response = edge.iter().fold(Response::new(200), |response, name| response.header(name, "max-age=9"));
            values.iter().fold(response, |response, value| response.header("cache-control", *value))
        });
        // This holds for every visitor: the baseline must not be pinned either. A page without experiments is left alone.
        for (envoy, path, id, is_changed) in [
            (&private, "/shop", "u1", true),
            (&private, "/shop", "", true),
            (&private, "/other", "u1", false),
            (&unchanged, "/shop", "u1", false),
        ] {
            let reply = envoy.client().get(path).header("x-user-id", id).send();
            // Envoy joins repeated values of this header by itself.
            let expected = expected.filter(|_| is_changed).map_or(values.join(","), str::to_owned);
            assert_eq!(reply.header_all("cache-control").join(","), expected, "{values:?} {path} {id}");
            for name in ["surrogate-control", "cdn-cache-control"] {
                assert_eq!(reply.header(name).is_some(), !is_changed, "{name}: {path}");
            }
        }
    }
}
