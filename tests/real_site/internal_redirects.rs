//! Envoy follows a 302 of the origin itself, on routes with an `internal_redirect_policy`. The page that the client gets is
//! the page that was shown.

use super::{envoy_with, exposures, http_manager, plugin, responses, routes};
use edgesplit_testkit::client::Reply;
use edgesplit_testkit::envoy::Envoy;
use edgesplit_testkit::http::{Request, Response};
use edgesplit_testkit::stack::{Services, document, experiment, merged};
use edgesplit_testkit::{DEADLINE, eventually, eventually_eq};
use serde_json::{Value, json};
use std::time::Duration;

/// A site with redirects. Envoy follows absolute ones only.
fn site(request: &Request) -> Response {
    let redirect = |to: &str| Response::new(302).header("location", format!("http://shop.example{to}"));
    match request.path.split('?').next() {
        Some("/old") => redirect("/new"),
        Some("/first") => redirect("/old"),
        Some("/to-broken") => redirect("/broken"),
        Some("/to-slow") => redirect("/slow"),
        Some("/broken") => Response::new(500),
        Some("/slow") => {
            std::thread::sleep(Duration::from_secs(2));
            Response::new(200)
        }
        _ => Response::new(200),
    }
}

fn on(path: &str) -> Value {
    experiment(&path[1..], json!({"route": {"paths": [path]}}))
}

fn start(services: &Services, experiments: &[Value], with: Value) -> Envoy {
    services.origin.respond(site);
    let policy = json!({"internal_redirect_policy": {"max_internal_redirects": 3}});
    envoy_with(services, &plugin(document(experiments), with), policy)
}

fn get(envoy: &Envoy, path: &str) -> Reply {
    envoy.client().get(path).header("x-user-id", "u1").send()
}

#[test]
fn redirect_to_the_client_is_the_page_that_was_shown() {
    let services = Services::start(&json!({}));
    services.origin.respond(site);
    let envoy = services.envoy(&plugin(document(&[on("/old")]), json!({})));
    assert_eq!(get(&envoy, "/old").status, 302);
    eventually_eq("exposures", vec!["u1 old=green /old 302".to_owned()], || exposures(&services));
}

#[test]
fn every_leg_is_exposed_once_with_the_status_of_the_last() {
    let services = Services::start(&json!({}));
    let everywhere = experiment("site", json!({}));
    let envoy = start(&services, &[everywhere, on("/first"), on("/old"), on("/new")], json!({}));
    let mut client = envoy.client();
    for visits in 1..=2 {
        assert_eq!(client.get("/first").header("x-user-id", "u1").send().status, 200);
        let legs = ["first=green /first", "new=green /new", "old=green /old", "site=green /first"];
        let expected: Vec<String> = legs.map(|leg| format!("u1 {leg} 200")).to_vec();
        eventually_eq("exposures", expected, || exposures(&services));
        for experiment in ["site", "first", "old", "new"] {
            let expected = vec![("2xx".to_owned(), visits)];
            eventually_eq(experiment, expected, || responses(&envoy, experiment, "green"));
        }
    }
    assert_eq!(services.collector.repeats(), 0);
    assert_eq!(envoy.counter("edgesplit.demo.errors.legs_lost"), 0);
    // The assignments of one leg do not reach the next.
    let last = services.origin.last_request();
    assert_eq!(
        (last.path.as_str(), last.header("x-ab-assignments").as_deref()),
        ("/new", Some("new=green, site=green"))
    );
}

/// Each plugin of a chain has legs of its own.
#[test]
fn every_plugin_of_a_chain_exposes_all_legs() {
    let services = Services::start(&json!({}));
    services.origin.respond(site);
    let second = experiment("second", json!({"route": {"paths": ["/old"]}}));
    let own_names = json!({"request": {"assignments_header": "x-second", "cache_key": {"header": "x-second-key"}}});
    let second = plugin(document(&[second]), own_names).to_string();
    let configuration = plugin(document(&[on("/old"), on("/new")]), json!({}));
    let envoy = Envoy::start(&services.options(&configuration).adjust(move |bootstrap| {
        routes(bootstrap)[0]["route"]["internal_redirect_policy"] = json!({});
        let filters = http_manager(bootstrap)["http_filters"].as_array_mut().unwrap();
        let mut filter = filters[0].clone();
        filter["name"] = json!("second");
        filter["typed_config"]["config"]["name"] = json!("second");
        filter["typed_config"]["config"]["configuration"]["value"] = json!(second);
        filters.insert(1, filter);
    }));
    assert_eq!(get(&envoy, "/old").status, 200);
    let expected = ["new=green /new", "old=green /old", "second=green /old"].map(|leg| format!("u1 {leg} 200"));
    eventually_eq("exposures", expected.to_vec(), || exposures(&services));
    let last = services.origin.last_request();
    assert!(last.headers.iter().all(|(name, _)| !name.starts_with(b"x-edgesplit-leg")), "{:?}", last.headers);
}

#[test]
fn error_of_the_last_leg_counts_for_the_first() {
    let services = Services::start(&json!({}));
    let variants = json!([{"key": "control", "weight": 5000, "baseline": true},
                          {"key": "green", "weight": 5000, "set": {"path": {"prefix": "/page", "with": "/to-broken"}}}]);
    let guarded = json!({"route": {"paths": ["/page"]}, "variants": variants, "guardrail": {"min_exposures": 20}});
    let envoy = start(&services, &[experiment("nav", guarded)], json!({}));
    let mut client = envoy.client();
    let mut visitor = 0;
    eventually(DEADLINE, "the broken variant is switched off", || {
        visitor += 1;
        client.get("/page").header("x-user-id", format!("v{visitor}")).send();
        let off = envoy.counter("edgesplit.demo.guardrail.off.experiment.nav.variant.green");
        (off == 1).then_some(())
    });
    let green = eventually(DEADLINE, "its exposures arrive", || {
        let all = exposures(&services).into_iter();
        Some(all.filter(|line| line.contains("nav=green")).collect()).filter(|green: &Vec<String>| green.len() >= 20)
    });
    assert!(green.iter().all(|line| line.ends_with("/page 500")), "{green:?}");
}

#[test]
fn visitor_keeps_the_id_that_the_first_leg_minted() {
    let services = Services::start(&json!({}));
    let with = json!({"visitor": {"mint": {"secure": false}}, "request": {"sticky": {"cookie": "ab_sticky"}}});
    let sticky = |path: &str| merged(on(path), json!({"sticky": true}));
    let envoy = start(&services, &[sticky("/old"), sticky("/new")], with);
    let reply = envoy.client().get("/old").header("cookie", "ab_sticky=1~gone.0.green").send();
    let cookies = reply.header_all("set-cookie");
    let ids: Vec<&str> =
        cookies.iter().filter_map(|cookie| cookie.strip_prefix("ab_visitor=")?.split(';').next()).collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "{cookies:?}");
    // A browser keeps the last cookie of a name.
    let sticky = cookies.iter().rfind(|cookie| cookie.starts_with("ab_sticky=")).unwrap();
    assert!(sticky.contains("old.0.green") && sticky.contains("new.0.green"), "{sticky}");
    let expected = ["new=green /new", "old=green /old"].map(|leg| format!("{} {leg} 200", ids[0])).to_vec();
    eventually_eq("exposures", expected, || exposures(&services));
    assert_eq!(envoy.counter("edgesplit.demo.mint.minted"), 1);
}

#[test]
fn effects_and_goals_of_all_legs_are_on_the_response() {
    let services = Services::start(&json!({}));
    let shows = |path: &str| {
        let set = json!({"response_headers": {"x-shown": path, format!("x{}", path.replace('/', "-")): "1"}});
        experiment(
            &path[1..],
            json!({"route": {"paths": [path]}, "variants": [{"key": "green", "weight": 10_000, "set": set}]}),
        )
    };
    let mut document = document(&[shows("/old"), shows("/new")]);
    document["goals"] = json!([{"key": "any", "statuses": ["2xx"]}, {"key": "moved", "statuses": ["3xx"]},
                               {"key": "old", "route": {"paths": ["/old"]}}]);
    services.origin.respond(site);
    let policy = json!({"internal_redirect_policy": {}});
    let envoy = envoy_with(&services, &plugin(document, json!({})), policy);
    let reply = get(&envoy, "/old");
    let shown = ["x-shown", "x-old", "x-new", "cache-control"].map(|name| reply.header_all(name).join(","));
    assert_eq!(shown, ["/new", "1", "1", "private"]);
    let goals = || {
        let events = services.collector.events().into_values().map(|received| received.event);
        let mut goals: Vec<String> = events.filter_map(|event| event["goal"].as_str().map(str::to_owned)).collect();
        goals.sort();
        goals
    };
    eventually_eq("goals", vec!["any".to_owned(), "old".to_owned()], goals);
    eventually_eq("exposures", 2, || exposures(&services).len());
}

#[test]
fn preview_reports_no_leg() {
    let services = Services::start(&json!({}));
    let secret = "a secret of 22 bytes";
    let preview = json!({"request": {"preview": {"parameter": "__ab_preview", "secret": secret}}});
    let envoy = start(&services, &[on("/old"), on("/new")], preview);
    let until = u64::from(u32::MAX);
    let token =
        edgesplit_filter::request_context::preview::make(secret.as_bytes(), until, None, &[("old", "green")]).unwrap();
    let reply = get(&envoy, &format!("/old?__ab_preview={token}"));
    assert_eq!((reply.status, reply.header("cache-control").as_deref()), (200, Some("no-store")));
    get(&envoy, "/elsewhere");
    assert_eq!(get(&envoy, "/new").status, 200);
    eventually_eq("exposures", vec!["u1 new=green /new 200".to_owned()], || exposures(&services));
}

/// No header that a request sends lets it take over the plan of another one.
#[test]
fn forged_leg_takes_nothing_over() {
    let services = Services::start(&json!({}));
    let envoy = start(&services, &[on("/to-slow"), on("/slow"), on("/new")], json!({}));
    let impatient =
        envoy.client().deadline(Duration::from_millis(300)).get("/to-slow").header("x-user-id", "gone").try_send();
    assert!(impatient.is_err());
    for mut client in envoy.clients(2) {
        let forged = client.get("/new").header("x-user-id", "forger");
        let forged =
            forged.header("x-envoy-original-url", "http://shop.example/to-slow").header("x-envoy-internal", "true");
        assert_eq!(forged.send().status, 200);
    }
    std::thread::sleep(Duration::from_secs(3));
    eventually_eq("exposures", vec!["forger new=green /new 200".to_owned()], || exposures(&services));
}

/// A filter in front may answer the next leg: the visitor was not shown the page. Its plan waits, and is no other request's.
#[test]
fn waiting_leg_is_taken_over_by_no_request_and_counted_as_lost() {
    let services = Services::start(&json!({}));
    services.origin.respond(site);
    let script = "function envoy_on_request(handle)
        if handle:headers():get(':path') == '/new' then handle:respond({[':status'] = '451'}, '') end
    end";
    let configuration = plugin(document(&[on("/old"), on("/page")]), json!({}));
    let envoy = Envoy::start(&services.options(&configuration).workers(1).adjust(move |bootstrap| {
        routes(bootstrap)[0]["route"]["internal_redirect_policy"] = json!({});
        let lua = json!({"@type": "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua",
                         "default_source_code": {"inline_string": script}});
        let filters = http_manager(bootstrap)["http_filters"].as_array_mut().unwrap();
        filters.insert(0, json!({"name": "envoy.filters.http.lua", "typed_config": lua}));
    }));
    assert_eq!(get(&envoy, "/old").status, 451);
    let mut client = envoy.client();
    eventually(DEADLINE, "the leg is given up", || {
        let forged = client.get("/page").header("x-user-id", "forger").header("x-envoy-internal", "true");
        forged.header("x-envoy-original-url", "http://shop.example/old").header("edgesplit.demo.leg", "1").send();
        (envoy.counter("edgesplit.demo.errors.legs_lost") == 1).then_some(())
    });
    eventually_eq("exposures", vec!["forger page=green /page 200".to_owned()], || exposures(&services));
}
