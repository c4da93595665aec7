//! The dashboard over three real Envoys with 30 experiments, in a real Chromium if one is installed: an outage, a planted
//! mismatch, a variant that is switched off, typos in the live document, and a goal that one variant reaches more often. Each
//! must be seen within a number of exposures. `EDGESPLIT_SCREENSHOTS=docs` writes the screenshots of the docs.
#![allow(missing_docs)]
// Helpers of tests fail as tests do: by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use edgesplit_testkit::client::Client;
use edgesplit_testkit::dashboard::{Dashboard, Page, wait_for_state};
use edgesplit_testkit::envoy::Envoy;
use edgesplit_testkit::http::Response;
use edgesplit_testkit::stack::{Services, document};
use edgesplit_testkit::{DEADLINE, command, eventually};
use serde_json::{Value, json};
use std::path::Path;

const EXPERIMENTS: usize = 30;

/// How many experiments share a page.
const PER_PAGE: usize = 5;

/// The visitors that every page gets at first.
const VISITORS: u32 = 400;

/// The most exposures of its experiment after which each problem must be seen.
const MISMATCH_WITHIN: u32 = 160;
const SWITCHED_OFF_WITHIN: u32 = 900;
const GOAL_WITHIN: u32 = 3_000;

/// The experiments with the planted mismatch, the failing variant, the typo and the goal. Each is on a page of its own.
const MISMATCH: usize = 7;
const FAILING: usize = 12;
const TYPO: usize = 17;
const GOAL: usize = 22;

fn key(at: usize) -> String {
    ["checkout-button", "navigation", "search-ranking", "product-gallery", "newsletter"][at % PER_PAGE].to_owned()
        + &format!("-{at:02}")
}

fn page_of(at: usize) -> String {
    format!("/page-{}", at / PER_PAGE)
}

fn experiments() -> Value {
    let variants = json!([{"key": "control", "weight": 5000, "baseline": true}, {"key": "green", "weight": 5000}]);
    let experiments: Vec<Value> = (0..EXPERIMENTS)
        .map(|at| {
            let mut experiment =
                json!({"key": key(at), "state": "running", "route": {"paths": [page_of(at)]}, "variants": variants});
            if at == FAILING {
                experiment["guardrail"] = json!({"min_exposures": 50});
            }
            if at % 10 == 4 {
                experiment["audience"] = json!({"header.accept-language": {"$in": ["de", "en"]}});
            }
            if at % 10 == 9 {
                experiment["state"] = json!("paused");
            }
            experiment
        })
        .collect();
    let mut document = document(&experiments);
    document["goals"] = json!([{"key": "purchase", "route": {"paths": ["/api/orders"], "methods": ["POST"]}}]);
    document
}

/// Three Envoys, their dashboard and its page.
struct Fleet {
    services: Services,
    clients: Vec<Client>,
    _envoys: Vec<Envoy>,
    dashboard: Dashboard,
    page: Page,
    document: Value,
    next_visitor: u32,
}

impl Fleet {
    fn start() -> Fleet {
        let document = experiments();
        let services = Services::start(&document);
        let configuration = json!({
            "experiments": {"cluster": "experiments", "authority": "experiments.internal", "path": "/experiments.json", "refresh": "1s"},
            "visitor": {"id": [{"header": "x-user-id"}]},
            "events": {"cluster": "collector", "batch": {"max_age": "100ms"},
                       "retry": {"backoff_min": "100ms", "backoff_max": "300ms"}}});
        let envoys: Vec<Envoy> = (0..3).map(|_| services.envoy(&configuration)).collect();
        let admins: Vec<u16> = envoys.iter().map(Envoy::admin_port).collect();
        let config = format!("http://127.0.0.1:{}/experiments.json", services.configs.port());
        let dashboard = Dashboard::of(&admins, &config, 0).unwrap();
        let page = Page::open(&dashboard);
        let clients = envoys.iter().map(Envoy::client).collect();
        let mut fleet = Fleet { services, clients, _envoys: envoys, dashboard, page, document, next_visitor: 0 };
        for at in 0..3 {
            eventually(DEADLINE, "the Envoy has its experiments", || {
                let reply = fleet.clients[at]
                    .get("/page-0")
                    .header("x-user-id", "first")
                    .header("accept-language", "de")
                    .send();
                reply.text().contains("x-ab-assignments").then_some(())
            });
        }
        fleet
    }

    /// A request of a visitor, who always comes to the same Envoy.
    fn send(&mut self, method: &str, path: &str, visitor: u32) {
        let client = &mut self.clients[visitor as usize % 3];
        client.request(method, path).header("x-user-id", format!("v{visitor}")).header("accept-language", "de").send();
    }

    /// New visitors.
    fn visitors(&mut self, count: u32) -> std::ops::Range<u32> {
        let first = self.next_visitor;
        self.next_visitor += count;
        first..self.next_visitor
    }

    /// The visitors who are assigned green in an experiment.
    fn assigned(&self, at: usize, visitors: std::ops::Range<u32>) -> Vec<bool> {
        let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("dashboard-fleet.json");
        std::fs::write(&file, self.document.to_string()).unwrap();
        let request = |visitor| json!({"id": format!("v{visitor}"), "path": page_of(at)}).to_string() + "\n";
        let requests: String = visitors.clone().map(request).collect();
        let answers = command::edgesplit(&["evaluate", "--config", file.to_str().unwrap()], &requests);
        command::results(&answers).iter().map(|row| row["decisions"][at]["variant"] == "green").collect()
    }

    fn word(&self, at: usize) -> Value {
        self.dashboard.state()["experiments"][at]["verdict"]["word"].clone()
    }

    /// The place of an experiment's part on the page.
    fn part(at: usize, part: &str) -> String {
        format!("#experiment-{at} {part}")
    }

    /// Sends traffic until an experiment has a verdict. Returns how many requests were sent.
    #[track_caller]
    fn until(&mut self, at: usize, word: &str, within: u32, mut send: impl FnMut(&mut Fleet) -> u32) -> u32 {
        let mut sent = 0;
        while self.word(at) != word {
            assert!(
                sent < within,
                "{word} is not seen after {sent} exposures: {:#}",
                self.dashboard.state()["experiments"][at]
            );
            let seen = |state: &Value| state["experiments"][at]["exposures"].as_u64();
            let before = seen(&self.dashboard.state());
            let more = send(self);
            sent += more;
            // A variant that is switched off has no more exposures.
            wait_for_state(&self.dashboard, "the new count", |state| {
                seen(state) >= before.map(|before| before + u64::from(more))
                    || state["experiments"][at]["verdict"]["word"] == word
            });
        }
        sent
    }
}

#[test]
fn fleet_shows_each_problem_within_its_number_of_exposures() {
    let mut fleet = Fleet::start();
    for visitor in fleet.visitors(VISITORS) {
        for at in (0..EXPERIMENTS).step_by(PER_PAGE) {
            fleet.send("GET", &page_of(at), visitor);
        }
    }
    let is_healthy = |state: &Value| {
        let experiments = state["experiments"].as_array().unwrap();
        let of_running = experiments.iter().filter(|one| one["state"] == "running");
        state["overall"] == "healthy"
            && of_running.clone().all(|one| one["exposures"].as_u64() >= Some(u64::from(VISITORS)))
    };
    wait_for_state(&fleet.dashboard, "all is healthy", is_healthy);
    fleet.page.shows(&[("#overall", "healthy"), ("#count", "30 experiments"), ("#proxies-text", "3 of 3 healthy")]);
    shows_reasons(&mut fleet);
    outage(&mut fleet);
    goal(&mut fleet);
    mismatch(&mut fleet);
    let text = typo(&mut fleet);
    switched_off(&mut fleet);
    pictures(&mut fleet);
    syntax_error(&mut fleet, &text);
    fleet.page.close();
}

/// A page of a browser without its languages: the audience excludes it.
fn shows_reasons(fleet: &mut Fleet) {
    for visitor in 0..30 {
        fleet.clients[0].get(&page_of(4)).header("x-user-id", format!("other-{visitor}")).send();
    }
    let reasons = |state: &Value| state["experiments"][4]["reasons"].as_array().cloned().unwrap_or_default();
    let is_counted = |state: &Value| reasons(state).iter().any(|one| one["reason"] == "audience" && one["count"] == 30);
    wait_for_state(&fleet.dashboard, "the excluded visitors", is_counted);
    fleet.page.open_card(4);
    fleet.page.shows(&[
        (&Fleet::part(4, ".reasons tbody tr:nth-child(2)"), "audience"),
        (&Fleet::part(4, ".reasons"), "not in the audience"),
    ]);
    fleet.page.evaluate("document.getElementById('experiment-4-title').click()");
}

fn outage(fleet: &mut Fleet) {
    fleet.services.collector.answer_status(503);
    for visitor in fleet.visitors(60) {
        fleet.send("GET", &page_of(0), visitor);
    }
    wait_for_state(&fleet.dashboard, "the outage", |state| state["delivery"]["verdict"]["word"] == "not delivering");
    fleet.page.shows(&[("#delivery-badge", "not delivering"), ("#attention-list", "Check that the service runs")]);
    fleet.services.collector.answer_status(202);
    wait_for_state(&fleet.dashboard, "its end", |state| state["delivery"]["verdict"]["health"] == "healthy");
    fleet.page.shows(&[("#delivery-badge", "healthy")]);
}

/// Of 10 visitors with control, 5 reach the goal; of 10 with green, 6 do.
fn goal(fleet: &mut Fleet) {
    let lift = |state: &Value| state["experiments"][GOAL]["goals"][0]["variants"][1]["lift"].clone();
    let (mut sent, mut state) = (0, fleet.dashboard.state());
    while lift(&state)["certain"] != true {
        assert!(sent < GOAL_WITHIN, "no certain difference after {sent} exposures: {:#}", lift(&state));
        let visitors = fleet.visitors(500);
        let green = fleet.assigned(GOAL, visitors.clone());
        let (mut of_green, mut of_control) = (0, 0);
        for (visitor, is_green) in visitors.zip(green) {
            let (count, of_10) = if is_green { (&mut of_green, 6) } else { (&mut of_control, 5) };
            fleet.send("GET", &page_of(GOAL), visitor);
            if *count % 10 < of_10 {
                fleet.send("POST", "/api/orders", visitor);
            }
            *count += 1;
        }
        sent += 500;
        let total = |state: &Value| state["experiments"][GOAL]["exposures"].as_u64();
        state =
            wait_for_state(&fleet.dashboard, "the exposures", |state| total(state) >= Some(u64::from(VISITORS + sent)));
    }
    println!("a conversion of 60 instead of 50 %: certain after {sent} exposures: {}", lift(&state));
    assert!(lift(&state)["low"].as_f64() > Some(0.0), "{state:#}");
    fleet.page.open_card(GOAL);
    fleet.page.shows(&[
        (&Fleet::part(GOAL, ".goal caption"), "goal purchase"),
        (&Fleet::part(GOAL, ".goal tbody tr:nth-child(2)"), "higher"),
        (&Fleet::part(GOAL, ".goals .note"), "Operational figures"),
        (&Fleet::part(GOAL, ".goal-chart figcaption"), "purchase per minute"),
    ]);
}

/// Of more visitors, only those with control arrive.
fn mismatch(fleet: &mut Fleet) {
    let sent = fleet.until(MISMATCH, "sample ratio mismatch", MISMATCH_WITHIN, |fleet| {
        let visitors = fleet.visitors(80);
        let green = fleet.assigned(MISMATCH, visitors.clone());
        let of_control: Vec<u32> =
            visitors.zip(green).filter(|(_, is_green)| !is_green).map(|(visitor, _)| visitor).collect();
        of_control.iter().for_each(|visitor| fleet.send("GET", &page_of(MISMATCH), *visitor));
        of_control.len() as u32
    });
    println!("half of the visitors of a variant lost: a mismatch after {sent} exposures, beside {VISITORS} fair ones");
    fleet.page.shows(&[
        ("#list > tbody:nth-of-type(1) .name", &key(MISMATCH)),
        (&Fleet::part(MISMATCH, ".verdict"), "exposures too"),
        ("#attention-list a", &key(MISMATCH)),
    ]);
    fleet.page.open_card(MISMATCH);
    fleet.page.shows(&[
        (&Fleet::part(MISMATCH, ".causes"), "server errors"),
        (&Fleet::part(MISMATCH, ".causes"), "cache hits"),
    ]);
}

/// A variant begins to fail.
fn switched_off(fleet: &mut Fleet) {
    let failing = format!("{}=green", key(FAILING));
    fleet.services.origin.respond(move |request| {
        let assignments = request.header("x-ab-assignments").unwrap_or_default();
        Response::new(if assignments.contains(&failing) { 500 } else { 200 })
    });
    let sent = fleet.until(FAILING, "switched off", SWITCHED_OFF_WITHIN, |fleet| {
        let visitors = fleet.visitors(150);
        visitors.clone().for_each(|visitor| fleet.send("GET", &page_of(FAILING), visitor));
        visitors.len() as u32
    });
    println!("a variant with 5xx only: switched off after {sent} exposures");
    fleet.page.shows(&[
        (&Fleet::part(FAILING, ".badge"), "switched off"),
        (&Fleet::part(FAILING, ".guardrail"), "green off"),
    ]);
}

/// A typo disables one experiment. It is seen without any exposure. Returns the document with it.
fn typo(fleet: &mut Fleet) -> String {
    let mut document = fleet.document.clone();
    document["revision"] = json!("r2");
    document["experiments"][TYPO]["variants"][0]["wieght"] = json!(1);
    let text = serde_json::to_string_pretty(&document).unwrap();
    let line = 1 + text.lines().position(|line| line.contains("wieght")).unwrap();
    fleet.services.configs.set_body(text.clone());
    // Each Envoy fetches it at its own next refresh.
    let are_current = |state: &Value| {
        let mut proxies = state["proxies"].as_array().unwrap().iter();
        proxies.all(|proxy| proxy["revisions"] == json!(["r2"]) && proxy["verdict"]["health"] == "healthy")
    };
    let state = wait_for_state(&fleet.dashboard, "the invalid experiment on three healthy proxies", |state| {
        state["experiments"][TYPO]["state"] == "invalid" && are_current(state)
    });
    assert_eq!(state["experiments"][TYPO]["problem"]["line"], line);
    fleet.page.shows(&[
        (&Fleet::part(TYPO, ".badge"), "invalid"),
        (&Fleet::part(TYPO, ".verdict"), "did you mean `weight`?"),
        (&Fleet::part(TYPO, ".verdict"), &format!("(line {line})")),
    ]);
    text
}

fn pictures(fleet: &mut Fleet) {
    for (name, scheme, width) in [
        ("dashboard", "light", 1_440),
        ("dashboard-dark", "dark", 1_440),
        ("dashboard-phone", "light", 390),
        ("dashboard-phone-dark", "dark", 390),
    ] {
        fleet.page.picture(name, scheme, width, if width == 390 { 2_000 } else { 1_800 });
    }
}

/// A syntax error refuses the document, and the last good one stays in force.
fn syntax_error(fleet: &mut Fleet, text: &str) {
    fleet.services.configs.set_body(text.replace("\"schema\"", "schema"));
    wait_for_state(&fleet.dashboard, "the rejected document", |state| state["config"]["word"] == "rejected");
    fleet.page.shows(&[("#config-text", "The proxies keep the last good one"), (&Fleet::part(0, ".state"), "running")]);
}
