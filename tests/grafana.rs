//! The Grafana dashboard and the alert rules of `examples/grafana/`: every query returns data in a real Prometheus that
//! scrapes a real Envoy, and every alert fires in Prometheus's own test of rules.
#![allow(missing_docs)]
// Helpers of tests fail as tests do: by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use edgesplit_engine::sample_ratio::SampleRatio;
use edgesplit_testkit::caches::{on_port, start_envoy};
use edgesplit_testkit::client::Client;
use edgesplit_testkit::envoy::Directory;
use edgesplit_testkit::module_under_test::is_native;
use edgesplit_testkit::roles::{Collector, Origin};
use edgesplit_testkit::{DEADLINE, eventually, installed, root};
use serde_json::{Value, json};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/grafana").join(name)
}

/// A Prometheus that ends with its owner.
struct Prometheus {
    process: Child,
    port: u16,
    _directory: Directory,
}

impl Prometheus {
    /// Scrapes this admin port every second.
    fn start(program: &Path, admin: u16) -> Prometheus {
        let directory = Directory::new().unwrap();
        let config = directory.file("prometheus.yml");
        // The configuration of the containers has rules that give the native module's metrics the names of the wasm module's.
        let text = std::fs::read_to_string(root().join("envoy/compose/prometheus.yml")).unwrap();
        let text = text
            .replace("scrape_interval: 2s, evaluation_interval: 5s", "scrape_interval: 1s, evaluation_interval: 1s");
        let text = text.replace("envoy:9901", &format!("127.0.0.1:{admin}"));
        std::fs::write(&config, text.replace("[alerts.yaml]", &json!([example("alerts.yaml")]).to_string())).unwrap();
        // A port that is free now: it cannot be asked which one it took.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let process = Command::new(program)
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", directory.file("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Prometheus { process, port, _directory: directory }
    }

    /// What it answers now; none while there is no answer.
    fn get(&self, path: &str) -> Option<Value> {
        let mut client = Client::new(self.port).deadline(Duration::from_secs(5));
        Some(client.get(path).try_send().ok()?.json())
    }

    /// What a query returns now; none while there is no answer.
    fn query(&self, query: &str) -> Option<Vec<Value>> {
        let encoded: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let reply = self.get(&format!("/api/v1/query?query={encoded}"))?;
        assert_ne!(reply["status"], "error", "{query}: {reply}");
        Some(reply["data"]["result"].as_array()?.clone())
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Every query of the dashboard, with its variables filled in as Grafana would.
fn dashboard_queries() -> Vec<String> {
    let dashboard: Value = serde_json::from_slice(&std::fs::read(example("dashboard.json")).unwrap()).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap());
    let filled = |text: &str| {
        ["$plugin", "$experiment"]
            .iter()
            .fold(text.to_owned(), |text, name| text.replace(name, ".*"))
            .replace("$__rate_interval", "30s")
    };
    targets.map(|target| filled(target["expr"].as_str().unwrap())).collect()
}

/// The parts of every alert's expression that have to return data, without what they are compared with.
fn alert_queries() -> Vec<String> {
    let text = std::fs::read_to_string(example("alerts.yaml")).unwrap();
    let (records, alerts): (Vec<_>, Vec<_>) =
        text.split("\n  - ").skip(1).partition(|rule| rule.starts_with("record: "));
    let expressions =
        alerts.iter().flat_map(|alert| alert.lines()).filter_map(|line| line.trim().strip_prefix("expr: "));
    // The exceptions need not return data.
    let conditions = expressions.filter_map(|expression| expression.split(" unless ").next());
    let parts = conditions.flat_map(|condition| condition.split(" and ").flat_map(|part| part.split(" or ")));
    let compared =
        |part: &str| part.rsplit_once(' ').map(|(rest, _)| rest.trim_end_matches([' ', '>', '<', '=']).to_owned());
    let recorded = records.iter().filter_map(|rule| rule.lines().next()?.strip_prefix("record: "));
    parts.filter_map(compared).chain(recorded.map(str::to_owned)).collect()
}

#[test]
fn every_query_returns_data_in_a_real_prometheus() {
    let (dashboard, alerts) = (dashboard_queries(), alert_queries());
    assert!(dashboard.len() >= 15 && alerts.len() >= 9, "{dashboard:?} {alerts:?}");
    let Some(prometheus) = installed("prometheus", "prometheus") else { return };
    let (origin, collector) = (Origin::start().unwrap(), Collector::start().unwrap());
    let inline = std::fs::read_to_string(example("../experiments.json")).unwrap();
    let mut inline: Value = serde_json::from_str(&inline).unwrap();
    // An invalid one, for its alert.
    inline["experiments"].as_array_mut().unwrap().push(json!({"key": "invalid", "state": "running", "variants": []}));
    let collector_port = format!("port_value: {}}}", collector.port());
    let changes = [("port_value: 8003}", collector_port.as_str())];
    let envoy = start_envoy("envoy.yaml", &changes, &inline, &on_port(origin.port()));
    let prometheus = Prometheus::start(&prometheus, envoy.admin_port());
    let mut client = envoy.client();
    let mut visitor = 0;
    // The native module has no VMs to count.
    let is_about_vms = |query: &&String| query.contains("wasm_runtime");
    for query in dashboard.iter().chain(&alerts).filter(|query| !is_native() || !is_about_vms(query)) {
        eventually(4 * DEADLINE, query, || {
            visitor += 1;
            let id = format!("visitor-{visitor}");
            client.get("/checkout").header("x-user-id", &id).send();
            client.post("/api/orders").header("x-user-id", &id).send();
            prometheus.query(query).filter(|result| !result.is_empty())
        });
    }
    // The rules are in force, and fire with the text of their annotations.
    let firing = eventually(4 * DEADLINE, "the alert of the invalid experiment fires", || {
        let alerts = prometheus.get("/api/v1/alerts")?["data"]["alerts"].as_array()?.clone();
        alerts
            .into_iter()
            .find(|alert| alert["state"] == "firing" && alert["labels"]["alertname"] == "EdgesplitExperimentsInvalid")
    });
    let summary = firing["annotations"]["summary"].as_str().unwrap();
    assert!(
        summary.starts_with("invalid, disabled experiments of demo on 127.0.0.1:") && summary.ends_with(": 1"),
        "{firing}"
    );
    let rules = eventually(DEADLINE, "every rule was evaluated", || {
        let rules = prometheus.get("/api/v1/rules")?["data"]["groups"][0]["rules"].as_array()?.clone();
        rules.iter().all(|rule| rule["health"] != "unknown").then_some(rules)
    });
    assert!(rules.len() >= 9 && rules.iter().all(|rule| rule["health"] == "ok"), "{rules:#?}");
    println!("{} queries of the dashboard and {} of the alerts return data", dashboard.len(), alerts.len());
    let shares = prometheus.query("sum by (experiment, variant) (edgesplit_exposures)").unwrap();
    assert!(
        shares.iter().any(|row| row["metric"]["experiment"] == "navigation" && row["metric"]["variant"] == "mega"),
        "{shares:?}"
    );
}

/// The rules' approximation of the logarithm of the gamma function is close enough, however few a variant has.
#[test]
fn mismatch_rule_agrees_with_the_dashboard() {
    let Some(promtool) = installed("promtool", "prometheus") else { return };
    let cases: [&[(u64, u32)]; 5] = [
        &[(600, 5_000), (400, 5_000)],
        &[(30, 1_000), (14, 1_000), (34, 2_000), (105, 2_000), (57, 2_000), (20, 2_000)],
        &[(9_990, 9_999), (10, 1)],
        &[(501_000_000, 5_000), (500_000_000, 5_000)],
        // The variant that is never shown has no exposures in Prometheus.
        &[(100, 7_000), (0, 3_000)],
    ];
    let (mut series, mut expressions) = (Vec::new(), Vec::new());
    for (number, counts) in cases.iter().enumerate() {
        for (variant, (count, weight)) in counts.iter().enumerate() {
            let labels =
                format!("{{plugin=\"demo\", instance=\"a\", experiment=\"e{number}\", variant=\"v{variant}\"}}");
            series.push(json!({"series": format!("edgesplit_weights{labels}"), "values": weight.to_string()}));
            if *count > 0 {
                series.push(json!({"series": format!("edgesplit_exposures{labels}"), "values": count.to_string()}));
            }
        }
        let p_value = SampleRatio::new(counts).unwrap().p_value;
        assert!(p_value < 1.0, "{counts:?} has no evidence to compare");
        let difference = format!("abs(edgesplit:log_evidence{{experiment=\"e{number}\"}} + {})", p_value.ln());
        expressions.push(json!({"expr": format!("{difference} < bool 0.01"), "eval_time": "0m",
            "exp_samples": [{"labels": format!("{{plugin=\"demo\", experiment=\"e{number}\"}}"), "value": 1}]}));
    }
    let test = json!({"rule_files": [example("alerts.yaml")], "evaluation_interval": "1m",
        "tests": [{"interval": "1m", "input_series": series, "promql_expr_test": expressions}]});
    let directory = Directory::new().unwrap();
    let file = directory.file("test.yaml");
    std::fs::write(&file, test.to_string()).unwrap();
    let output = Command::new(promtool).args(["test", "rules"]).arg(file).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn every_alert_fires() {
    let (rules, tests) = (example("alerts.yaml"), example("alerts_test.yaml"));
    // Each stands twice in the test: once before it fires, or in another series, and once when it does.
    let text = std::fs::read_to_string(&tests).unwrap();
    for line in std::fs::read_to_string(rules).unwrap().lines() {
        let Some(alert) = line.trim().strip_prefix("- alert: ") else { continue };
        assert!(text.contains(&format!("alertname: {alert}\n    exp_alerts: [{{")), "{alert} never fires in the test");
    }
    let Some(promtool) = installed("promtool", "prometheus") else { return };
    let output = Command::new(promtool).args(["test", "rules"]).arg(tests).output().unwrap();
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}
