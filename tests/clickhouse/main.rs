//! The example of `examples/clickhouse/`: a real ClickHouse accepts the events of a real Envoy, through an outage, and its SQL
//! agrees with the filter's metrics and the dashboard.
#![allow(missing_docs)]
// Helpers of tests fail as tests do: by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod server;

use edgesplit_engine::conversion::{Conversions, Lift};
use edgesplit_engine::sample_ratio::SampleRatio;
use edgesplit_testkit::bootstrap::{EnvoyOptions, Plugin};
use edgesplit_testkit::client::Client;
use edgesplit_testkit::dashboard::Dashboard;
use edgesplit_testkit::envoy::Envoy;
use edgesplit_testkit::http::Response;
use edgesplit_testkit::roles::Origin;
use edgesplit_testkit::server::Server;
use edgesplit_testkit::stack::{Accounts, merged};
use edgesplit_testkit::{DEADLINE, eventually, installed};
use serde_json::{Value, json};
use server::ClickHouse;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/clickhouse").join(name)
}

fn text(name: &str) -> String {
    fs::read_to_string(example(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The experiments: halves, and thirds of a part; a goal.
fn experiments() -> Value {
    json!({"schema": 1, "revision": "r1",
        "experiments": [
            {"key": "checkout-button", "state": "running", "route": {"paths": ["/"]}, "variants": [
                {"key": "control", "weight": 5000, "baseline": true}, {"key": "green", "weight": 5000}]},
            {"key": "navigation", "state": "running", "traffic": 7000, "route": {"paths": ["/"]}, "variants": [
                {"key": "flat", "weight": 3000, "baseline": true}, {"key": "mega", "weight": 3000}, {"key": "tree", "weight": 4000}]}],
        "goals": [{"key": "purchase", "route": {"paths": ["/api/orders"]}, "statuses": ["2xx"]}]})
}

/// The example's plugin configuration with these experiments, and shorter delays than a site wants.
fn configuration() -> Value {
    let mut configuration: Value = serde_saphyr::from_str(&text("plugin.yaml")).unwrap();
    configuration["experiments"] = json!({"inline": experiments()});
    configuration["events"]["cluster"] = json!("collector");
    merged(
        configuration,
        json!({"events": {"batch": {"max_age": "200ms", "max_events": 100}, "timeout": "5s",
                          "retry": {"backoff_min": "100ms", "backoff_max": "500ms"}}}),
    )
}

fn envoy(origin: &Origin, sink: u16) -> Envoy {
    Envoy::start(&EnvoyOptions::new(origin.port()).plugin(Plugin::new(configuration())).collector(sink))
}

/// Visits of the page. Visitors whose numbers end in 0, 1 or 6 also order.
fn visit(client: &mut Client, visitors: std::ops::Range<u32>) {
    for visitor in visitors {
        let id = format!("visitor-{visitor}");
        let page = client.get("/").header("x-user-id", &id).header("x-country", "DE").send();
        assert_eq!(page.status, 200);
        if visitor % 10 == 0 || visitor % 5 == 1 {
            assert_eq!(client.post("/api/orders").header("x-user-id", &id).send().status, 200);
        }
    }
}

/// Waits until the sink has taken everything, and gives the accounts.
fn settled(envoy: &Envoy) -> Accounts {
    Accounts::at_rest(envoy, |accounts| {
        accounts.emitted > 0 && accounts.delivered == accounts.emitted && accounts.queued == 0
    })
}

/// Exposures by experiment and variant, as the filter counts them.
fn exposures_of(envoy: &Envoy) -> BTreeMap<(String, String), u64> {
    let prefix = "edgesplit.demo.exposures.experiment.";
    let stats = envoy.stats(&prefix.replace('.', r"\."));
    let names = stats.iter().filter_map(|(name, count)| {
        let (experiment, variant) = name.strip_prefix(prefix)?.split_once(".variant.")?;
        Some(((experiment.to_owned(), variant.to_owned()), *count))
    });
    names.collect()
}

/// Visitors who reached the goal by experiment and variant, as the filter counts them.
fn goals_of(envoy: &Envoy) -> BTreeMap<(String, String), u64> {
    let prefix = "edgesplit.demo.goals.experiment.";
    let stats = envoy.stats(&prefix.replace('.', r"\."));
    let names = stats.iter().filter_map(|(name, count)| {
        let (experiment, variant) =
            name.strip_prefix(prefix)?.strip_suffix(".goal.purchase")?.split_once(".variant.")?;
        Some(((experiment.to_owned(), variant.to_owned()), *count))
    });
    names.collect()
}

fn string(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()
}

fn close(left: &Value, right: &Value) -> bool {
    left.as_f64().zip(right.as_f64()).is_some_and(|(left, right)| (left - right).abs() < 1e-9)
}

#[test]
fn tables_hold_all_events_and_agree_with_the_dashboard() {
    let Some(mut server) = ClickHouse::start() else { return };
    let origin = Origin::start().unwrap();
    let envoy = envoy(&origin, server.port);
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("clickhouse-experiments.json");
    fs::write(&file, experiments().to_string()).unwrap();
    let dashboard = Dashboard::start(envoy.admin_port(), file.to_str().unwrap(), 0).unwrap();
    let mut client = envoy.client();

    // The table is missing: 404, which an operator can mend.
    visit(&mut client, 0..500);
    eventually(DEADLINE, "a call without a table", || (Accounts::of(&envoy).queued > 0).then_some(()));
    server.load_schema();
    settled(&envoy);

    visit(&mut client, 500..1_000);
    server.kill();
    visit(&mut client, 1_000..2_000);
    eventually(DEADLINE, "events wait", || (Accounts::of(&envoy).queued > 1_000).then_some(()));
    server.restart();
    visit(&mut client, 2_000..2_500);
    let accounts = settled(&envoy);
    assert_eq!((accounts.rejected, accounts.dropped_overflow, accounts.dropped_expired), (0, 0, 0));

    // Exactly the same, variant by variant.
    let rows = server.rows("exposures.sql");
    let held: BTreeMap<_, _> = rows
        .iter()
        .map(|row| ((string(&row["experiment"]), string(&row["variant"])), row["exposures"].as_u64().unwrap()))
        .collect();
    assert_eq!(held, exposures_of(&envoy), "{rows:#?}");
    let (exposures, orders) = (held.values().sum::<u64>(), 2_500 * 3 / 10);
    assert_eq!(exposures + orders, accounts.emitted, "goals are the rest");
    assert_eq!(server.number("SELECT uniqExact(id) FROM edgesplit.events"), accounts.emitted);
    let countries = "SELECT count() FROM edgesplit.events WHERE type = 'exposure' AND `attributes.country` != 'DE'";
    assert_eq!(server.number(countries), 0, "attributes have their columns");

    // The weights, loaded as in the example.
    let Some(jq) = installed("jq", "clickhouse") else { return };
    let weights = Command::new(jq).arg("-c").arg("-f").arg(example("weights.jq")).arg(&file).output().unwrap();
    let rows = String::from_utf8(weights.stdout).unwrap();
    assert_eq!(rows.lines().count(), 5, "{}", String::from_utf8_lossy(&weights.stderr));
    server.run(&format!("INSERT INTO edgesplit.weights FORMAT JSONEachRow {rows}"));

    // The shares and the test are the dashboard's.
    let state = eventually(DEADLINE, "the dashboard has seen everything", || {
        let state = dashboard.state();
        (state["delivery"]["delivered"] == json!(accounts.emitted)).then_some(state)
    });
    let shares = server.rows("exposures.sql");
    let mismatches = server.rows("mismatch.sql");
    assert_eq!((shares.len(), mismatches.len()), (5, 2), "{shares:#?} {mismatches:#?}");
    for experiment in state["experiments"].as_array().unwrap() {
        for variant in experiment["variants"].as_array().unwrap() {
            let is_it = |row: &&Value| row["experiment"] == experiment["key"] && row["variant"] == variant["key"];
            let row = shares.iter().find(is_it).unwrap();
            assert!(close(&row["share"], &variant["observed"]), "{row} {variant}");
            assert_eq!(row["exposures"], row["visitors"], "each came once");
        }
        let row = mismatches.iter().find(|row| row["experiment"] == experiment["key"]).unwrap();
        assert!(close(&row["p_value"], &experiment["test"]["p_value"]), "{row} {experiment:#}");
    }

    // The rates: the share that ordered among those shown a variant. The variant does not depend on the visitor's number.
    let rows = server.rows("conversions.sql");
    assert_eq!(rows.len(), 5, "{rows:#?}");
    let converted: u64 = rows.iter().filter_map(|row| row["converted"].as_u64()).sum();
    let joined = "SELECT count() FROM edgesplit.visitors ALL INNER JOIN edgesplit.goals USING unit";
    assert_eq!(converted, server.number(joined));
    for row in &rows {
        let number = |name: &str| row[name].as_f64().unwrap_or_else(|| panic!("{name}: {row}"));
        assert!((number("rate") - 0.3).abs() < 0.08, "{row}");
        assert!(number("low") < number("rate") && number("rate") < number("high"), "{row}");
        assert!(number("lift_low") <= number("lift") && number("lift") <= number("lift_high"), "{row}");
    }
    // The same conversion as in the metrics, which the dashboard shows, with the same interval.
    let counted = goals_of(&envoy);
    for row in &rows {
        let baseline = rows.iter().find(|base| base["experiment"] == row["experiment"] && base["lift"] == 0.0).unwrap();
        let side = |row: &Value| Conversions {
            exposures: held[&(string(&row["experiment"]), string(&row["variant"]))],
            converted: counted[&(string(&row["experiment"]), string(&row["variant"]))],
        };
        assert_eq!(side(row).converted, row["converted"].as_u64().unwrap(), "{row}");
        let lift = Lift::new(side(baseline), side(row)).unwrap();
        if row != baseline {
            assert!(close(&row["lift"], &json!(lift.difference)), "{row} {lift:?}");
            assert!(
                close(&row["always_low"], &json!(lift.low)) && close(&row["always_high"], &json!(lift.high)),
                "{row} {lift:?}"
            );
        }
    }
    println!("{} events and {exposures} exposures, in Envoy's metrics as in ClickHouse", accounts.emitted);
}

/// The answers to some batches are lost, and the filter sends them again.
#[test]
fn duplicates_count_once() {
    let Some(server) = ClickHouse::start() else { return };
    server.load_schema();
    server.run("SYSTEM STOP MERGES edgesplit.events");
    let target = server.port;
    let lost = AtomicU64::new(5);
    let between = Server::start(move |request| {
        let reply = Client::new(target)
            .post(&request.path)
            .header("x-clickhouse-user", request.header("x-clickhouse-user").unwrap())
            .header("x-clickhouse-key", request.header("x-clickhouse-key").unwrap())
            .body(&request.body)
            .send();
        let is_lost = lost.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
        Response::new(if is_lost { 504 } else { reply.status }).body(reply.body)
    })
    .unwrap();
    let origin = Origin::start().unwrap();
    let envoy = envoy(&origin, between.port());
    // Through both workers: each reports a visitor, under one id.
    for mut client in envoy.clients(2) {
        visit(&mut client, 0..300);
    }
    let accounts = settled(&envoy);
    let goals = server.number("SELECT uniqExact(id) FROM edgesplit.events WHERE type = 'goal'");
    let exposures = server.number("SELECT uniqExact(id) FROM edgesplit.events WHERE type = 'exposure'");
    assert_eq!(goals, 2 * 90, "every order");
    let emitted: u64 = exposures_of(&envoy).values().sum();
    assert_eq!(goals + emitted, accounts.emitted);
    assert_eq!(2 * exposures, emitted, "two workers, one exposure");
    let converted: u64 =
        goals_of(&envoy).into_iter().filter(|((one, _), _)| one == "checkout-button").map(|(_, n)| n).sum();
    assert_eq!(converted, goals, "each worker counts a visitor");
    let rows = server.number("SELECT count() FROM edgesplit.events");
    assert!(rows > goals + exposures, "something came twice: {rows}");
    // A merge that is under way can make this one leave parts out.
    server.run("SYSTEM START MERGES edgesplit.events");
    eventually(Duration::from_secs(60), "the repeats are merged", || {
        server.run("OPTIMIZE TABLE edgesplit.events FINAL");
        (server.number("SELECT count() FROM edgesplit.events") == goals + exposures).then_some(())
    });
    let rows = server.rows("exposures.sql");
    assert_eq!(rows.iter().filter_map(|row| row["exposures"].as_u64()).sum::<u64>(), exposures);
}

/// The test of the sample ratio against the dashboard's, and of rates against published ones.
#[test]
fn statistics_match_the_dashboard_and_published_tables() {
    let Some(server) = ClickHouse::start() else { return };
    server.load_schema();
    // Counts, and the weight of each.
    let cases: [(&str, &[u64], &[u32]); 8] = [
        ("even", &[500, 500], &[5000, 5000]),
        ("two", &[60, 40], &[5000, 5000]),
        ("three", &[100, 100, 130], &[3000, 3000, 4000]),
        ("four", &[25, 30, 20, 45], &[2500, 2500, 2500, 2500]),
        ("five", &[20, 20, 20, 20, 40], &[2000, 2000, 2000, 2000, 2000]),
        ("six", &[30, 14, 34, 45, 57, 20], &[1000, 1000, 2000, 2000, 2000, 2000]),
        ("uneven", &[400, 90, 30], &[9000, 500, 500]),
        ("absent", &[40, 0, 60], &[5000, 0, 5000]),
    ];
    let mut events = String::new();
    let weigh = |experiment: &str, variant: &str, weight: u32, baseline: bool| {
        let baseline = u8::from(baseline);
        server.run(&format!(
            "INSERT INTO edgesplit.weights VALUES ('{experiment}', '{variant}', {weight}, {baseline}, 1)"
        ));
    };
    for (experiment, counts, weights) in &cases {
        for (number, (count, weight)) in counts.iter().zip(*weights).enumerate() {
            let variant = format!("v{number}");
            weigh(experiment, &variant, *weight, number == 0);
            for visitor in 0..*count {
                events += &exposure(&format!("{experiment}-{variant}-{visitor}"), experiment, &variant);
            }
        }
    }
    weigh("impossible", "v0", 10_000, true);
    weigh("impossible", "v1", 0, false);
    events += &exposure("impossible-visitor", "impossible", "v1");
    // Newcombe's own example: 56 of 70 against 48 of 80.
    for (variant, visitors, converted) in [("v0", 80, 48), ("v1", 70, 56)] {
        weigh("newcombe", variant, 5000, variant == "v0");
        for visitor in 0..visitors {
            let unit = format!("newcombe-{variant}-{visitor}");
            events += &exposure(&unit, "newcombe", variant);
            if visitor < converted {
                events += &line("goal", &unit, json!({"goal": "buy"}));
            }
        }
    }
    server.run(&format!("INSERT INTO edgesplit.events FORMAT JSONEachRow {events}"));
    let rows = server.rows("mismatch.sql");
    for (experiment, counts, weights) in &cases {
        let row = rows.iter().find(|row| row["experiment"] == *experiment).unwrap();
        let weighted: Vec<(u64, u32)> = counts.iter().copied().zip(weights.iter().copied()).collect();
        let p_value = SampleRatio::new(&weighted).unwrap().p_value;
        assert_eq!(row["visitors"], counts.iter().sum::<u64>());
        assert!(close(&row["p_value"], &json!(p_value)), "{row} {p_value}");
    }
    let row = rows.iter().find(|row| row["experiment"] == "impossible").unwrap();
    assert_eq!(row["p_value"], 0.0, "a variant without weight was shown: {row}");
    let rows = server.rows("conversions.sql");
    let row = rows.iter().find(|row| row["experiment"] == "newcombe" && row["variant"] == "v1").unwrap();
    assert!(row["always_low"].is_null(), "too few visitors: {row}");
    for (name, expected) in [("rate", 0.8), ("lift", 0.2), ("lift_low", 0.0524), ("lift_high", 0.3339)] {
        assert!((row[name].as_f64().unwrap() - expected).abs() < 0.0001, "{name}: {row}");
    }
}

/// An event as the filter writes it, in a line of its own.
fn line(kind: &str, unit: &str, with: Value) -> String {
    // Any sixteen bytes that differ.
    let id = murmur3::murmur3_x64_128(&mut format!("{kind} {unit}").as_bytes(), 0).unwrap();
    let event = json!({"id": uuid::Uuid::from_u128(id).to_string(), "type": kind, "time": "2026-12-01T10:00:00.000Z", "unit": unit,
        "experiment": null, "variant": null, "goal": null, "revision": null, "host": "h", "path": "/", "status": 200});
    format!("{}\n", merged(event, with))
}

fn exposure(unit: &str, experiment: &str, variant: &str) -> String {
    line("exposure", unit, json!({"experiment": experiment, "variant": variant}))
}

#[test]
fn plugin_configuration_is_valid() {
    let plugin = serde_saphyr::from_str(&text("plugin.yaml")).unwrap();
    let problems = edgesplit_filter::plugin_config::PluginConfig::from_value(&plugin).err();
    assert!(problems.is_none(), "{problems:?}");
}
