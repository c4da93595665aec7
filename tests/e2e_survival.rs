//! What outlives a VM: leases, batches and experiments, when a worker crashes and when a listener is replaced.
#![allow(missing_docs)]
// Helpers of tests fail as tests do: by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use edgesplit_testkit::bootstrap::{EnvoyOptions, Plugin};
use edgesplit_testkit::client::{Client, connections};
use edgesplit_testkit::envoy::Envoy;
use edgesplit_testkit::module_under_test::{exposure_memories, skips_native};
use edgesplit_testkit::server::Behaviour;
use edgesplit_testkit::stack::{Accounts, Services, document, echoed, experiment, merged};
use edgesplit_testkit::{DEADLINE, eventually};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn plugin(with: Value) -> Value {
    let plain = json!({
        "experiments": {"cluster": "experiments", "refresh": "200ms", "timeout": "150ms"},
        "visitor": {"id": [{"header": "x-user-id"}]},
        "events": {"cluster": "collector", "timeout": "1s", "batch": {"max_age": "100ms"},
                   "retry": {"backoff_min": "100ms", "backoff_max": "500ms", "lease": "1500ms"}},
    });
    merged(plain, with)
}

/// Sends a request of each visitor; all have to be in the experiment.
#[track_caller]
fn visit(client: &mut Client, visitors: std::ops::Range<u32>) {
    for visitor in visitors {
        let reply = client.get("/").header("x-user-id", format!("visitor-{visitor}")).send();
        assert_eq!((reply.status, echoed(&reply, "x-ab-assignments")), (200, vec!["nav=green".to_owned()]));
    }
}

/// Waits until every worker has the experiments and nothing is on its way.
fn ready(envoy: &Envoy) {
    for mut client in envoy.clients(4) {
        eventually(DEADLINE, "every worker has the experiments", || {
            (!echoed(&client.get("/").header("x-user-id", "first").send(), "x-ab-assignments").is_empty()).then_some(())
        });
    }
    eventually(DEADLINE, "the first exposures are delivered", || {
        let accounts = Accounts::of(envoy);
        (accounts.emitted == exposure_memories(2) && accounts.emitted == accounts.delivered && accounts.queued == 0)
            .then_some(())
    });
}

/// The visitors whose exposures arrived, except the first.
fn arrived(services: &Services) -> BTreeSet<String> {
    let units = services.collector.events().into_values().map(|received| received.event["unit"].clone());
    units.filter_map(|unit| unit.as_str().map(str::to_owned)).filter(|unit| unit != "first").collect()
}

#[test]
fn crash_with_leases_loses_no_sealed_event() {
    if skips_native("VMs that crash") {
        return;
    }
    let module = Path::new(env!("CARGO_MANIFEST_DIR")).join("dist/test/edgesplit-hooks.wasm");
    assert!(module.exists(), "{} is missing: run `make test`, which builds it", module.display());
    let services = Services::start(&document(&[experiment("nav", json!({}))]));
    let crashing = Plugin { module, ..Plugin::new(plugin(json!({}))) };
    let envoy = Envoy::start(&services.proxy_options().plugin(crashing));
    ready(&envoy);

    // The service accepts calls and answers none: a worker that sends a batch holds its lease.
    services.collector.server.set(Behaviour::Hang);
    let mut clients = envoy.clients(4);
    for (number, client) in (0_u32..).zip(&mut clients) {
        visit(client, number * 10..number * 10 + 10);
    }
    Accounts::at_rest(&envoy, |accounts| accounts.queued == 40);
    let calls = || services.collector.server.requests_received();
    let before = calls();
    eventually(DEADLINE, "a call is on its way", || (calls() > before).then_some(()));
    // Both workers die. The config service is away, so what they know afterwards they know from shared data.
    services.configs.server.set(Behaviour::Refuse);
    let vms = || envoy.stats("runtime.v8.created")["wasm.envoy.wasm.runtime.v8.created"];
    let before = vms();
    let crash = |client: &mut Client| client.get("/").header("x-edgesplit-crash", "1").send().status;
    let statuses: Vec<u16> = clients.iter_mut().map(crash).collect();
    // Two connections share a worker: the second may meet a worker without a VM.
    assert!(statuses.iter().filter(|status| **status == 503).count() >= 2, "{statuses:?}");
    for mut client in envoy.clients(4) {
        eventually(DEADLINE, "the worker has a VM again", || (client.get("/").send().status == 200).then_some(()));
        visit(&mut client, 0..1);
    }
    assert!(vms() >= before + 2, "both workers have a VM that is new");

    services.collector.server.set(Behaviour::Respond);
    eventually(DEADLINE, "every visitor's exposure arrives", || (arrived(&services).len() == 40).then_some(()));
    eventually(DEADLINE, "the accounts are settled", || {
        let accounts = Accounts::of(&envoy);
        (accounts.queued == 0 && accounts.emitted == accounts.accounted()).then_some(())
    });
    assert_eq!(envoy.counter("edgesplit.demo.errors.events_lost"), 0);
}

/// An Envoy whose listener comes from a file and is replaced when the file is.
struct Replaceable<'a> {
    services: &'a Services,
    file: PathBuf,
    envoy: Envoy,
    port: u16,
}

impl<'a> Replaceable<'a> {
    /// Starts with this configuration of the filter. `name` names the file.
    fn start(services: &'a Services, name: &str, configuration: &Value) -> Replaceable<'a> {
        let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.json"));
        offer(services, &file, configuration);
        let path = file.clone();
        let options = EnvoyOptions::new(services.origin.port())
            .experiments(services.configs.port())
            .collector(services.collector.port())
            .adjust(move |bootstrap| {
                bootstrap["node"] = json!({"id": "test", "cluster": "test"});
                bootstrap["dynamic_resources"] = json!({"lds_config": {"path_config_source": {"path": path}}});
            });
        let envoy = Envoy::start(&options);
        let port = eventually(DEADLINE, "the listener is there", || {
            let listeners = envoy.admin("/listeners?format=json").json();
            let listeners = listeners["listener_statuses"].as_array().cloned().unwrap_or_default();
            let listener = listeners.into_iter().find(|listener| listener["name"] == "replaced")?;
            u16::try_from(listener["local_address"]["socket_address"]["port_value"].as_u64()?).ok()
        });
        Replaceable { services, file, envoy: envoy.with_port(port), port }
    }

    /// Replaces the listener by one with this configuration of the filter.
    fn replace(&self, configuration: &Value) {
        let updates = || self.envoy.counter("listener_manager.lds.update_success");
        let before = updates();
        offer(self.services, &self.file, configuration);
        eventually(DEADLINE, "the new listener is in force", || (updates() > before).then_some(()));
    }

    /// Waits until new connections to both workers get this value of the assignments header of this name.
    #[track_caller]
    fn wait_for(&self, header: &str, assignments: &str) {
        eventually(DEADLINE, "new connections meet the new filter", || {
            let is_met = |client: &mut Client| {
                echoed(&client.get("/").header("x-user-id", "first").send(), header) == [assignments]
            };
            connections(self.port, 2).iter_mut().all(is_met).then_some(())
        });
    }
}

fn offer(services: &Services, file: &Path, configuration: &Value) {
    let mut listener = services.options(configuration).bootstrap()["static_resources"]["listeners"][0].take();
    listener["@type"] = json!("type.googleapis.com/envoy.config.listener.v3.Listener");
    listener["name"] = json!("replaced");
    // Envoy looks when a file is moved into place.
    let next = file.with_extension("next");
    std::fs::write(&next, json!({"resources": [listener]}).to_string()).unwrap();
    std::fs::rename(&next, file).unwrap();
}

#[test]
fn new_listener_keeps_outbox_and_experiments() {
    let services = Services::start(&document(&[experiment("nav", json!({}))]));
    let proxy = Replaceable::start(&services, "replaced_listener", &plugin(json!({})));
    let envoy = &proxy.envoy;
    proxy.wait_for("x-ab-assignments", "nav=green");
    let before = Accounts::at_rest(envoy, |accounts| accounts.emitted > 0 && accounts.emitted == accounts.delivered);

    services.collector.server.set(Behaviour::Refuse);
    visit(&mut Client::new(proxy.port), 0..30);
    eventually(DEADLINE, "the outbox holds what cannot be delivered", || {
        (Accounts::of(envoy).queued >= 30).then_some(())
    });
    services.configs.server.set(Behaviour::Refuse);
    proxy.replace(&plugin(json!({"request": {"assignments_header": "x-variants"}})));
    // New VMs know the experiments at once, though the config service is away.
    proxy.wait_for("x-variants", "nav=green");
    services.collector.server.set(Behaviour::Respond);
    eventually(DEADLINE, "the events of before are delivered", || {
        let units = arrived(&services);
        (0..30).all(|visitor| units.contains(&format!("visitor-{visitor}"))).then_some(())
    });
    eventually(DEADLINE, "the accounts are settled", || {
        let accounts = Accounts::of(envoy);
        (accounts.queued == 0
            && accounts.emitted == accounts.accounted()
            && accounts.delivered >= before.delivered + 30)
            .then_some(())
    });
}

#[test]
fn reverted_change_of_the_source_is_followed() {
    let services = Services::start(&document(&[experiment("nav", json!({}))]));
    let first = plugin(json!({}));
    let proxy = Replaceable::start(&services, "source_taken_back", &first);
    proxy.wait_for("x-ab-assignments", "nav=green");
    proxy.replace(&plugin(json!({
        "experiments": {"path": "/other"}, "request": {"assignments_header": "x-variants"}})));
    proxy.wait_for("x-variants", "nav=green");
    // The VMs of the first listener still drain and are taken into use again: they were configured before those of the second.
    proxy.replace(&first);
    services.configs.set_document(&document(&[experiment("menu", json!({}))]));
    proxy.wait_for("x-ab-assignments", "menu=green");
}

#[test]
fn waiting_batches_keep_their_format() {
    let services = Services::start(&document(&[experiment("nav", json!({}))]));
    let proxy = Replaceable::start(&services, "another_format", &plugin(json!({})));
    let envoy = &proxy.envoy;
    proxy.wait_for("x-ab-assignments", "nav=green");
    services.collector.server.set(Behaviour::Refuse);
    visit(&mut Client::new(proxy.port), 0..20);
    eventually(DEADLINE, "events wait in one format", || (Accounts::of(envoy).queued >= 20).then_some(()));
    proxy
        .replace(&plugin(json!({"events": {"format": "kafka-rest"}, "request": {"assignments_header": "x-variants"}})));
    proxy.wait_for("x-variants", "nav=green");
    for visitor in 20..40 {
        Client::new(proxy.port).get("/").header("x-user-id", format!("visitor-{visitor}")).send();
    }
    eventually(DEADLINE, "events wait in the other, too", || (Accounts::of(envoy).queued >= 40).then_some(()));
    services.collector.server.set(Behaviour::Respond);
    eventually(DEADLINE, "all of them arrive", || (arrived(&services).len() == 40).then_some(()));
    eventually(DEADLINE, "the accounts are settled", || {
        let accounts = Accounts::of(envoy);
        (accounts.queued == 0 && accounts.emitted == accounts.delivered).then_some(())
    });

    let mut written = BTreeSet::new();
    for call in services.collector.server.requests() {
        let body = call.json().unwrap();
        let is_event = |event: &Value| event["id"].is_string() && event["unit"].is_string();
        let format = call.header("content-type").unwrap();
        let whole = match format.as_str() {
            "application/json" => body["events"].as_array().unwrap().iter().all(is_event),
            "application/vnd.kafka.json.v2+json" => {
                let records = body["records"].as_array().unwrap();
                records.iter().all(|record| record["key"] == record["value"]["unit"] && is_event(&record["value"]))
            }
            _ => false,
        };
        assert!(whole, "{format}: {body}");
        written.insert(format);
    }
    assert_eq!(written.len(), 2, "{written:?}");
}
