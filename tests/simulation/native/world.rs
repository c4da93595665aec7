//! The world of native processes: processes come and go, visitors, operators and faults happen, one thing after the other, in
//! the order of the seed. Between two steps of a process, the thread of its spool stands at a gate.

use super::disk::{Disk, Gate, Unsynced};
use super::traffic::Stream;
use super::{Program, ledger_of};
use crate::ledger::NAMES;
use crate::mutants::Mutant;
use crate::network::Health;
use crate::scenario::PLUGIN;
use crate::sim::{Event, Sim};
use edgesplit_filter::events::dedupe::Dedupe;
use edgesplit_filter::host::Call;
use edgesplit_filter::metrics::revision_hash;
use edgesplit_testkit::native_process::{HostCall, NativeProcess};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// How long fresh events come after the last fault, in milliseconds.
const FRESH_MS: u64 = 4_000;

/// How long everything may take to come to rest after that, in milliseconds: waits, leases, and orphans that wait for room.
const REST_MS_MAX: u64 = 120_000;

/// How often it is checked whether it has.
const REST_CHECKS_EVERY_MS: u64 = 3_000;

/// The errors of a disk: full, damaged.
const ERRORS: [u64; 2] = [28, 5];

/// No error, and the change is not made either.
const SKIPPED: u64 = 1_000;

/// A config in a process.
pub struct Config {
    pub process: u64,
    began_us: u64,
    /// It takes no new requests and will end.
    is_draining: bool,
    /// The time of its last tick.
    pub now_ms: i64,
    pub reported: Dedupe,
    /// The hash of the revision in force.
    pub in_force: u64,
    pub streams: BTreeMap<u64, Stream>,
}

struct Process {
    native: NativeProcess,
    gate: Gate,
    unsynced: Unsynced,
}

/// All processes over one disk.
pub struct World<'a> {
    pub sim: Sim,
    program: &'a Program,
    spool: PathBuf,
    disk: Disk,
    processes: BTreeMap<u64, Process>,
    pub configs: BTreeMap<u64, Config>,
    /// The last number that was given to a process, a config or a request.
    pub last: u64,
    rest_until_us: u64,
    /// Crashes so far.
    pub crashes: u64,
}

impl<'a> World<'a> {
    pub fn new(sim: Sim, program: &'a Program, spool: PathBuf) -> World<'a> {
        World {
            sim,
            program,
            spool,
            disk: Disk::default(),
            processes: BTreeMap::new(),
            configs: BTreeMap::new(),
            last: 0,
            rest_until_us: 0,
            crashes: 0,
        }
    }

    /// Runs from the beginning to the end.
    pub fn run(&mut self) {
        self.start_process();
        for service in 0..3 {
            self.sim.after(1_000_000, Event::Shift(service));
        }
        let scenario = self.sim.scenario.clone();
        self.sim.note("scenario", 0, || format!("{scenario:#?}"));
        self.sim.after(200_000, Event::Request);
        self.sim.after(scenario.config_ms * 1_000, Event::Config);
        let others = [
            (scenario.jump_ms, Event::Jump),
            (scenario.reload_ms, Event::Reload),
            (scenario.restart_ms, Event::Restart),
        ];
        for (mean_ms, event) in others.into_iter().filter(|(mean_ms, _)| *mean_ms > 0) {
            self.sim.some_time(mean_ms, event);
        }
        self.sim.after(scenario.faults_ms * 1_000, Event::EndFaults);
        while self.sim.violation.is_none() {
            let Some(event) = self.sim.next() else { break };
            if event == Event::Finish && self.finish() {
                break;
            }
            self.happen(event);
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Wake(process) => self.disk_step(process),
            Event::Tick(config) => self.tick(config),
            Event::Response(config, stream) => self.respond(config, stream),
            Event::Arrive(call) => self.sim.arrive(call),
            Event::Reply(call) => self.reply(call, false),
            Event::Timeout(call) => self.reply(call, true),
            Event::Request => self.request(),
            Event::Shift(service) => self.sim.shift(service),
            Event::Config => self.sim.change_config(),
            Event::Jump => self.sim.jump(),
            Event::Reload => self.reload(),
            Event::ShutDown(config) => self.end_config(config),
            Event::Restart => self.restart(),
            Event::EndFaults => self.end_faults(),
            Event::EndRequests => self.sim.retain(|event| !matches!(event, Event::Request)),
            Event::Finish => {}
        }
    }

    /// Plays a step of a process, and gives the headers that it wrote.
    pub fn play(&mut self, process: u64, command: &str, numbers: &[u64], text: &[u8]) -> Vec<(String, String)> {
        let mut headers = Vec::new();
        let World { sim, processes, configs, .. } = self;
        let Some(Process { native, gate, .. }) = processes.get_mut(&process) else { return headers };
        native.wall_ms = sim.wall_ms();
        sim.note(command, process, || format!("{numbers:?}"));
        let result = native.play(command, numbers, text, &mut |call| {
            match call {
                HostCall::Log { level, line } => sim.note("log", process, || format!("{level} {line}")),
                HostCall::Header { name, value, .. } => headers.push((name, value)),
                HostCall::Gate(text) => *gate = Gate::parse(&text),
                HostCall::Counter { config, by, name } => count(sim, config, &name, by),
                HostCall::Gauge { config, value, name } => {
                    let name = short(&name);
                    if let ("config.revision_hash", Some(config)) = (name, configs.get_mut(&config)) {
                        config.in_force = value;
                    }
                    let result = ledger_of(sim).measured(config, name, value);
                    sim.check(result);
                }
                HostCall::Call { config, timeout_ms, cluster, headers, body } => {
                    let headers = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
                    let call = Call { cluster: &cluster, headers, body: &body, timeout_ms };
                    return sim.dispatch(config, &call).map_or(0, u64::from);
                }
            }
            0
        });
        if let Err(error) = result {
            sim.violated(format!("process {process}: {error}"));
        }
        headers
    }

    fn start_process(&mut self) {
        self.last += 1;
        let process = self.last;
        let seed = if self.sim.mutant == Some(Mutant::ReusesIds) { 1 } else { self.sim.rng.bits() >> 2 };
        let native = NativeProcess::start(&self.program.player, &self.program.module, seed, process);
        let unsynced = Unsynced::default();
        self.processes.insert(process, Process { native, gate: Gate::Pause, unsynced });
        ledger_of(&mut self.sim).accounts.insert(process, Default::default());
        self.start_config(process);
        self.sim.after(1_000, Event::Wake(process));
    }

    fn start_config(&mut self, process: u64) {
        self.last += 1;
        let (config, scenario) = (self.last, &self.sim.scenario);
        let reported = Dedupe::new(0, scenario.window_ms, scenario.dedupe_entries);
        let (began_us, now_ms) = (self.sim.now_us, self.sim.wall_ms());
        let streams = BTreeMap::new();
        self.configs
            .insert(config, Config { process, began_us, is_draining: false, now_ms, reported, in_force: 0, streams });
        ledger_of(&mut self.sim).processes.insert(config, process);
        let plugin = self.sim.scenario.plugin_config(self.sim.mutant);
        self.play(process, "config", &[config], &plugin);
        self.sim.after(10_000, Event::Tick(config));
    }

    fn tick(&mut self, number: u64) {
        let Some(config) = self.configs.get_mut(&number) else { return };
        config.now_ms = self.sim.wall_ms();
        let (process, age_us) = (config.process, self.sim.now_us - config.began_us);
        self.play(process, "tick", &[number], b"");
        let result = ledger_of(&mut self.sim).ticked(number);
        self.sim.check(result);
        // Configs are waited for at a faster rate. A busy main thread is late.
        let late_us = if self.sim.rng.one_in(50) { self.sim.rng.range(0, 300_000) } else { 0 };
        let period_us = if age_us < 1_000_000 { 10_000 } else { 100_000 };
        self.sim.after(period_us + late_us, Event::Tick(number));
    }

    /// The thread of a spool goes on to its next gate.
    fn disk_step(&mut self, number: u64) {
        let World { sim, disk, processes, .. } = self;
        let Some(process) = processes.get_mut(&number) else { return };
        let gate = process.gate.clone();
        let is_change = gate != Gate::Pause;
        if is_change && !sim.quiet && sim.rng.chance(sim.scenario.crashes) {
            return self.crash(number);
        }
        let fails = is_change && !sim.quiet && sim.rng.chance(sim.scenario.disk_errors);
        let mut error = if fails { sim.rng.pick(&ERRORS) } else { 0 };
        let bytes = match gate {
            Gate::Write { len, .. } => sim.rng.range(0, len),
            _ => 0,
        };
        if matches!(gate, Gate::Remove(_)) && sim.mutant == Some(Mutant::KeepsFiles) {
            error = SKIPPED;
        }
        disk.before(&gate, &mut process.unsynced);
        self.play(number, "disk", &[error, bytes], b"");
        let World { sim, disk, processes, .. } = self;
        let Some(process) = processes.get_mut(&number) else { return };
        sim.note("gate", number, || format!("{:?}", process.gate));
        let is_synced = !matches!((&gate, sim.mutant), (Gate::Sync(_), Some(Mutant::SyncsNothing)));
        if is_synced {
            let ledger = sim.native.as_mut().unwrap();
            let result = disk.after(&gate, error != 0, &mut process.unsynced, (number, ledger));
            sim.check(result);
        }
        let wait_us = match process.gate {
            Gate::Pause => sim.rng.range(20_000, 100_000),
            _ => sim.rng.exponential(sim.scenario.disk_us),
        };
        sim.after(wait_us, Event::Wake(number));
    }

    /// A changed listener: a new config in the same process; the old one ends once its requests have.
    fn reload(&mut self) {
        let mean_ms = self.sim.scenario.reload_ms;
        self.sim.some_time(mean_ms, Event::Reload);
        let Some((old, process)) = self.newest() else { return };
        self.start_config(process);
        self.drain(old);
    }

    /// The process is killed, or another one takes its place and it ends in order.
    fn restart(&mut self) {
        let mean_ms = self.sim.scenario.restart_ms;
        self.sim.some_time(mean_ms, Event::Restart);
        let Some((config, process)) = self.newest() else { return };
        if self.sim.rng.chance(500_000) {
            return self.crash(process);
        }
        self.start_process();
        self.drain(config);
    }

    /// The config that gets the requests, and its process.
    pub fn newest(&self) -> Option<(u64, u64)> {
        let (number, config) = self.configs.iter().rfind(|(_, config)| !config.is_draining)?;
        Some((*number, config.process))
    }

    fn drain(&mut self, config: u64) {
        self.configs.entry(config).and_modify(|config| config.is_draining = true);
        let wait_us = self.sim.rng.range(100_000, 3_000_000);
        self.sim.after(wait_us, Event::ShutDown(config));
    }

    /// A config ends, and with its last one the process.
    fn end_config(&mut self, number: u64) {
        let Some(config) = self.configs.get(&number) else { return };
        let (process, streams) = (config.process, config.streams.keys().copied().collect::<Vec<_>>());
        for stream in streams {
            self.respond(number, stream);
        }
        let is_last = self.configs.values().filter(|config| config.process == process).count() == 1;
        self.play(process, "end", &[number, is_last.into()], b"");
        self.forget(number);
        if is_last {
            self.processes.remove(&process);
            ledger_of(&mut self.sim).ended(process, true);
        }
    }

    /// A process is killed.
    fn crash(&mut self, number: u64) {
        let Some(process) = self.processes.remove(&number) else { return };
        self.crashes += 1;
        self.sim.note("crash", number, || format!("{:?} {:?}", process.gate, process.unsynced));
        drop(process.native);
        self.disk.tear(process.unsynced, &mut self.sim.rng);
        let configs: Vec<u64> =
            self.configs.keys().copied().filter(|config| self.configs[config].process == number).collect();
        configs.into_iter().for_each(|config| self.forget(config));
        ledger_of(&mut self.sim).ended(number, false);
        if self.newest().is_none() {
            self.start_process();
        }
    }

    fn forget(&mut self, config: u64) {
        self.configs.remove(&config);
        ledger_of(&mut self.sim).config_ended(config);
        self.sim.cancel_calls(config, 500_000);
    }

    fn end_faults(&mut self) {
        let sim = &mut self.sim;
        sim.quiet = true;
        sim.note("quiet", 0, String::new);
        sim.network.health = [Health::Well; 3];
        sim.retain(|event| {
            !matches!(event, Event::Shift(_) | Event::Config | Event::Jump | Event::Reload | Event::Restart)
        });
        self.rest_until_us = sim.now_us + (FRESH_MS + REST_MS_MAX) * 1_000;
        sim.after(FRESH_MS * 1_000, Event::EndRequests);
        sim.after((FRESH_MS + REST_CHECKS_EVERY_MS) * 1_000, Event::Finish);
    }

    /// Checks whether everything is at rest. False if it may take longer.
    fn finish(&mut self) -> bool {
        let had_disk_errors = self.sim.scenario.disk_errors > 0;
        let mut result = ledger_of(&mut self.sim).at_rest(had_disk_errors);
        let files = Disk::files(&self.spool);
        if files > 0 && result.is_ok() {
            result = Err(format!("{files} files are left"));
        }
        let served = self.sim.network.doc.revision.clone();
        let is_served = |config: &Config| config.in_force == revision_hash(Some(&served));
        if !self.configs.values().all(is_served) && result.is_ok() {
            result = Err(format!("{served} is not in force everywhere"));
        }
        if result.is_err() && self.sim.now_us < self.rest_until_us {
            self.sim.after(REST_CHECKS_EVERY_MS * 1_000, Event::Finish);
            return false;
        }
        self.sim.check(result);
        true
    }

    /// The totals of a metric over all processes.
    pub fn total(&mut self, name: &str) -> u64 {
        let ledger = ledger_of(&mut self.sim);
        let past = ledger.past.get(name).copied().unwrap_or(0);
        past + ledger.accounts.values().map(|account| account.metric(name)).sum::<u64>()
    }
}

/// The part of a metric's name behind the plugin's.
fn short(name: &str) -> &str {
    name.strip_prefix("edgesplit.").and_then(|name| name.strip_prefix(PLUGIN)?.strip_prefix('.')).unwrap_or(name)
}

/// A counter grew.
fn count(sim: &mut Sim, config: u64, name: &str, by: u64) {
    let name = short(name);
    let by = match sim.mutant {
        Some(Mutant::CountsTwice) if name == NAMES[crate::ledger::DELIVERED] => by * 2,
        Some(Mutant::LosesCounts) if name == NAMES[crate::ledger::EMITTED] && sim.rng.chance(20_000) => 0,
        _ => by,
    };
    sim.note("counter", config, || format!("{name} +{by}"));
    let result = ledger_of(sim).counted(config, name, by);
    sim.check(result);
}
