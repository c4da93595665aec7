//! The stack that users are given, wherever it runs: as processes of this machine or in containers. What holds of the one
//! holds of the other, so the checks are the same: [`check`].

use super::client::{Client, Reply};
use super::envoy::flush_metrics;
use super::module_under_test::is_native;
use super::{command, eventually, eventually_eq};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::ops::Range;
use std::time::{Duration, Instant};

/// How long anything may take: containers start, services come back.
const PATIENCE: Duration = Duration::from_secs(120);

/// How long the count of events must stay the same to be whole.
const QUIET: Duration = Duration::from_secs(1);

/// What listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Port {
    Proxy,
    Admin,
    Collector,
    Dashboard,
    Prometheus,
}

/// The services that a check takes away and brings back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    Experiments,
    Collector,
}

/// The stack of `envoy/docker-compose.yaml`: Envoy with `envoy/compose/envoy.yaml`, and the services around it.
pub trait Site {
    /// A port of this machine; none of what the stack goes without here.
    fn port(&self, port: Port) -> Option<u16>;
    /// Ends a service. A collector forgets what it had.
    fn stop(&mut self, service: Service);
    /// Starts it again where it was.
    fn start(&mut self, service: Service);
    /// Writes another document into the file that the service with the experiments serves.
    fn write_experiments(&mut self, text: &str);
}

/// The document that the stack starts with.
pub fn experiments() -> String {
    std::fs::read_to_string(project("examples/experiments.json")).unwrap()
}

fn project(path: &str) -> std::path::PathBuf {
    super::root().join(path)
}

/// The plugin configuration in `envoy/compose/envoy.yaml`.
pub fn plugin() -> Value {
    let yaml = std::fs::read_to_string(project("envoy/compose/envoy.yaml")).unwrap();
    let bootstrap: Value = serde_saphyr::from_str(&yaml).unwrap();
    let filter =
        "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config/http_filters/0/typed_config/config";
    bootstrap.pointer(filter).unwrap()["configuration"]["value"].clone()
}

/// All that a user may rely on, one after the other.
pub fn check(site: &mut impl Site) {
    let visits = Visits::new(site);
    eventually(PATIENCE, "every worker has the experiments", || {
        // Envoy spreads connections at random: of so many, each worker has some.
        let connections = super::client::connections(visits.proxy, 16);
        let assigned = |mut client: Client| !seen(&visit(&mut client, "/checkout", "qa-1"), ASSIGNMENTS).is_empty();
        connections.into_iter().all(assigned).then_some(())
    });

    everything_arrives(&visits, 0);
    decisions_are_those_of_the_command(&visits);
    check_forged_headers_are_removed(&visits);
    pages_with_experiments_stay_with_their_visitor(&visits);
    check_unknown_visitors_get_an_id(&visits);
    check_excluded_visitors_are_left_alone(&visits);
    everything_arrives(&visits, 0);
    metrics_have_their_labels(site, &visits);

    check_collector_outage_loses_nothing(site, &visits);
    check_config_outage_changes_nothing(site, &visits);
    another_document_is_followed(site, &visits);
    check_dashboard_is_healthy(site, &visits);
}

const ASSIGNMENTS: &str = "x-ab-assignments";
const CACHE_KEY: &str = "x-ab-cache-key";

/// Where to go, and what to ask.
struct Visits {
    proxy: u16,
    admin: u16,
    collector: u16,
}

impl Visits {
    fn new(site: &impl Site) -> Visits {
        let [proxy, admin, collector] =
            [Port::Proxy, Port::Admin, Port::Collector].map(|port| site.port(port).expect("every stack has it"));
        Visits { proxy, admin, collector }
    }

    /// A counter or gauge of the filter's, such as `events.emitted`.
    fn stat(&self, name: &str) -> u64 {
        flush_metrics(self.proxy);
        let path = format!("/stats?format=json&filter=%5Ewasmcustom.edgesplit.demo.{name}%24");
        let reply = Client::new(self.admin).get(&path).send();
        reply.json()["stats"][0]["value"].as_u64().unwrap_or(0)
    }

    /// The collector's events, by its own count; none while it is away.
    fn collected(&self) -> Option<Value> {
        let reply = Client::new(self.collector).get("/").try_send().ok()?;
        (reply.status == 200).then(|| reply.json())
    }

    /// Orders of these visitors, which are goals.
    fn order(&self, visitors: Range<u32>) {
        let mut client = Client::new(self.proxy);
        for visitor in visitors {
            let reply = client.post("/api/orders").header("x-user-id", format!("v{visitor}")).send();
            assert_eq!(reply.status, 201);
        }
    }
}

fn visit(client: &mut Client, path: &str, id: &str) -> Reply {
    client.get(path).header("x-user-id", id).header("x-country", "DE").send()
}

/// The values of a header of the request that the origin answers with: a line for each.
fn seen(reply: &Reply, name: &str) -> Vec<String> {
    let text = reply.text();
    let lines = text.lines().filter_map(|line| line.split_once(": "));
    lines.filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned()).collect()
}

/// Visits of the checkout and of another page, each decided as the command decides it. Gives how many exposures that makes, by
/// experiment and variant.
fn visit_as_the_command_says(visits: &Visits, visitors: Range<u32>) -> BTreeMap<String, u64> {
    let pages = ["/checkout?step=1", "/about"];
    let asked: Vec<(String, &str)> =
        visitors.flat_map(|visitor| pages.map(|page| (format!("v{visitor}"), page))).collect();
    let line =
        |(id, page): &(String, &str)| format!("{}\n", json!({"id": id, "path": page, "headers": {"x-country": "DE"}}));
    let file = super::envoy::Directory::new().unwrap();
    std::fs::write(file.file("plugin.json"), plugin().to_string()).unwrap();
    let file = file.file("plugin.json").display().to_string();
    let arguments = ["evaluate", "--config", "examples/experiments.json", "--plugin", &file];
    let lines: String = asked.iter().map(line).collect();
    let expected = command::results(&command::edgesplit(&arguments, &lines));
    assert_eq!(expected.len(), asked.len());

    let mut client = Client::new(visits.proxy);
    let mut exposures = std::collections::BTreeSet::new();
    for ((id, page), expected) in asked.iter().zip(&expected) {
        let reply = visit(&mut client, page, id);
        assert_eq!(reply.status, 200);
        let text = |name: &str| seen(&reply, name).join("|");
        assert_eq!(
            (text(ASSIGNMENTS), text(CACHE_KEY)),
            (string(&expected["assignments"]), string(&expected["cache_key"])),
            "{id}"
        );
        let variant = |key: &str| {
            let decisions = expected["decisions"].as_array().unwrap();
            decisions.iter().find(|decision| decision["key"] == key).and_then(|decision| decision["variant"].as_str())
        };
        // What variants set.
        let path = if variant("checkout-button") == Some("green") { "/checkout-v2?step=1" } else { page };
        assert_eq!(reply.text().lines().next(), Some(format!("GET {path}").as_str()), "{id}");
        assert_eq!(text("x-navigation"), if variant("navigation") == Some("mega") { "mega" } else { "" }, "{id}");
        let shipping = match variant("free-shipping") {
            Some("from-50") => "50",
            Some("always") => "0",
            _ => "",
        };
        assert_eq!(text("x-free-shipping"), shipping, "{id}");
        for key in ["navigation", "checkout-button", "free-shipping"] {
            exposures.extend(variant(key).map(|variant| (id, format!("{key}={variant}"))));
        }
    }
    let mut counts = BTreeMap::new();
    for (_, variant) in exposures {
        *counts.entry(variant).or_default() += 1;
    }
    counts
}

fn string(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn decisions_are_those_of_the_command(visits: &Visits) {
    let before = exposures(visits);
    let made = visit_as_the_command_says(visits, 0..300);
    assert!(made.len() == 7 && made.values().all(|count| *count > 10), "every variant is met: {made:?}");
    let both = |mut sum: BTreeMap<String, u64>| {
        made.iter().for_each(|(variant, count)| *sum.entry(variant.clone()).or_default() += count);
        sum
    };
    let expected = both(before);
    eventually_eq("exposures are counted by variant", expected, || exposures(visits));
}

/// What the filter has emitted, by experiment and variant.
fn exposures(visits: &Visits) -> BTreeMap<String, u64> {
    let prefix = "wasmcustom.edgesplit.demo.exposures.experiment.";
    flush_metrics(visits.proxy);
    let reply = Client::new(visits.admin).get(&format!("/stats?filter=%5E{prefix}")).send();
    let text = reply.text();
    let variants = text.lines().filter_map(|line| {
        let (name, count) = line.strip_prefix(prefix)?.split_once(": ")?;
        Some((name.replace(".variant.", "="), count.parse().ok()?))
    });
    variants.collect()
}

fn check_forged_headers_are_removed(visits: &Visits) {
    for path in ["/checkout", "/about"] {
        let mut request = Client::new(visits.proxy);
        let mut request = request.get(path).header("x-user-id", "nobody-special");
        for name in [ASSIGNMENTS, CACHE_KEY, "x-navigation", "x-free-shipping", "X-AB-Assignments"] {
            request = request.header(name, "forged");
        }
        let reply = request.send();
        assert!(reply.status == 200 && !reply.text().contains("forged"), "{}", reply.text());
    }
}

fn pages_with_experiments_stay_with_their_visitor(visits: &Visits) {
    let mut client = Client::new(visits.proxy);
    let page = visit(&mut client, "/checkout", "v1");
    assert_eq!(page.header("cache-control").as_deref(), Some("private, max-age=60"));
    let order = client.post("/api/orders").send();
    assert_eq!(order.header("cache-control").as_deref(), Some("public, max-age=60"), "no experiment is about it");
}

fn check_unknown_visitors_get_an_id(visits: &Visits) {
    let mut client = Client::new(visits.proxy);
    // The holdout has one in fifty: one of a few is in an experiment.
    for _ in 0..10 {
        let first = client.get("/about").send();
        let cookie = first.header("set-cookie").expect("a cookie is minted");
        assert!(cookie.starts_with("ab_visitor="), "{cookie}");
        let pair = cookie.split(';').next().unwrap().to_owned();
        let again = client.get("/about").header("cookie", pair).send();
        assert_eq!((again.header("set-cookie"), seen(&again, ASSIGNMENTS)), (None, seen(&first, ASSIGNMENTS)));
        if !seen(&again, ASSIGNMENTS).is_empty() {
            return;
        }
    }
    panic!("none of ten visitors is in an experiment");
}

fn check_excluded_visitors_are_left_alone(visits: &Visits) {
    for (name, value) in [("user-agent", "Googlebot/2.1"), ("sec-gpc", "1")] {
        let reply = Client::new(visits.proxy).get("/checkout").header("x-user-id", "qa-1").header(name, value).send();
        assert_eq!(
            (reply.status, seen(&reply, ASSIGNMENTS), reply.header("set-cookie")),
            (200, vec![], None),
            "{name}"
        );
    }
}

/// Waits until the collector has what was emitted since it started, when `before` had been.
fn everything_arrives(visits: &Visits, before: u64) {
    // The filter counts on its ticks: a count that stays the same for longer is whole.
    let mut last = (0, Instant::now());
    eventually(PATIENCE, "every event is at the collector", || {
        let emitted = visits.stat("events.emitted");
        if emitted != last.0 {
            last = (emitted, Instant::now());
        }
        let arrived = visits.collected()?["events"] == emitted.checked_sub(before)?;
        let at_rest = visits.stat("events.delivered") == emitted && visits.stat("outbox.queued_events") == 0;
        (emitted > before && arrived && at_rest && last.1.elapsed() >= QUIET).then_some(())
    });
    for lost in ["rejected", "dropped_overflow", "dropped_expired", "diverted"] {
        assert_eq!(visits.stat(&format!("events.{lost}")), 0, "{lost}");
    }
}

fn metrics_have_their_labels(site: &impl Site, visits: &Visits) {
    let mega = exposures(visits)["navigation=mega"];
    let text = Client::new(visits.admin).get("/stats/prometheus").send().text();
    let line = text.lines().find(|line| {
        // A native module's metrics with labels have the plugin's name in theirs.
        let (name, plugin) =
            if is_native() { ("edgesplit_demo_exposures{", "") } else { ("edgesplit_exposures{", r#"plugin="demo""#) };
        let labels = [plugin, r#"experiment="navigation""#, r#"variant="mega""#];
        line.starts_with(name) && labels.iter().all(|label| line.contains(label))
    });
    assert!(line.is_some_and(|line| line.ends_with(&format!(" {mega}"))), "{line:?}: {mega}");
    let Some(prometheus) = site.port(Port::Prometheus) else { return };
    let mega = mega.to_string();
    let query = "edgesplit_exposures%7Bexperiment=%22navigation%22,variant=%22mega%22%7D";
    eventually(PATIENCE, "Prometheus has it", || {
        let reply = Client::new(prometheus).get(&format!("/api/v1/query?query={query}")).try_send().ok()?.json();
        (reply["data"]["result"][0]["value"][1] == *mega).then_some(())
    });
}

fn check_collector_outage_loses_nothing(site: &mut impl Site, visits: &Visits) {
    let before = visits.stat("events.emitted");
    site.stop(Service::Collector);
    let made: u64 = visit_as_the_command_says(visits, 300..600).values().sum();
    visits.order(300..350);
    eventually_eq("all of them wait", before + made + 50, || visits.stat("events.emitted"));
    eventually(PATIENCE, "they wait", || (visits.stat("outbox.queued_events") == made + 50).then_some(()));
    site.start(Service::Collector);
    everything_arrives(visits, before);
    let collected = visits.collected().unwrap();
    let counted = ["exposures", "goals", "repeats"].map(|name| collected[name].clone());
    assert_eq!(counted, [json!(made), json!(50), json!(0)]);
}

fn check_config_outage_changes_nothing(site: &mut impl Site, visits: &Visits) {
    site.stop(Service::Experiments);
    let failures = visits.stat("config.fetch_failure");
    eventually(PATIENCE, "fetches fail", || (visits.stat("config.fetch_failure") > failures).then_some(()));
    visit_as_the_command_says(visits, 600..700);
    site.start(Service::Experiments);
    let confirmed = || visits.stat("config.fetch_success") + visits.stat("config.fetch_not_modified");
    let before = confirmed();
    eventually(PATIENCE, "fetches succeed again", || (confirmed() > before).then_some(()));
}

fn another_document_is_followed(site: &mut impl Site, visits: &Visits) {
    let mut document: Value = serde_json::from_str(&experiments()).unwrap();
    document["revision"] = json!("another");
    document["experiments"][0]["state"] = json!("paused");
    let is_in_navigation = || {
        let mut connections = super::client::connections(visits.proxy, 16);
        let assigned =
            connections.iter_mut().map(|client| seen(&visit(client, "/checkout", "v3"), ASSIGNMENTS).join(""));
        let found: Vec<bool> = assigned.map(|text| text.contains("navigation=")).collect();
        (found.iter().all(|each| *each), found.iter().any(|each| *each))
    };
    assert_eq!(is_in_navigation(), (true, true));
    site.write_experiments("{");
    let refused = visits.stat("config.rejected");
    eventually(PATIENCE, "half a document is refused", || (visits.stat("config.rejected") > refused).then_some(()));
    assert_eq!(is_in_navigation(), (true, true));
    site.write_experiments(&document.to_string());
    eventually_eq("every worker has paused it", (false, false), is_in_navigation);
    site.write_experiments(&experiments());
    eventually_eq("every worker has it again", (true, true), is_in_navigation);
}

fn check_dashboard_is_healthy(site: &impl Site, visits: &Visits) {
    let dashboard = site.port(Port::Dashboard).expect("every stack has it");
    eventually(PATIENCE, "the dashboard is content", || {
        let state =
            Client::new(dashboard).get("/state.json").host(format!("127.0.0.1:{dashboard}")).try_send().ok()?.json();
        let delivery = &state["delivery"];
        let counted = delivery["delivered"] == visits.stat("events.emitted") && delivery["queued_events"] == 0;
        (counted && delivery["verdict"]["health"] == "healthy").then_some(())
    });
}
