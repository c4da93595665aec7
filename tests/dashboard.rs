//! The dashboard over a real Envoy, in a real Chromium if one is installed. One page stays open through health, an outage and
//! its end, a planted sample ratio mismatch, and a guardrail.
#![allow(missing_docs)]
// Helpers of tests fail as tests do: by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use edgesplit_testkit::browser::Browser;
use edgesplit_testkit::client::Client;
use edgesplit_testkit::dashboard::{Dashboard, Page, wait_for_state};
use edgesplit_testkit::http::Response;
use edgesplit_testkit::stack::{Services, document};
use edgesplit_testkit::{DEADLINE, command, eventually, eventually_eq};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Two experiments with halves, and one that is paused.
fn experiments() -> Value {
    let halves = json!([{"key": "control", "weight": 5000, "baseline": true}, {"key": "green", "weight": 5000}]);
    document(&[
        json!({"key": "checkout-button", "state": "running", "variants": halves, "guardrail": {}}),
        json!({"key": "navigation", "state": "running", "traffic": 6000, "variants": halves}),
        json!({"key": "old-banner", "state": "paused", "variants": halves}),
    ])
}

fn file(name: &str, config: &Value) -> PathBuf {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&file, config.to_string()).unwrap();
    file
}

fn visit(client: &mut Client, visitors: impl IntoIterator<Item = u32>) {
    for visitor in visitors {
        assert_eq!(client.get("/").header("x-user-id", format!("visitor-{visitor}")).send().status, 200);
    }
}

/// The `visitors` who are assigned this variant of the first experiment.
fn assigned(config: &Path, variant: &str, visitors: std::ops::Range<u32>) -> Vec<u32> {
    let requests: String = visitors.clone().map(|visitor| format!("{{\"id\": \"visitor-{visitor}\"}}\n")).collect();
    let answers = command::edgesplit(&["evaluate", "--config", config.to_str().unwrap()], &requests);
    let rows = command::results(&answers);
    assert_eq!(rows.len(), visitors.len());
    let is_assigned = |(_, row): &(u32, Value)| row["decisions"][0]["variant"] == variant;
    visitors.zip(rows).filter(is_assigned).map(|(visitor, _)| visitor).collect()
}

const FIRST: &str = "#experiment-0 .badge";
const SECOND: &str = "#experiment-1 .badge";

#[test]
fn dashboard_shows_health_outage_mismatch_and_guardrail() {
    let config = experiments();
    let services = Services::start(&json!({}));
    let envoy = services.envoy(&json!({
        "experiments": {"inline": config}, "visitor": {"id": [{"header": "x-user-id"}]},
        "events": {"cluster": "collector", "batch": {"max_age": "100ms"}, "retry": {"backoff_min": "100ms", "backoff_max": "300ms"}}}));
    let file = file("dashboard.json", &config);
    let dashboard = Dashboard::start(envoy.admin_port(), file.to_str().unwrap(), 0).unwrap();
    let mut page = Page::open(&dashboard);
    let mut client = envoy.client();
    page.shows(&[("#overall", "watch"), (FIRST, "no exposures"), ("#experiment-2 .badge", "paused")]);
    page.unfold("delivery");
    page.unfold("proxies");
    page.shows(&[("#figure-emitted", "0")]);

    visit(&mut client, 0..1_000);
    wait_for_state(&dashboard, "all is delivered and healthy", |state| {
        state["overall"] == "healthy"
            && state["attention"] == json!([])
            && state["delivery"]["emitted"] == state["delivery"]["delivered"]
            && state["experiments"][0]["exposures"] == 1_000
            && state["proxies"][0]["revisions"] == json!(["r1"])
    });
    page.shows(&[
        ("#overall", "healthy"),
        ("#delivery-badge", "healthy"),
        ("#experiment-0-title", "checkout-button"),
        ("#experiment-0 .verdict", "Split is as expected (p = "),
        ("#experiment-0 .shares", "50.0 %"),
        ("#experiment-0 .state", "running"),
        ("#experiment-0 .visitors", "everywhere"),
        ("#experiment-1 .visitors", "60 %"),
        ("#experiment-0 .guardrail", "armed"),
        ("#figure-queued", "0"),
        ("#proxies tbody td:nth-child(8)", "r1"),
        ("#announcement", "overall healthy"),
    ]);

    // The collector fails: the page shows the outbox rising, and later emptying.
    services.collector.answer_status(503);
    let mut seen = vec![0];
    for visitors in 1_000..2_000 {
        visit(&mut client, [visitors]);
        if visitors % 250 == 249 {
            let last = *seen.last().unwrap();
            seen.push(eventually(DEADLINE, "it rises", || {
                let queued = dashboard.state()["delivery"]["queued_events"].as_u64().unwrap();
                let shown = page.number("#figure-queued").unwrap_or(queued);
                (shown > last && shown.abs_diff(queued) < 250).then_some(shown)
            }));
        }
    }
    println!("the rising outbox on the page: {seen:?}");
    wait_for_state(&dashboard, "the outage at its height", |state| {
        let delivery = &state["delivery"];
        delivery["verdict"]["health"] == "broken" && delivery["queued_events"].as_u64() > Some(1_000)
    });
    page.shows(&[
        ("#overall", "broken"),
        ("#delivery-badge", "not delivering"),
        ("#delivery-text", "No events are delivered"),
        ("#attention-list", "will be sent when the service is back"),
        ("#announcement", "broken, Delivery: not delivering"),
    ]);
    services.collector.answer_status(202);
    let state = wait_for_state(&dashboard, "the outbox is empty again", |state| {
        state["delivery"]["verdict"]["health"] == "healthy" && state["delivery"]["queued_events"] == 0
    });
    let queued = &state["delivery"]["history"]["queued"];
    let highest = queued.as_array().unwrap().iter().filter_map(Value::as_u64).max();
    assert!(highest > Some(1_000), "it was seen rising: {queued}");
    page.shows(&[("#overall", "healthy"), ("#delivery-badge", "healthy")]);
    page.unfold("delivery");
    page.shows(&[("#figure-queued", "0"), ("#announcement", "resolved: Delivery: not delivering")]);

    // A planted mismatch: of more visitors, only those with `control` arrive.
    visit(&mut client, assigned(&file, "control", 2_000..2_600));
    page.shows(&[
        (FIRST, "sample ratio mismatch"),
        (SECOND, "healthy"),
        ("#experiment-0 .verdict", "Do not trust this experiment's results"),
        ("#attention-list a", "checkout-button"),
    ]);
    eventually_eq("the mismatch is flagged", json!(["sample ratio mismatch", "healthy"]), || {
        let experiments = &dashboard.state()["experiments"];
        json!([experiments[0]["verdict"]["word"], experiments[1]["verdict"]["word"]])
    });
    page.open_card(0);
    page.shows(&[
        ("#experiment-0 .causes li", "unknown"),
        ("#experiment-0 .shares-chart figcaption", "expected bands"),
    ]);

    // One variant begins to fail.
    services.origin.respond(|request| {
        let assignments = request.header("x-ab-assignments").unwrap_or_default();
        Response::new(if assignments.contains("checkout-button=green") { 500 } else { 200 })
    });
    let mut visitors = 10_000..;
    let state = eventually(DEADLINE, "the guardrail has switched it off", || {
        for visitor in visitors.by_ref().take(100) {
            client.get("/").header("x-user-id", format!("visitor-{visitor}")).send();
        }
        let state = dashboard.state();
        let green = &state["experiments"][0]["variants"][1];
        (green["off"] == 1 && green["server_errors"].as_u64() > Some(50)).then_some(state)
    });
    assert_eq!(state["experiments"][0]["verdict"]["health"], "broken", "{state:#}");
    assert_eq!(state["experiments"][1]["verdict"]["health"], "healthy", "{state:#}");
    page.shows(&[
        (FIRST, "switched off"),
        ("#experiment-0 .verdict", "more server errors than the baseline"),
        ("#experiment-0 .variants tbody tr:nth-child(2)", ", off"),
        ("#experiment-0 .guardrail", "green off"),
        (SECOND, "healthy"),
    ]);

    // Failures are shown, and the last figures stay: an unreadable config, a stopped Envoy, a stopped dashboard.
    std::fs::write(&file, "{").unwrap();
    eventually_eq("the rejected config is shown", json!("rejected"), || dashboard.state()["config"]["word"].clone());
    page.shows(&[("#config-text", "rejected as a whole"), ("#experiment-0-title", "checkout-button")]);
    drop(envoy);
    eventually_eq("the Envoy is gone", json!("no answer"), || {
        dashboard.state()["proxies"][0]["verdict"]["word"].clone()
    });
    page.shows(&[("#proxies .badge", "no answer"), ("#proxies .small", "Figures are")]);
    let known = dashboard.state()["experiments"][1]["exposures"].as_u64();
    assert!(known >= state["experiments"][1]["exposures"].as_u64(), "the last figures stay: {known:?}");
    if let Some(browser) = &mut page.0 {
        assert_eq!(browser.complaints, [""; 0]);
        drop(dashboard);
        browser.wait_for("#overall", |text| text == "the dashboard does not answer");
        browser.wait_for("#as-of", |text| text.starts_with("last update at "));
        // The browser logs its failed fetches too.
        browser.complaints.clear();
    }
    page.close();
}

#[test]
fn dashboard_sums_several_envoys_and_is_accessible() {
    let config = experiments();
    let services = Services::start(&json!({}));
    let configuration = json!({
        "experiments": {"inline": config}, "visitor": {"id": [{"header": "x-user-id"}]},
        "events": {"cluster": "collector", "batch": {"max_age": "100ms"}}});
    let envoys = [services.envoy(&configuration), services.envoy(&configuration)];
    let file = file("dashboard-several.json", &config);
    // Nothing listens on port 1.
    let admins = [envoys[0].admin_port(), envoys[1].admin_port(), 1];
    let dashboard = Dashboard::of(&admins, file.to_str().unwrap(), 0).unwrap();
    for (at, envoy) in envoys.iter().enumerate() {
        visit(&mut envoy.client(), (0..400).map(|visitor| visitor + 400 * at as u32));
    }
    let words = ["healthy", "healthy", "no answer"];
    wait_for_state(&dashboard, "figures of both are added up", |state| {
        let (delivery, experiments) = (&state["delivery"], &state["experiments"]);
        let has_arrived = delivery["queued_events"] == 0 && delivery["delivered"] == delivery["emitted"];
        let is_counted = experiments[0]["exposures"] == 800 && experiments[1]["exposures"].as_u64() > Some(400);
        (has_arrived && is_counted)
            && (0..3).all(|at| state["proxies"][at]["verdict"]["word"] == words[at])
            && (state["overall"] == "broken" && delivery["verdict"]["health"] == "healthy")
    });
    // With --json, the exit code shows that something is broken.
    let envoy = |at: usize| format!("http://127.0.0.1:{}", admins[at]);
    let ask = |envoys: &[&str]| {
        let arguments = envoys.iter().flat_map(|envoy| ["--envoy", envoy]);
        let rest = ["--json", "--config", file.to_str().unwrap()];
        command::edgesplit(&["dashboard"].into_iter().chain(arguments).chain(rest).collect::<Vec<_>>(), "")
    };
    let output = ask(&[&envoy(0), &envoy(1)]);
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), &json["experiments"][0]["exposures"]), (Some(0), &json!(800)), "{json:#}");
    assert_eq!(ask(&[&envoy(0), &envoy(2)]).status.code(), Some(1));

    let mut page = Page::open(&dashboard);
    page.shows(&[("#overall", "broken"), ("#proxies tbody tr:nth-child(3) .badge", "no answer"), ("#as-of", "as of")]);
    let Some(browser) = &mut page.0 else { return };
    // By keyboard: a skip link leads to the experiments, and a link to the part that needs attention.
    browser.press("Tab");
    assert_eq!(browser.text(":focus"), "Skip to the experiments");
    browser.press("Enter");
    let focus_is = |browser: &mut Browser, id: &str| {
        eventually_eq("the focus", json!(id), || browser.evaluate("document.activeElement.id"));
    };
    focus_is(browser, "experiments");
    browser.evaluate("document.querySelector('#attention-list a').focus()");
    browser.press("Enter");
    focus_is(browser, "proxies");
    // The arrow keys read a chart out.
    browser.evaluate("document.querySelector('#experiment-0-title').focus()");
    browser.press("Enter");
    browser.wait_for("#experiment-0 .shares-chart figcaption", |text| text.contains("shares of exposures"));
    browser.evaluate("document.querySelector('#experiment-0 figure').focus()");
    browser.press("ArrowLeft");
    let read = browser.wait_for("#announcement", |text| text.starts_with('−'));
    assert!(read.contains("control ") && read.contains(", green "), "{read}");
    // A paused page does not change.
    browser.evaluate("document.querySelector('#pause').focus()");
    browser.press("Space");
    assert_eq!(browser.text("#pause"), "Resume");
    visit(&mut envoys[0].client(), 5_000..5_100);
    eventually(DEADLINE, "the dashboard has counted on", || {
        (dashboard.state()["experiments"][0]["exposures"] == 900).then_some(())
    });
    assert!(browser.text("#as-of").starts_with("paused at"));
    assert!(browser.text("#experiment-0 .exposures").contains("800 in all"));
    browser.press("Enter");
    browser.wait_for("#experiment-0 .exposures", |text| text.contains("900 in all"));
    browser.evaluate("document.getElementById('delivery').open = true");
    browser.wait_for("#outbox figcaption", |text| text.contains("events waiting"));

    // Everything that a screen reader stops at has a name.
    let read = browser.read_out();
    let has = |role: &str, name: &str| read.iter().any(|(is, called)| is == role && called.contains(name));
    for (role, name) in [
        ("heading", "Delivery"),
        ("heading", "Experiments"),
        ("rowheader", "checkout-button"),
        ("searchbox", "search"),
        ("article", "checkout-button"),
        ("region", "Needs attention"),
        ("table", "checkout-button: exposures by variant"),
        ("columnheader", "share"),
        ("rowheader", "control"),
        ("group", "events waiting in buffers and in the outbox"),
        ("group", "shares of exposures"),
        ("group", "exposures per minute"),
        ("button", "Pause"),
        ("status", ""),
    ] {
        assert!(has(role, name), "no {role} {name:?}: {read:#?}");
    }
    for (role, name) in
        read.iter().filter(|(role, _)| ["button", "link", "group", "region", "table"].contains(&role.as_str()))
    {
        assert!(!name.is_empty(), "a {role} without a name");
    }
    assert!(read.iter().all(|(_, name)| !name.contains("undefined") && !name.contains("NaN")), "{read:#?}");
    // One live region speaks, and only on changes.
    assert_eq!(browser.evaluate("document.querySelectorAll('[aria-live], [role=status], [role=alert]').length"), 1);
    browser.evaluate("window.spoken = 0; new MutationObserver(() => window.spoken++).observe(document.querySelector('#announcement'), {childList: true})");
    let drawn = browser.text("#as-of");
    browser.wait_for("#as-of", |text| text != drawn);
    assert_eq!(browser.evaluate("window.spoken"), 0);

    // In a narrow window, only tables scroll sideways, and they are reachable by keyboard.
    for width in [320, 700, 1200] {
        browser.resize(width, 900);
        eventually_eq("the page is not wider than the window", json!(true), || {
            browser.evaluate("document.documentElement.scrollWidth <= innerWidth")
        });
        let unreachable = "[...document.querySelectorAll('.wide, .scroll')].filter((node) => node.scrollWidth > node.clientWidth && node.tabIndex !== 0).length";
        eventually_eq("scrollable parts are reachable", json!(0), || browser.evaluate(unreachable));
    }
    // Every text has a contrast of at least 4.5 to 1 (WCAG AA), in light and in dark.
    for scheme in ["light", "dark"] {
        browser.prefer(scheme);
        eventually_eq(scheme, json!([]), || browser.evaluate(CONTRAST));
    }
    page.close();
}

/// Texts whose contrast is below 4.5 to 1, with the contrast. Backgrounds are opaque colours or none.
const CONTRAST: &str = r#"(() => {
  const parts = (color) => color.match(/[\d.]+/g).map(Number);
  const light = (color) => parts(color).slice(0, 3).map((part) => part / 255)
    .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4))
    .reduce((sum, part, at) => sum + part * [0.2126, 0.7152, 0.0722][at], 0);
  const behind = (node) => {
    for (let one = node; one; one = one.parentElement) {
      const color = getComputedStyle(one).backgroundColor;
      if (parts(color).length === 3 || parts(color)[3] > 0) return color;
    }
    return "rgb(255, 255, 255)";
  };
  const poor = [];
  for (const node of document.querySelectorAll("body *")) {
    const text = [...node.childNodes].filter((child) => child.nodeType === 3).map((child) => child.data.trim()).join("");
    if (!text || !node.getClientRects().length) continue;
    const [one, other] = [light(getComputedStyle(node).color), light(behind(node))].sort((a, b) => b - a);
    const ratio = (one + 0.05) / (other + 0.05);
    if (ratio < 4.5) poor.push(text + ": " + ratio.toFixed(2));
  }
  return poor;
})()"#;
