//! The dashboard's page over admin interfaces with invented stats: many experiments and proxies, small screens, and states in
//! which there is nothing to see.
#![allow(missing_docs)]
// Helpers of tests fail as tests do: by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use edgesplit_testkit::dashboard::{Dashboard, FakeAdmin, Page, wait_for_state};
use edgesplit_testkit::stack::document;
use edgesplit_testkit::{DEADLINE, eventually, eventually_eq};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The longest time of scripts for one refresh with 300 experiments on 10 proxies.
const SCRIPT_MS_MAX: f64 = 100.0;

fn file(name: &str, text: &str) -> PathBuf {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&file, text).unwrap();
    file
}

/// An experiment on a page of its own, with this many variants of equal weight.
fn experiment(key: &str, variants: usize) -> Value {
    let name = |at: usize| if at == 0 { "control".to_owned() } else { format!("variant-{at}") };
    let weight = |at: usize| 10_000 / variants + if at == 0 { 10_000 % variants } else { 0 };
    let variants: Vec<Value> =
        (0..variants).map(|at| json!({"key": name(at), "weight": weight(at), "baseline": at == 0})).collect();
    json!({"key": key, "state": "running", "route": {"paths": [format!("/{key}")]}, "variants": variants})
}

/// Stats with these exposures of each variant of `experiments`.
fn stats(experiments: &[Value], exposures: impl Fn(usize, usize) -> u64) -> BTreeMap<String, u64> {
    let mut stats = BTreeMap::new();
    let mut emitted = 0;
    for (at, experiment) in experiments.iter().enumerate() {
        for (place, variant) in experiment["variants"].as_array().unwrap().iter().enumerate() {
            let name = format!(
                "experiment.{}.variant.{}",
                experiment["key"].as_str().unwrap(),
                variant["key"].as_str().unwrap()
            );
            let count = exposures(at, place);
            stats.insert(format!("exposures.{name}"), count);
            stats.insert(format!("responses.{name}.class.2xx"), count);
            stats.insert(format!("goals.{name}.goal.purchase"), count / 10);
            emitted += count;
        }
        for reason in ["bucketed", "audience", "bot"] {
            stats
                .insert(format!("decisions.experiment.{}.reason.{reason}", experiment["key"].as_str().unwrap()), 1_000);
        }
    }
    stats.insert("events.emitted".to_owned(), emitted);
    stats.insert("events.delivered".to_owned(), emitted);
    stats
}

#[test]
fn refresh_of_300_experiments_on_10_proxies_is_quick() {
    let experiments: Vec<Value> = (0..300).map(|at| experiment(&format!("experiment-{at}"), 2 + at % 3)).collect();
    let file = file("dashboard-many.json", &document(&experiments).to_string());
    let admins: Vec<FakeAdmin> = (0..10).map(|_| FakeAdmin::start()).collect();
    let set = |round: u64| {
        for (proxy, admin) in (0..).zip(&admins) {
            admin.set(&stats(&experiments, |at, place| 1_000 + round * (1 + (at as u64 + place as u64 + proxy) % 7)));
        }
    };
    set(0);
    let ports: Vec<u16> = admins.iter().map(FakeAdmin::port).collect();
    let dashboard = Dashboard::of(&ports, file.to_str().unwrap(), 0).unwrap();
    let mut page = Page::open(&dashboard);
    page.shows(&[("#count", "300 experiments"), ("#experiment-299 .exposures", "in all")]);
    let Some(browser) = &mut page.0 else { return };
    browser.evaluate("document.getElementById('experiment-7-title').click()");
    browser.wait_for("#experiment-7 .shares-chart figcaption", |text| text.contains("shares of exposures"));
    // Times of the page's thread, which do not depend on the load of the machine.
    browser.call("Performance.enable", json!({"timeDomain": "threadTicks"}));
    browser.evaluate("window.drawn = 0; const draws = show; show = (state) => { draws(state); window.drawn += 1; }");
    let mut measure = |drawn: u64| {
        let mut seen = None;
        eventually(4 * DEADLINE, "ten refreshes", || {
            let now = browser.evaluate("window.drawn").as_u64();
            if now != seen {
                // Every refresh has other figures.
                set(now.unwrap_or(0) + 1);
                seen = now;
            }
            (now >= Some(drawn)).then_some(())
        });
        let metrics = browser.call("Performance.getMetrics", json!({}))["metrics"].clone();
        ["ScriptDuration", "RecalcStyleDuration", "LayoutDuration", "TaskDuration"].map(|name| {
            let found = metrics.as_array().unwrap().iter().find(|metric| metric["name"] == name);
            found.unwrap()["value"].as_f64().unwrap() * 1_000.0
        })
    };
    let (first, last) = (measure(1), measure(11));
    let [script_ms, style_ms, layout_ms, all_ms] = std::array::from_fn(|at| (last[at] - first[at]) / 10.0);
    println!(
        "300 experiments on 10 proxies, per refresh: {script_ms:.1} ms of script, {style_ms:.1} of style, {layout_ms:.1} of \
         layout, {all_ms:.1} in all"
    );
    assert!(script_ms > 0.0 && script_ms < SCRIPT_MS_MAX, "{script_ms:.1} ms");
    // Searched, with the figures of one proxy.
    browser.evaluate("document.getElementById('search').value = 'experiment-29'; document.getElementById('search').dispatchEvent(new Event('input'))");
    browser.wait_for("#count", |text| text == "11 of 300 experiments");
    browser.evaluate("document.getElementById('proxy').value = '3'; document.getElementById('proxy').dispatchEvent(new Event('change'))");
    let of_one = dashboard.state()["experiments"][29]["exposures"].as_u64().unwrap() / 10;
    browser.wait_for("#experiment-29 .exposures", |text| {
        let shown: Option<u64> =
            text.lines().find_map(|line| line.strip_suffix(" in all")?.replace(',', "").parse().ok());
        shown.is_some_and(|shown| shown.abs_diff(of_one) < 500)
    });
    page.close();
}

#[test]
fn share_and_verdict_are_visible_on_a_phone() {
    let long = "checkout-button-with-a-name-of-exactly-sixty-characters-long";
    assert_eq!(long.len(), 60);
    let mut experiments: Vec<Value> = (0..40).map(|at| experiment(&format!("experiment-{at}"), 2)).collect();
    let mut wide = experiment(long, 12);
    for (at, variant) in wide["variants"].as_array_mut().unwrap().iter_mut().enumerate() {
        variant["key"] = json!(format!("{at:02}-variant-with-a-name-of-exactly-sixty-characters-as-well-"));
    }
    let countries: Vec<String> = (0..200).map(|at| format!("country-{at}")).collect();
    wide["audience"] = json!({"country": {"$in": countries}});
    experiments.push(wide);
    let file = file("dashboard-phone.json", &document(&experiments).to_string());
    let admin = FakeAdmin::start();
    // The wide experiment has a mismatch.
    admin.set(&stats(&experiments, |at, place| if at == 40 && place == 3 { 400 } else { 1_000 }));
    let dashboard = Dashboard::start(admin.port(), file.to_str().unwrap(), 0).unwrap();
    wait_for_state(&dashboard, "the mismatch", |state| {
        state["experiments"][40]["verdict"]["word"] == "sample ratio mismatch"
    });
    let mut page = Page::open(&dashboard);
    page.shows(&[("#count", "41 experiments"), ("#experiment-40 .badge", "sample ratio mismatch")]);
    page.open_card(40);
    let Some(browser) = &mut page.0 else { return };
    for width in [390, 320] {
        browser.resize(width, 844);
        // Every row shows its verdict and a share within the window, and the first row is the one with the mismatch.
        let hidden = "[...document.querySelectorAll('#list > tbody')].filter((row) => [row.querySelector('.badge'), row.querySelector('.share b')].some((node) => {
               const box = node.getBoundingClientRect();
               return box.width === 0 || box.left < 0 || box.right > innerWidth;
             })).map((row) => row.id)";
        eventually_eq("rows that are cut off", json!([]), || browser.evaluate(hidden));
        let visible = "(() => { const cell = document.querySelector('#experiment-40 .variants tbody td'); const box = cell.getBoundingClientRect(); return box.left >= 0 && box.right <= innerWidth && cell.innerText.endsWith('%') || [box.left, box.right, cell.innerText]; })()";
        eventually_eq("the card's shares are visible", json!(true), || browser.evaluate(visible));
        let wide = "document.documentElement.scrollWidth <= innerWidth ? [] : [...document.querySelectorAll('body *')].filter((node) => node.getBoundingClientRect().right > innerWidth && !node.closest('.scroll')).map((node) => node.tagName + '.' + node.className)";
        eventually_eq("the page is not wider than the window", json!([]), || browser.evaluate(wide));
        assert_eq!(browser.evaluate("document.querySelector('#list > tbody').id"), "experiment-40");
    }
    browser.resize(1_200, 844);
    // A chart is drawn from the second point on.
    browser.wait_for("#experiment-40 .goal-chart figcaption", |text| text.contains("purchase per minute"));
    let read = browser.read_out();
    let has = |role: &str, name: &str| read.iter().any(|(is, called)| is == role && called.contains(name));
    for (role, name) in [
        ("table", "Experiments"),
        ("rowheader", long),
        ("button", long),
        ("columnheader", "verdict"),
        ("columnheader", "route, audience, traffic"),
        ("combobox", ""),
        ("table", "goal purchase"),
        ("table", "decisions by reason"),
        ("group", "purchase per minute"),
    ] {
        assert!(role == "combobox" || has(role, name), "no {role} {name:?}: {read:#?}");
    }
    page.close();
}

#[test]
fn keyboard_opens_rows_and_keeps_its_place() {
    let experiments: Vec<Value> = (0..3).map(|at| experiment(&format!("experiment-{at}"), 2)).collect();
    let file = file("dashboard-keyboard.json", &document(&experiments).to_string());
    let admin = FakeAdmin::start();
    admin.set(&stats(&experiments, |_, _| 1_000));
    let dashboard = Dashboard::start(admin.port(), file.to_str().unwrap(), 0).unwrap();
    let mut page = Page::open(&dashboard);
    page.shows(&[("#experiment-2 .badge", "healthy")]);
    let Some(browser) = &mut page.0 else { return };
    browser.evaluate("document.getElementById('experiment-2-title').focus()");
    browser.press("Enter");
    browser.wait_for("#experiment-2 .detail h3", |text| !text.is_empty());
    assert_eq!(browser.evaluate("document.activeElement.getAttribute('aria-expanded')"), "true");
    // The row moves to the top, and the focus moves with it.
    admin.set(&stats(&experiments, |at, place| if at == 2 && place == 1 { 500 } else { 1_000 }));
    browser.wait_for("#list > tbody:nth-of-type(1) .badge", |text| text == "sample ratio mismatch");
    assert_eq!(browser.evaluate("document.activeElement.id"), "experiment-2-title");
    browser.press("Space");
    eventually_eq("the card is closed", json!(0), || browser.evaluate("document.querySelectorAll('.detail').length"));
    page.close();
}

/// Waits until the page shows a problem of this name, with the time since when and a response.
#[track_caller]
fn shows_problem(page: &mut Page, dashboard: &Dashboard, word: &str) {
    let state = wait_for_state(dashboard, word, |state| {
        state["attention"]
            .as_array()
            .unwrap()
            .iter()
            .any(|one| one["word"] == word && one["since_s"].as_u64() > Some(0))
    });
    let found = state["attention"].as_array().unwrap().iter().find(|one| one["word"] == word).unwrap();
    assert!(!found["response"].as_str().unwrap().is_empty(), "{found}");
    page.shows(&[
        ("#attention-list", word),
        ("#attention-list", found["response"].as_str().unwrap()),
        ("#attention-list", "for "),
    ]);
}

#[test]
fn empty_and_broken_states_have_a_time_and_a_response() {
    let experiments = [experiment("button", 2)];
    let text = document(&experiments).to_string();
    let file = file("dashboard-broken.json", &text);
    let admins = [FakeAdmin::start(), FakeAdmin::start()];
    // Nothing listens on port 1.
    let dashboard = Dashboard::start(1, file.to_str().unwrap(), 0).unwrap();
    let mut page = Page::open(&dashboard);
    shows_problem(&mut page, &dashboard, "no answer");
    page.shows(&[("#experiment-0 .badge", "unknown"), ("#experiment-0 .exposures", "–")]);
    page.0.iter_mut().for_each(|browser| browser.complaints.clear());
    drop((page, dashboard));

    let ports = [admins[0].port(), admins[1].port()];
    let dashboard = Dashboard::of(&ports, file.to_str().unwrap(), 0).unwrap();
    let mut page = Page::open(&dashboard);
    shows_problem(&mut page, &dashboard, "no filter");
    let set = |more: &[(&str, u64)]| {
        let mut stats = stats(&experiments, |_, _| 0);
        stats.extend(more.iter().map(|(name, value)| ((*name).to_owned(), *value)));
        admins.iter().for_each(|admin| admin.set(&stats));
    };
    set(&[("decisions.reason.no_unit", 500)]);
    shows_problem(&mut page, &dashboard, "no ids");
    set(&[("exposures.experiment.button.variant.control", 60), ("decisions.reason.bucketed", 60)]);
    shows_problem(&mut page, &dashboard, "no events block");
    set(&[("config.revision_hash", 5)]);
    shows_problem(&mut page, &dashboard, "no exposures");
    // A typo disables one experiment; a syntax error refuses the document.
    std::fs::write(&file, text.replace("\"weight\"", "\n\"wieght\"")).unwrap();
    shows_problem(&mut page, &dashboard, "invalid");
    page.shows(&[("#experiment-0 .state", "invalid"), ("#experiment-0 .verdict", "(line 2)")]);
    std::fs::write(&file, "{\"schema\": 1,\n").unwrap();
    shows_problem(&mut page, &dashboard, "rejected");
    page.shows(&[("#config-text", "The proxies keep the last good one"), ("#experiment-0 .state", "invalid")]);
    std::fs::remove_file(&file).unwrap();
    shows_problem(&mut page, &dashboard, "unreadable");
    page.close();
}
