//! The dashboard over a real Envoy, looked at with a real Chromium where there is one: a healthy filter, an outage and its
//! end, a planted sample ratio mismatch. With `EDGESPLIT_SCREENSHOTS=docs` it writes the pictures of the docs.
#![allow(missing_docs)]
// Helpers of tests fail as tests do: by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod harness;

use harness::client::Client;
use harness::dashboard::{Dashboard, look};
use harness::http::Response;
use harness::stack::{Services, document};
use harness::{DEADLINE, eventually, eventually_eq, installed};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Two experiments; the first has this weight in its first variant.
fn experiments(first: u32) -> Value {
    let variants = |first: u32| json!([{"key": "control", "weight": first, "baseline": true}, {"key": "green", "weight": 10_000 - first}]);
    document(&[
        json!({"key": "checkout-button", "state": "running", "variants": variants(first), "guardrail": {}}),
        json!({"key": "navigation", "state": "running", "traffic": 6000, "variants": variants(5000)}),
        json!({"key": "old-banner", "state": "paused", "variants": variants(5000)}),
    ])
}

fn file(name: &str, config: &Value) -> PathBuf {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&file, config.to_string()).unwrap();
    file
}

fn visit(client: &mut Client, visitors: std::ops::Range<u32>) {
    for visitor in visitors {
        assert_eq!(client.get("/").header("x-user-id", format!("visitor-{visitor}")).send().status, 200);
    }
}

/// What the browser shows of an element, without the markup in it.
fn shown(markup: &str, id: &str) -> String {
    let (_, rest) = markup.split_once(&format!("id=\"{id}\"")).unwrap_or_else(|| panic!("no {id} in {markup}"));
    let (_, rest) = rest.split_once('>').unwrap();
    rest.split('<').next().unwrap().to_owned()
}

fn picture(browser: &Path, address: &str, name: &str, mode: &str) {
    if let Some(folder) = std::env::var_os("EDGESPLIT_SCREENSHOTS") {
        let file = std::env::current_dir().unwrap().join(folder).join(format!("{name}.png"));
        look(browser, address, Some((&file, mode))).unwrap();
    }
}

#[test]
fn it_shows_health_an_outage_and_its_end_and_a_mismatch() {
    let config = experiments(5000);
    let services = Services::start(&json!({}));
    let envoy = services.envoy(&json!({
        "experiments": {"inline": config}, "visitor": {"id": [{"header": "x-user-id"}]},
        "events": {"cluster": "collector", "batch": {"max_age": "100ms"}, "retry": {"backoff_min": "100ms", "backoff_max": "300ms"}}}));
    let good = file("dashboard.json", &config);
    let dashboard = Dashboard::start(envoy.admin_port(), good.to_str().unwrap(), 0).unwrap();
    // Somebody has another idea of the weights than the proxy has: seen from there, its shares are wrong.
    let planted = file("dashboard-planted.json", &experiments(6500));
    let mismatch = Dashboard::start(envoy.admin_port(), planted.to_str().unwrap(), 0).unwrap();
    let browser = installed("chromium", "browser");
    let markup =
        |dashboard: &Dashboard| browser.as_deref().map(|browser| look(browser, &dashboard.address, None).unwrap());

    let mut client = envoy.client();
    visit(&mut client, 0..1_000);
    eventually_eq("all is delivered", json!("healthy"), || {
        let state = dashboard.state();
        let is_whole = state["delivery"]["emitted"] == state["delivery"]["delivered"]
            && state["experiments"][0]["exposures"] == 1_000;
        if is_whole { state["overall"].clone() } else { Value::Null }
    });
    let state = dashboard.state();
    assert_eq!(state["experiments"][0]["test"]["plausible"], true, "{state:#}");
    assert_eq!(
        (&state["experiments"][2]["state"], &state["proxies"][0]["verdict"]["health"]),
        (&json!("paused"), &json!("healthy"))
    );
    if let Some(markup) = markup(&dashboard) {
        assert_eq!(
            (shown(&markup, "overall"), shown(&markup, "delivery-badge")),
            ("healthy".to_owned(), "healthy".to_owned())
        );
        assert_eq!(shown(&markup, "experiment-0-title"), "checkout-button");
        assert_eq!(shown(&markup, "figure-queued"), "0");
        assert!(markup.contains("the shares are what the weights say") && markup.contains("<canvas"), "{markup}");
    }

    services.collector.answer_status(503);
    visit(&mut client, 1_000..2_000);
    eventually_eq("the outage is seen", json!("broken"), || dashboard.state()["delivery"]["verdict"]["health"].clone());
    if let Some(markup) = markup(&dashboard) {
        assert_eq!(
            (shown(&markup, "overall"), shown(&markup, "delivery-badge")),
            ("broken".to_owned(), "broken".to_owned())
        );
        assert!(shown(&markup, "delivery-text").starts_with("nothing is delivered"), "{markup}");
        assert_ne!(shown(&markup, "figure-queued"), "0");
    }
    if let Some(browser) = &browser {
        picture(browser, &dashboard.address, "dashboard-outage", "light");
    }
    services.collector.answer_status(202);
    eventually(DEADLINE, "the outbox is empty again", || {
        let delivery = &dashboard.state()["delivery"];
        (delivery["verdict"]["health"] == "healthy" && delivery["queued_events"] == 0).then_some(())
    });
    let queued = dashboard.state()["delivery"]["history"]["queued"].clone();
    let highest = queued.as_array().unwrap().iter().filter_map(Value::as_u64).max();
    assert!(highest > Some(1_000), "it was seen rising: {queued}");
    if let Some(markup) = markup(&dashboard) {
        assert_eq!(shown(&markup, "overall"), "healthy");
    }

    let state = mismatch.state();
    assert_eq!(state["experiments"][0]["verdict"]["health"], "broken", "{state:#}");
    assert_eq!(state["experiments"][1]["verdict"]["health"], "healthy", "{state:#}");
    if let Some(markup) = markup(&mismatch) {
        assert_eq!(shown(&markup, "overall"), "broken");
        assert!(markup.contains("broken-card") && markup.contains("sample ratio mismatch"), "{markup}");
    }
    if let Some(browser) = &browser {
        picture(browser, &dashboard.address, "dashboard", "light");
        picture(browser, &mismatch.address, "dashboard-mismatch", "dark");
    }

    // One variant begins to fail.
    services.origin.respond(|request| {
        let assignments = request.header("x-ab-assignments").unwrap_or_default();
        Response::new(if assignments.contains("checkout-button=green") { 500 } else { 200 })
    });
    let mut visitors = 10_000..;
    eventually(DEADLINE, "the guardrail has switched it off", || {
        for visitor in visitors.by_ref().take(100) {
            client.get("/").header("x-user-id", format!("visitor-{visitor}")).send();
        }
        let state = dashboard.state();
        let green = &state["experiments"][0]["variants"][1];
        (green["off"] == 1 && green["server_errors"].as_u64() > Some(50)).then_some(())
    });
    let state = dashboard.state();
    assert_eq!(state["experiments"][0]["verdict"]["health"], "broken", "{state:#}");
    assert_eq!(state["experiments"][1]["verdict"]["health"], "healthy", "{state:#}");
    if let Some(markup) = markup(&dashboard) {
        assert!(markup.contains("switched off") && markup.contains("more server errors than the baseline"), "{markup}");
    }
    if let Some(browser) = &browser {
        picture(browser, &dashboard.address, "dashboard-guardrail", "light");
    }

    // What is gone is told, and so is a config that cannot be read.
    std::fs::write(&good, "{").unwrap();
    eventually_eq("the config is told", json!("watch"), || dashboard.state()["config"]["health"].clone());
    drop(envoy);
    eventually_eq("the Envoy is gone", json!("broken"), || {
        dashboard.state()["proxies"][0]["verdict"]["health"].clone()
    });
}
