//! Preview links in a real Envoy: a valid one shows its variants and leaves no trace, any other is nothing at all.
#![allow(missing_docs)]
// Helpers of tests fail as tests do: by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice)]

use edgesplit_filter::request_context::preview;
use edgesplit_testkit::caches::{on_port, start_envoy};
use edgesplit_testkit::client::Reply;
use edgesplit_testkit::eventually_eq;
use edgesplit_testkit::http::{Request, Response};
use edgesplit_testkit::roles::Origin;
use edgesplit_testkit::stack::{Accounts, Services, document, echoed, experiment, texts};
use serde_json::{Value, json};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

const SECRET: &str = "correct horse battery staple";

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// A parameter's value that chooses these variants, signed with this secret.
fn signed(secret: &str, expires_s: u64, pairs: &[(&str, &str)]) -> String {
    preview::parameter_value(&preview::make(secret.as_bytes(), expires_s, None, pairs).unwrap())
}

/// All visitors are in `green` of two experiments; `never` is a variant without visitors.
fn experiments() -> [Value; 2] {
    let variants = json!([{"key": "control", "weight": 0, "baseline": true}, {"key": "green", "weight": 10000},
                          {"key": "never", "weight": 0, "set": {"request_headers": {"x-nav": "never"},
                           "response_headers": {"x-shown": "never", "cache-control": "public, max-age=9"}}}]);
    [
        experiment("nav", json!({"variants": variants, "sticky": true})),
        experiment("button", json!({"route": {"paths": ["/shop*"]}})),
    ]
}

fn plugin() -> Value {
    json!({"experiments": {"inline": document(&experiments())},
           "visitor": {"id": [{"header": "x-user-id"}], "mint": {"secure": false}},
           "request": {"preview": {"parameter": "__ab_preview", "secret": SECRET}, "sticky": {"cookie": "ab_sticky"},
                       "cache_key": {"query": "__ab"}},
           "response": {"debug_header": "x-ab-debug"}, "effects": {"response_headers": ["x-*", "cache-control"]},
           "events": {"cluster": "collector", "batch": {"max_age": "100ms"}}})
}

/// What a client and the origin see, without what differs with every request.
fn seen(reply: &Reply) -> (u16, Value, Vec<Option<String>>) {
    let mut echo = reply.json();
    let headers = echo["headers"].as_array_mut().unwrap();
    headers.retain(|pair| pair[0] != "x-request-id");
    let names = ["cache-control", "set-cookie", "x-ab-debug", "x-shown"];
    (reply.status, echo, names.map(|name| reply.header(name)).to_vec())
}

#[test]
fn invalid_preview_is_ignored() {
    let services = Services::start(&json!({}));
    let envoy = services.envoy(&plugin());
    let mut client = envoy.client();
    let mut get = |path: &str| {
        let cookie = "ab_sticky=1~nav.0.green~button.0.green";
        client.get(path).header("x-user-id", "u1").header("cookie", cookie).header("x-ab-debug", "1").send()
    };
    let without = seen(&get("/shop?a=1&b=2"));
    assert_eq!(without.2, [Some("private".to_owned()), None, None, None], "{without:?}");
    let end = now_s() + 600;
    let valid = signed(SECRET, end, &[("nav", "never")]);
    let flipped = |at: usize| {
        let mut token = valid.clone().into_bytes();
        token[at] = if token[at] == b'A' { b'B' } else { b'A' };
        String::from_utf8(token).unwrap()
    };
    let invalid = [
        ("forged", signed("another secret of 25 bytes", now_s() + 600, &[("nav", "never")])),
        ("expired", signed(SECRET, now_s() - 1, &[("nav", "never")])),
        ("another variant", valid.replace("never", "green")),
        ("another experiment", valid.replace("nav", "button")),
        ("a later end", valid.replacen(&end.to_string(), &(end + 300).to_string(), 1)),
        ("a letter of the signature", flipped(valid.len() - 20)),
        ("its first byte", flipped(0)),
        ("without its end", valid[..valid.len() - 1].to_owned()),
        ("with more", format!("{valid}A")),
        ("without a signature", valid[..valid.rfind('~').unwrap()].to_owned()),
        ("nothing", String::new()),
        ("huge", "1~".repeat(2_000)),
        ("bytes", "%ff%00%7e%zz".to_owned()),
    ];
    for (what, token) in &invalid {
        assert_ne!(*token, valid, "{what}");
        for path in [
            format!("/shop?a=1&__ab_preview={token}&b=2"),
            // However its name is written.
            format!("/shop?__%61b_previe%77={token}&a=1&b=2"),
        ] {
            assert_eq!(seen(&get(&path)), without, "{what}: {path}");
        }
    }
    let shown = get(&format!("/shop?a=1&__ab_preview={valid}&b=2"));
    assert_eq!(echoed(&shown, "x-nav"), ["never"], "the one that they all differ from is valid");
}

#[test]
fn valid_preview_shows_its_variants_and_leaves_no_trace() {
    let services = Services::start(&json!({}));
    let envoy = services.envoy(&plugin());
    // Made by the command, as a person would.
    let output = Command::new(edgesplit_testkit::command::program())
        .args(["preview", "--secret", SECRET, "--expires", "2h", "nav=never"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let link = String::from_utf8(output.stdout).unwrap();
    let parameter =
        link.lines().find_map(|line| line.trim().split(['?', ' ']).find(|part| part.contains("~nav.never~")));
    let token = parameter.unwrap_or_else(|| panic!("{link}")).trim_start_matches("__ab_preview=").to_owned();

    let bot = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)";
    let mut clients = envoy.clients(4);
    for client in &mut clients {
        for (headers, others) in [
            (vec![("x-user-id", "u1")], "green"),
            // It also works for visitors without an id, and mints none.
            (vec![], ""),
            (vec![("user-agent", bot)], ""),
            (vec![("sec-gpc", "1")], ""),
        ] {
            let path = format!("/shop?x=1&__ab_preview={token}");
            let request = headers.iter().fold(client.get(&path), |request, (name, value)| request.header(name, value));
            let reply = request.send();
            assert_eq!(reply.status, 200);
            let assignments = match others {
                "" => "nav=never".to_owned(),
                other => format!("button={other}, nav=never"),
            };
            assert_eq!(echoed(&reply, "x-ab-assignments"), [assignments]);
            assert_eq!(
                (echoed(&reply, "x-nav"), reply.header("x-shown")),
                (vec!["never".to_owned()], Some("never".to_owned()))
            );
            // Not even a variant's own header makes it storable.
            assert_eq!(reply.header_all("cache-control"), ["no-store"]);
            assert_eq!(reply.header("set-cookie"), None);
            let debug = reply.header("x-ab-debug").unwrap();
            assert!(debug.contains("nav=never;preview") && debug.contains("button="), "{debug}");
            let key = echoed(&reply, "x-ab-cache-key").remove(0);
            assert!(key.starts_with("preview~") && key.ends_with("nav.never"), "{key}");
            let target = reply.json()["path"].as_str().unwrap().to_owned();
            assert!(target.starts_with("/shop?x=1&__ab=preview~") && !target.contains("__ab_preview"), "{target}");
        }
    }
    // On every worker one ordinary visitor, whose numbers come behind those of the previews.
    for (number, client) in clients.iter_mut().enumerate() {
        let reply = client.get("/").header("x-user-id", format!("visitor-{number}")).send();
        assert_eq!(
            (echoed(&reply, "x-ab-assignments"), reply.header("x-ab-debug")),
            (vec!["nav=green".to_owned()], None)
        );
    }
    eventually_eq("the ordinary exposures arrive", 4, || services.collector.events().len());
    eventually_eq("and are counted", 4, || envoy.counter("edgesplit.demo.decisions.reason.bucketed"));
    assert_eq!(Accounts::of(&envoy).emitted, 4);
    for (_, received) in services.collector.events() {
        assert_eq!((&received.event["path"], &received.event["variant"]), (&json!("/"), &json!("green")));
    }
    let exposures: Vec<(String, u64)> =
        envoy.stats(r"edgesplit\.demo\.exposures\.").into_iter().filter(|(_, count)| *count > 0).collect();
    assert_eq!(exposures, [("edgesplit.demo.exposures.experiment.nav.variant.green".to_owned(), 4)]);
    // The visitors were on no route of the other experiment; nothing else was decided.
    let decisions: Vec<(String, u64)> = (envoy.stats(r"edgesplit\.demo\.decisions\.reason\.").into_iter())
        .filter(|(_, count)| *count > 0)
        .map(|(name, count)| (name.trim_start_matches("edgesplit.demo.decisions.reason.").to_owned(), count))
        .collect();
    assert_eq!(decisions, [("bucketed".to_owned(), 4), ("route".to_owned(), 4)]);
}

/// A page that any cache may keep.
fn page(request: &Request) -> Response {
    Response::new(200)
        .header("cache-control", "public, max-age=600")
        .header("date", httpdate::fmt_http_date(SystemTime::now()))
        .body(format!("{} {:?}", request.path, texts(request, "x-ab-assignments")))
}

#[test]
fn preview_is_never_served_from_or_kept_in_a_cache() {
    let origin = Origin::start().unwrap();
    origin.respond(page);
    let effects = "effects: {response_headers: [\"x-*\", cache-control]}\n                    ";
    let block = format!("{effects}request:\n                      preview: {{secret: {SECRET}}}");
    let (changes, address) = ([("request:", block.as_str())], on_port(origin.port()));
    let envoy = start_envoy("cache-envoy.yaml", &changes, &document(&experiments()), &address);
    let asked = || origin.server.requests_received();
    let mut client = envoy.client();
    let mut get = |path: &str, id: &str| client.get(path).header("x-user-id", id).send();

    for (path, others) in [("/", "nav=green"), ("/shop?a=1", "button=green, nav=green")] {
        // A preview does not get the cached page of the same variant, and no visitor gets the page of a preview.
        let start = asked();
        for id in ["u1", "u2"] {
            let text = get(path, id).text();
            assert!(text.contains(others), "{path}: {text}");
        }
        assert_eq!(asked() - start, 1, "the page is cached");
        for variant in ["green", "control", "never"] {
            let token = signed(SECRET, now_s() + 600, &[("nav", variant)]);
            let separator = if path.contains('?') { "&" } else { "?" };
            for id in ["u1", "u1", "u3"] {
                let before = asked();
                let reply = get(&format!("{path}{separator}__ab_preview={token}"), id);
                assert!(reply.text().contains(&format!("nav={variant}")), "{}", reply.text());
                assert_eq!(reply.header("cache-control").as_deref(), Some("no-store"));
                assert_eq!((asked() - before, reply.header("age")), (1, None), "the origin is asked every time");
            }
        }
        let before = asked();
        for id in ["u1", "u4"] {
            let reply = get(path, id);
            assert!(reply.text().contains(others), "{}", reply.text());
            assert_eq!(reply.header("cache-control").as_deref(), Some("private, max-age=600"));
        }
        assert_eq!(asked() - before, 0, "and is unchanged");
    }
}
