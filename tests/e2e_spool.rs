//! The spool of the native module in a real Envoy: a kill under load, and the processes after it.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use edgesplit_filter::spool::{Contents, read};
use edgesplit_testkit::bootstrap::{ENVOY_VERSION, EnvoyOptions, Plugin};
use edgesplit_testkit::client::{Client, Outgoing};
use edgesplit_testkit::envoy::{Directory, Envoy, find_binary};
use edgesplit_testkit::load::{self, Pace};
use edgesplit_testkit::module_under_test::{skips_native, use_native};
use edgesplit_testkit::server::Behaviour;
use edgesplit_testkit::skip::skip;
use edgesplit_testkit::stack::{Accounts, Services, document, experiment};
use edgesplit_testkit::{DEADLINE, eventually, eventually_eq};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

/// How many events are durable when the process is killed.
const DURABLE_MIN: u64 = 3_000;

fn plugin(spool: &Path) -> Value {
    json!({
        "experiments": {"inline": document(&[experiment("nav", json!({}))])},
        "visitor": {"id": [{"header": "x-user-id"}]},
        "events": {"cluster": "collector", "batch": {"max_age": "300ms"}, "outbox": {"spool": spool},
                   "retry": {"backoff_min": "100ms", "backoff_max": "500ms"}},
    })
}

fn options(services: &Services, spool: &Path) -> EnvoyOptions {
    services.options(&plugin(spool)).adjust(use_native)
}

/// The files of batches in a spool.
fn files(spool: &Path) -> Vec<PathBuf> {
    let list = |path: &Path| -> Vec<PathBuf> {
        fs::read_dir(path).into_iter().flatten().map(|entry| entry.unwrap().path()).collect()
    };
    let processes = list(spool).into_iter().flat_map(|plugin| list(&plugin));
    processes.flat_map(|process| list(&process)).filter(|file| !file.ends_with("lock")).collect()
}

/// The ids of the events in them.
fn ids(spool: &Path) -> BTreeSet<String> {
    let batches = files(spool).into_iter().filter_map(|file| match read(&fs::read(file).unwrap()) {
        Contents::Batch { batch, .. } => Some(batch.events.body(0..batch.events.len())),
        Contents::Nothing | Contents::Foreign => None,
    });
    let events = batches.flat_map(|body| {
        let body: Value = serde_json::from_slice(&body).unwrap();
        body["events"].as_array().unwrap().clone()
    });
    events.map(|event| event["id"].as_str().unwrap().to_owned()).collect()
}

fn counter(envoy: &Envoy, name: &str) -> u64 {
    envoy.counter(&format!("edgesplit.demo.{name}"))
}

#[test]
fn durable_events_survive_a_kill_under_load() {
    let directory = Directory::new().unwrap();
    let spool = directory.file("spool");
    let services = Services::start(&json!({}));
    services.collector.server.set(Behaviour::Refuse);
    let envoy = Envoy::start(&options(&services, &spool));
    let pace = Pace { connections: 8, rate: 1_000.0, duration: Duration::from_secs(15), deadline: DEADLINE };
    let port = envoy.port();
    let load = std::thread::spawn(move || {
        load::run(port, pace, |number| Outgoing::get("/").header("x-user-id", format!("visitor-{number}")))
    });
    let durable = eventually(DEADLINE, "events are durable", || {
        Some(counter(&envoy, "spool.durable_events")).filter(|durable| *durable >= DURABLE_MIN)
    });
    // In the middle of the load: the process gets SIGKILL.
    drop(envoy);
    load.join().unwrap();
    let on_disk = ids(&spool);
    assert!(on_disk.len() as u64 >= durable, "{} of {durable} durable events are on disk", on_disk.len());

    services.collector.server.set(Behaviour::Respond);
    let envoy = Envoy::start(&options(&services, &spool));
    eventually_eq("every event on disk is recovered", on_disk.len() as u64, || {
        counter(&envoy, "spool.recovered_events")
    });
    let recovered = on_disk.len() as u64;
    let accounts = Accounts::at_rest(&envoy, |accounts| accounts.delivered == recovered && accounts.queued == 0);
    assert_eq!(accounts, Accounts { delivered: recovered, ..Accounts::default() }, "nothing else happened");
    let arrived: BTreeSet<String> = services.collector.events().into_keys().collect();
    assert_eq!(arrived, on_disk);
    assert!(services.collector.events().values().all(|received| received.times == 1), "none arrived twice");
    eventually(DEADLINE, "the files are removed", || files(&spool).is_empty().then_some(()));
}

#[test]
fn accounts_of_both_processes_add_up() {
    let directory = Directory::new().unwrap();
    let spool = directory.file("spool");
    let services = Services::start(&json!({}));
    services.collector.server.set(Behaviour::Refuse);
    let visit = |envoy: &Envoy, visitors: std::ops::Range<u64>| {
        let mut client = envoy.client();
        for visitor in visitors {
            assert_eq!(client.get("/").header("x-user-id", visitor.to_string()).send().status, 200);
        }
    };
    let envoy = Envoy::start(&options(&services, &spool));
    visit(&envoy, 0..40);
    Accounts::at_rest(&envoy, |accounts| accounts.emitted == 40 && accounts.queued == 40);
    eventually_eq("all are durable", 40, || counter(&envoy, "spool.durable_events"));
    drop(envoy);

    let envoy = Envoy::start(&options(&services, &spool));
    visit(&envoy, 40..50);
    eventually_eq("all are recovered", 40, || counter(&envoy, "spool.recovered_events"));
    Accounts::at_rest(&envoy, |accounts| accounts.emitted == 10 && accounts.queued == 50);
    services.collector.server.set(Behaviour::Respond);
    let end = Accounts::at_rest(&envoy, |accounts| accounts.delivered == 50 && accounts.queued == 0);
    assert_eq!(end, Accounts { emitted: 10, delivered: 50, ..Accounts::default() });
    assert_eq!(services.collector.events().len(), 50);
}

#[test]
fn orderly_end_leaves_every_event_to_the_next_process() {
    let directory = Directory::new().unwrap();
    let spool = directory.file("spool");
    let services = Services::start(&json!({}));
    services.collector.server.set(Behaviour::Refuse);
    let envoy = Envoy::start(&options(&services, &spool));
    let mut client = envoy.client();
    for visitor in 0..50 {
        assert_eq!(client.get("/").header("x-user-id", visitor.to_string()).send().status, 200);
    }
    // Some of them are still in the buffer.
    let (status, log) = envoy.sigterm_and_wait();
    assert!(status.success(), "{status}\n{log}");
    assert_eq!(ids(&spool).len(), 50);

    // Two processes at the same time: one takes the events over.
    services.collector.server.set(Behaviour::Respond);
    let envoys = [(); 2].map(|()| Envoy::start(&options(&services, &spool)));
    eventually_eq("the events are delivered", 50, || services.collector.events().len());
    eventually_eq("one process has recovered them all", vec![0, 50], || {
        let mut recovered = envoys.each_ref().map(|envoy| counter(envoy, "spool.recovered_events"));
        recovered.sort_unstable();
        recovered.to_vec()
    });
    assert!(services.collector.events().values().all(|received| received.times == 1), "none arrived twice");
}

/// An Envoy that can be restarted hot.
struct HotEnvoy {
    process: Child,
    directory: Directory,
}

impl HotEnvoy {
    fn start(options: &EnvoyOptions, generation: &[&str]) -> HotEnvoy {
        let directory = Directory::new().unwrap();
        fs::write(directory.file("envoy.json"), options.bootstrap().to_string()).unwrap();
        let process = Command::new(find_binary().unwrap())
            .arg("--config-path")
            .arg(directory.file("envoy.json"))
            .arg("--admin-address-path")
            .arg(directory.file("admin"))
            .args(["--concurrency", "1", "--drain-time-s", "1", "--parent-shutdown-time-s", "2", "--log-level", "off"])
            .args(generation)
            .spawn()
            .unwrap();
        HotEnvoy { process, directory }
    }

    /// A page of the admin interface, once there is one.
    fn admin(&self, page: &str) -> String {
        eventually(DEADLINE, "the admin interface answers", || {
            let address = fs::read_to_string(self.directory.file("admin")).ok()?;
            let port = address.rsplit(':').next()?.trim().parse().ok()?;
            let reply = Client::new(port).get(page).try_send().ok()?;
            (reply.status == 200 && !reply.text().is_empty()).then(|| reply.text())
        })
    }

    /// A connection to its listener.
    fn client(&self) -> Client {
        let listeners = self.admin("/listeners");
        let port = listeners.lines().find(|line| line.starts_with("ingress")).and_then(|line| line.rsplit(':').next());
        Client::new(port.unwrap().trim().parse().unwrap())
    }

    fn counter(&self, name: &str) -> u64 {
        // Envoy 1.38 changes metrics of a native module during requests only. This one is refused before the filter.
        let _ = self.client().send(&Outgoing::new("GET", "no-path"));
        let stats = self.admin("/stats");
        let value = stats.lines().find_map(|line| line.strip_prefix("wasmcustom.edgesplit.demo.")?.strip_prefix(name));
        value.and_then(|value| value.strip_prefix(": ")?.parse().ok()).unwrap_or(0)
    }
}

impl Drop for HotEnvoy {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn hot_restart_delivers_the_events_of_the_parent_once() {
    if *ENVOY_VERSION < [1, 39] {
        return skip("Envoy 1.38 shows the metrics of a native module with its next request only");
    }
    let directory = Directory::new().unwrap();
    let (spool, base) = (directory.file("spool"), directory.file("base"));
    let services = Services::start(&json!({}));
    services.collector.server.set(Behaviour::Refuse);
    let options = options(&services, &spool);
    let mut parent = HotEnvoy::start(&options, &["--use-dynamic-base-id", "--base-id-path", base.to_str().unwrap()]);
    let mut client = parent.client();
    for visitor in 0..30 {
        assert_eq!(client.get("/").header("x-user-id", visitor.to_string()).send().status, 200);
    }
    eventually_eq("the events are durable", 30, || parent.counter("spool.durable_events"));
    drop(client);

    let base = fs::read_to_string(&base).unwrap();
    let child = HotEnvoy::start(&options, &["--base-id", base.trim(), "--restart-epoch", "1"]);
    eventually_eq("the child leaves its parent's folder alone", 1, || child.counter("spool.locked_folders"));
    eventually(DEADLINE, "the parent ends", || parent.process.try_wait().unwrap());
    services.collector.server.set(Behaviour::Respond);
    eventually_eq("the child delivers the events", 30, || services.collector.events().len());
    assert!(services.collector.events().values().all(|received| received.times == 1), "none arrived twice");
    eventually_eq("they were recovered", 30, || child.counter("spool.recovered_events"));
    eventually(DEADLINE, "the files are removed", || files(&spool).is_empty().then_some(()));
}

#[test]
fn wasm_module_refuses_a_spool() {
    if skips_native("refusal of a spool") {
        return;
    }
    let plugin = Plugin::unchecked(plugin(Path::new("/var/lib/edgesplit")));
    let log = Envoy::refuses_to_start(&EnvoyOptions::new(9).workers(1).plugin(plugin));
    let problem = "plugin configuration: events.outbox.spool: needs the native module, libedgesplit.so";
    assert!(log.contains(problem), "{log}");
}

#[test]
fn spool_without_permission_costs_no_request_and_no_event() {
    let directory = Directory::new().unwrap();
    let obstacle = directory.file("file");
    fs::write(&obstacle, b"a file is no folder").unwrap();
    let services = Services::start(&json!({}));
    let envoy = Envoy::start(&options(&services, &obstacle.join("spool")));
    let mut client = envoy.client();
    for visitor in 0..20 {
        assert_eq!(client.get("/").header("x-user-id", visitor.to_string()).send().status, 200);
    }
    let accounts = Accounts::at_rest(&envoy, |accounts| accounts.delivered == 20 && accounts.queued == 0);
    assert_eq!(accounts, Accounts { emitted: 20, delivered: 20, ..Accounts::default() });
    eventually(DEADLINE, "the error is counted", || (counter(&envoy, "errors.spool_disk") > 0).then_some(()));
    eventually(DEADLINE, "the cause is logged", || envoy.log().contains("cannot create").then_some(()));
}
