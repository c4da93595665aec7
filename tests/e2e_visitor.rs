//! Who takes part, in a real Envoy: minted ids, consent, bots, and clients that send what no browser would.
#![allow(missing_docs)]
// Helpers of tests fail as tests do: by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice)]

use edgesplit_testkit::client::{Client, Reply};
use edgesplit_testkit::eventually_eq;
use edgesplit_testkit::http2;
use edgesplit_testkit::stack::{Accounts, Services, document, echoed, experiment, merged, texts};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// A plugin that knows visitors by a header, with the members of `with` on top.
fn plugin(experiments: &[Value], with: Value) -> Value {
    let base = json!({"experiments": {"inline": document(experiments)}, "visitor": {"id": [{"header": "x-user-id"}]}});
    merged(base, with)
}

fn set(effects: Value) -> Value {
    json!({"variants": [{"key": "control", "weight": 0, "baseline": true},
                        {"key": "green", "weight": 10000, "set": effects}]})
}

const NONE: [&str; 0] = [];

/// The cookie of a minted id, with its attributes.
fn minted(reply: &Reply) -> (String, Vec<String>) {
    let cookies = reply.header_all("set-cookie");
    assert_eq!(cookies.len(), 1, "{cookies:?}");
    let mut parts = cookies[0].split("; ").map(str::to_owned);
    (parts.next().unwrap(), parts.collect())
}

#[test]
fn unknown_visitor_gets_a_lasting_id_that_cannot_be_forged() {
    let services = Services::start(&json!({}));
    let halves = json!({"route": {"paths": ["/shop*"]}, "variants": [
        {"key": "control", "weight": 5000, "baseline": true}, {"key": "green", "weight": 5000}]});
    let paused = experiment("paused", json!({"state": "paused", "route": {"paths": ["/paused"]}}));
    let mint =
        |mint: Value| plugin(&[experiment("nav", halves.clone()), paused.clone()], json!({"visitor": {"mint": mint}}));
    for (block, expected) in [
        (json!({}), vec!["Path=/", "Max-Age=31536000", "SameSite=Lax", "Secure"]),
        (
            json!({"cookie": "v", "max_age": "1h", "path": "/shop", "domain": "shop.example", "same_site": "strict", "secure": false}),
            vec!["Path=/shop", "Domain=shop.example", "Max-Age=3600", "SameSite=Strict"],
        ),
    ] {
        let name = block["cookie"].as_str().unwrap_or("ab_visitor").to_owned();
        let envoy = services.envoy(&mint(block));
        let mut clients = envoy.clients(2);
        let mut variants = BTreeSet::new();
        for number in 0..40 {
            let first = clients[number % 2].get("/shop/").header("x-forwarded-proto", "https").send();
            let (cookie, mut attributes) = minted(&first);
            attributes.sort();
            let mut expected = expected.clone();
            expected.sort_unstable();
            assert_eq!(attributes, expected);
            assert!(cookie.starts_with(&format!("{name}=")) && cookie.len() == name.len() + 37, "{cookie}");
            let variant = echoed(&first, "x-ab-assignments");
            assert_eq!(variant.len(), 1);
            for client in &mut clients {
                let next = client.get("/shop/").header("cookie", format!("other=1; {cookie}")).send();
                assert_eq!((echoed(&next, "x-ab-assignments"), next.header("set-cookie")), (variant.clone(), None));
            }
            variants.insert(variant);
        }
        assert_eq!(variants.len(), 2, "forty visitors are not all alike");
        for forged in ["1", "u1", "00000000-0000-1000-8000-000000000000", "0BADCAFE-0000-4000-8000-000000000000"] {
            let (cookie, _) = minted(
                &clients[0]
                    .get("/shop/")
                    .header("x-forwarded-proto", "https")
                    .header("cookie", format!("{name}={forged}"))
                    .send(),
            );
            assert_ne!(cookie, format!("{name}={forged}"));
        }
        for path in ["/", "/paused"] {
            let reply = clients[0].get(path).send();
            assert_eq!((reply.header("set-cookie"), echoed(&reply, "x-ab-assignments")), (None, vec![]), "{path}");
        }
        assert_eq!(
            clients[0].get("/shop/").header("x-user-id", "u1").send().header("set-cookie"),
            None,
            "known already"
        );
    }
}

#[test]
fn without_consent_and_for_bots_there_is_no_id_no_variant_and_no_event() {
    let services = Services::start(&json!({}));
    let bot = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)";
    let winner = experiment("done", json!({"state": "concluded", "winner": "green", "route": {"paths": ["/done"]}}));
    let experiments = [experiment("nav", set(json!({"request_headers": {"x-nav": "2"}, "redirect": "/new"}))), winner];
    let envoy = services.envoy(&plugin(
        &experiments,
        json!({
        "visitor": {"mint": {"secure": false}, "consent": {"cookie": "consent", "contains": "experiments"}, "honor": ["gpc", "dnt"]},
        "events": {"cluster": "collector", "batch": {"max_age": "100ms"}}}),
    ));
    let mut client = envoy.client();
    let consent = ("cookie", "consent=ads|experiments");
    for (headers, reason) in [
        (vec![], "no_consent"),
        (vec![("cookie", "consent=ads")], "no_consent"),
        (vec![("cookie", "consent=ads"), ("cookie", "consent=experiments")], "no_consent"),
        (vec![consent, ("sec-gpc", "1")], "no_consent"),
        (vec![consent, ("dnt", "1")], "no_consent"),
        (vec![consent, ("user-agent", bot)], "bot"),
    ] {
        for id in [None, Some("u1")] {
            let name = format!("edgesplit.demo.decisions.reason.{reason}");
            let before = envoy.counter(&name);
            let headers = headers.iter().copied().chain(id.map(|id| ("x-user-id", id)));
            let request =
                headers.clone().fold(client.get("/?a=1"), |request, (name, value)| request.header(name, value));
            let reply = request.send();
            assert_eq!((reply.status, reply.header("set-cookie")), (200, None), "{headers:?}");
            for name in ["x-ab-assignments", "x-ab-cache-key", "x-nav"] {
                assert_eq!(echoed(&reply, name), NONE, "{name}: {headers:?}");
            }
            eventually_eq("the reason is counted", before + 1, || envoy.counter(&name));
        }
    }
    // A concluded experiment applies to all visitors.
    let reply = client.get("/done").header("user-agent", bot).send();
    assert_eq!(reply.status, 200);
    assert_eq!(echoed(&reply, "x-ab-cache-key"), ["done.green"]);
    // With consent, and with objections that are none. Their two events are the only ones.
    for (number, objection) in ["0", ""].into_iter().enumerate() {
        let (name, value) = consent;
        let reply = client
            .get("/")
            .header(name, value)
            .header("sec-gpc", objection)
            .header("dnt", objection)
            .header("x-user-id", number.to_string())
            .send();
        assert_eq!(reply.status, 302);
    }
    eventually_eq("events", 2, || services.collector.events().len());
    assert_eq!(Accounts::of(&envoy).emitted, 2);
}

#[test]
fn id_from_a_token_and_bot_patterns_are_configurable() {
    let services = Services::start(&json!({}));
    let envoy = services.envoy(&plugin(
        &[experiment("nav", json!({"forced": {"u1": "control"}}))],
        json!({"visitor": {"id": [{"jwt_claim": "sub", "header": "authorization"}, {"jwt_claim": "uid", "cookie": "session"}],
                           "bot_patterns": ["Shop-Probe"]}}),
    ));
    let mut client = envoy.client();
    // {"sub":"u1"}, {"sub":"u2"} and {"uid":7}
    let [u1, u2, u7] =
        ["eyJzdWIiOiJ1MSJ9", "eyJzdWIiOiJ1MiJ9", "eyJ1aWQiOjd9"].map(|claims| format!("e30.{claims}.c2ln"));
    let session = format!("session={u7}");
    let (bearer1, bearer2) = (format!("Bearer {u1}"), format!("bearer {u2}"));
    for (headers, expected) in [
        (vec![("authorization", bearer1.as_str())], Some("nav=control")),
        (vec![("authorization", &bearer2), ("cookie", &session)], Some("nav=green")),
        (vec![("authorization", "Basic dTpw"), ("cookie", &session)], Some("nav=green")),
        (vec![("authorization", "Bearer a.b.c"), ("cookie", "session=%%%")], None),
        (vec![("authorization", &bearer1), ("user-agent", "shop-probe/2")], None),
        // The list is another one: the built-in one is not asked.
        (vec![("authorization", &bearer1), ("user-agent", "Googlebot")], Some("nav=control")),
    ] {
        let request = headers.iter().fold(client.get("/"), |request, (name, value)| request.header(name, value));
        let reply = request.send();
        assert_eq!(reply.status, 200);
        assert_eq!(echoed(&reply, "x-ab-assignments"), Vec::from_iter(expected), "{headers:?}");
    }
}

#[test]
fn cookies_that_an_http2_client_splits_are_found_in_every_part() {
    let services = Services::start(&json!({}));
    let forced = experiment(
        "nav",
        json!({"forced": {"u7": "control"}, "sticky": true, "variants": [
        {"key": "control", "weight": 1, "baseline": true}, {"key": "green", "weight": 9999}]}),
    );
    let envoy = services.envoy(&plugin(
        &[forced],
        json!({"visitor": {"id": [{"cookie": "uid"}], "consent": {"cookie": "consent", "contains": "yes"}},
               "request": {"sticky": {"cookie": "ab_sticky"}}}),
    ));
    for (cookies, expected) in [
        (vec!["uid=u7", "consent=yes"], vec!["nav=control"]),
        (vec!["a=1", "consent=yes", "b=2", "uid=u7", "c=3"], vec!["nav=control"]),
        (vec!["consent=yes", "uid=u7", "uid=u8"], vec!["nav=control"]),
        (vec!["consent=yes", "uid=u8", "uid=u7"], vec!["nav=green"]),
        (vec!["consent=no", "uid=u7", "consent=yes"], vec![]),
        (vec!["consent=yes", "uid=u8", "ab_sticky=1~nav.0.control"], vec!["nav=control"]),
    ] {
        let headers: Vec<(&str, &str)> = cookies.iter().map(|cookie| ("cookie", *cookie)).collect();
        services.origin.server.take_requests();
        http2::get(envoy.port(), "/", &headers).unwrap();
        let requests = services.origin.server.take_requests();
        assert_eq!(requests.len(), 1);
        assert_eq!(texts(&requests[0], "x-ab-assignments"), expected, "{cookies:?}");
    }
}

#[test]
fn hostile_clients_break_nothing() {
    let services = Services::start(&json!({}));
    let envoy = services.envoy(&plugin(
        &[
            experiment("nav", set(json!({"request_headers": {"x-nav": "2"}}))),
            experiment("audience", json!({"audience": {"country": {"$regex": "^D"}}})),
        ],
        json!({"visitor": {"id": [{"header": "x-user-id"}, {"cookie": "uid"}], "mint": {"secure": false},
                           "attributes": {"country": "header.x-country", "utm": "query.utm"},
                           "consent": {"cookie": "consent", "contains": "yes"}},
               "request": {"cache_key": {"query": "__ab"}},
               "events": {"cluster": "collector", "batch": {"max_age": "100ms"}}}),
    ));
    let before = envoy.crash_counts();
    let long = "x".repeat(513);
    let large = format!("a={}", "x".repeat(60_000));
    let many: String = (0..2_000).map(|number| format!("&p{number}=%zz%{number}+")).collect();
    let (query, repeated) = (format!("/?__ab=1{many}&utm=%ff"), vec![("cookie", &b"a=1; uid=u9"[..]); 80]);
    let raw = b"\xff\xfe\x80 raw".as_slice();
    let consent = ("cookie", b"consent=yes".as_slice());
    for (path, headers) in [
        ("/", vec![("x-user-id", raw)]),
        ("/", vec![("x-country", raw), ("user-agent", raw), ("referer", raw), ("x-user-id", b"u1")]),
        ("/", vec![("cookie", b"uid=\xff\xc0\x80"), ("cookie", raw)]),
        ("/", vec![("cookie", large.as_bytes())]),
        ("/", vec![("cookie", b";;;=;=;a;==;\x80=\xff; uid")]),
        ("/", repeated),
        ("/", vec![("x-user-id", b"")]),
        ("/", vec![("x-user-id", b""), ("cookie", b"uid=")]),
        ("/", vec![("x-user-id", long.as_bytes()), ("cookie", b"uid=\xff")]),
        ("/", vec![("x-ab-assignments", raw), ("x-nav", raw), ("x-nav", b""), ("x-ab-cache-key", raw)]),
        (query.as_str(), vec![("x-user-id", b"u1")]),
        ("/%00%ff?%__ab&&&=&%5f", vec![]),
        ("/?__ab=%", vec![("sec-gpc", raw)]),
        ("/;/..//%2e%2e/%2f?&?", vec![]),
    ] {
        for mut client in envoy.clients(4) {
            let request = headers
                .iter()
                .chain([&consent])
                .fold(client.get(path), |request, (name, value)| request.header(name, value));
            let status = request.send().status;
            assert_eq!(status, 200, "{path} {headers:?}");
        }
    }
    for mut client in envoy.clients(4) {
        let send =
            |client: &mut Client, id: &[u8]| client.get("/").header("cookie", consent.1).header("x-user-id", id).send();
        let reply = send(&mut client, b"u1");
        assert_eq!(
            (echoed(&reply, "x-nav"), echoed(&reply, "x-ab-assignments")),
            (vec!["2".to_owned()], vec!["nav=green".to_owned()])
        );
        // 512 bytes are an id, 513 are none: then one is minted.
        assert_eq!(send(&mut client, &long.as_bytes()[1..]).header("set-cookie"), None);
        for none in [long.as_bytes(), raw, b""] {
            assert!(send(&mut client, none).header("set-cookie").is_some());
        }
    }
    Accounts::at_rest(&envoy, |accounts| accounts.emitted > 0 && accounts.emitted == accounts.delivered);
    assert_eq!(envoy.crash_counts(), before);
    let log = envoy.log();
    assert!(!log.contains("panicked") && !log.contains("Wasm VM failed") && !log.contains("Function:"), "{log}");
}
