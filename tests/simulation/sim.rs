//! What all parts of a run share: the clock, the queue of what happens next, the process and the ledger.

use crate::host::Process;
use crate::ledger::Ledger;
use crate::mutants::Mutant;
use crate::native::NativeLedger;
use crate::network::Network;
use crate::scenario::Scenario;
use crate::workload::Doc;
use edgesplit_testkit::random::Random;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::fmt::Display;

/// The wall clock's reading when a run begins.
const EPOCH_MS: i64 = 1_795_392_000_000;

/// Host calls that a callback makes at most. Far more than any needs: what is over it does not end.
const CALLS_PER_CALLBACK_MAX: u32 = 50_000;

/// Something that happens.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Event {
    /// A VM that lost its thread gets it back.
    Wake(u64),
    /// A VM's tick.
    Tick(u64),
    /// A response to a request of a VM.
    Response(u64, u64),
    /// A call arrives at its service.
    Arrive(u64),
    /// Its reply arrives at the proxy.
    Reply(u64),
    /// The proxy stops waiting for it.
    Timeout(u64),
    /// A visitor's request.
    Request,
    /// The health of the service with this number changes.
    Shift(usize),
    /// The experiments change.
    Config,
    /// The clock is set.
    Jump,
    /// The listener is reloaded.
    Reload,
    /// VMs of an old listener are gone for good.
    ShutDown(u64),
    /// The process ends and is started again.
    Restart,
    /// No more faults happen.
    EndFaults,
    /// No more visitors come.
    EndRequests,
    /// The run ends.
    Finish,
}

/// What becomes of a VM at a host call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It goes on.
    GoOn,
    /// It loses its thread for a while.
    Pause,
    /// It dies.
    Crash,
}

/// The state of a run, without the VMs' own memory.
#[derive(Debug)]
pub struct Sim {
    /// All chance comes from here.
    pub rng: Random,
    /// What the seed means.
    pub scenario: Scenario,
    /// The planted bug, if any.
    pub mutant: Option<Mutant>,
    /// Microseconds since the run began.
    pub now_us: u64,
    /// How far the wall clock is off.
    pub offset_ms: i64,
    /// No faults any more.
    pub quiet: bool,
    /// The proxy's process.
    pub process: Process,
    /// Calls on their way, and the services.
    pub network: Network,
    /// What the checks know.
    pub ledger: Ledger,
    /// The same for native processes.
    pub native: Option<NativeLedger>,
    /// Every document of experiments there was, by revision.
    pub docs: BTreeMap<String, Doc>,
    /// The first thing that was wrong.
    pub violation: Option<String>,
    /// A number that differs between runs that differ.
    pub hash: u64,
    /// How much happened.
    pub steps: u64,
    /// The largest linear memory that a VM had, in bytes.
    pub memory_bytes: usize,
    tracing: bool,
    queue: BinaryHeap<Reverse<(u64, u64, Event)>>,
}

impl Sim {
    /// A run that has not begun.
    pub fn new(seed: u64, mutant: Option<Mutant>, tracing: bool) -> Sim {
        let mut rng = Random(seed ^ 0x5851_f42d_4c95_7f2d);
        rng.bits();
        let scenario = Scenario::new(&mut rng);
        let first = Doc::new(&mut rng, 0);
        Sim {
            network: Network::new(first.clone()),
            docs: BTreeMap::from([(first.revision.clone(), first)]),
            ledger: Ledger::default(),
            native: None,
            process: Process::default(),
            rng,
            scenario,
            mutant,
            now_us: 0,
            offset_ms: 0,
            quiet: false,
            violation: None,
            hash: seed,
            steps: 0,
            memory_bytes: 0,
            tracing,
            queue: BinaryHeap::new(),
        }
    }

    /// The wall clock.
    pub fn wall_ms(&self) -> i64 {
        EPOCH_MS + (self.now_us / 1_000) as i64 + self.offset_ms
    }

    /// Lets `event` happen in `wait_us`. What happens at the same time does so in an order of chance.
    pub fn after(&mut self, wait_us: u64, event: Event) {
        let tie = self.rng.bits();
        self.queue.push(Reverse((self.now_us + wait_us, tie, event)));
    }

    /// Lets `event` happen some time, after `mean_ms` on average.
    pub fn some_time(&mut self, mean_ms: u64, event: Event) {
        let wait_us = self.rng.exponential(mean_ms) * 1_000;
        self.after(wait_us, event);
    }

    /// The next thing that happens; the clock moves there.
    pub fn next(&mut self) -> Option<Event> {
        let Reverse((at_us, _, event)) = self.queue.pop()?;
        self.now_us = at_us;
        self.steps += 1;
        Some(event)
    }

    /// Forgets what was to happen and `retain` does not keep.
    pub fn retain(&mut self, retain: impl Fn(&Event) -> bool) {
        self.queue.retain(|Reverse((_, _, event))| retain(event));
    }

    /// Notes what happens: in the hash always, in words where somebody reads them.
    pub fn note(&mut self, what: &str, vm: u64, words: impl FnOnce() -> String) {
        for part in [self.now_us, vm, what.len() as u64, u64::from(what.as_bytes()[0])] {
            self.hash = (self.hash ^ part).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(7);
        }
        if self.tracing {
            println!("{:>9.3} ms  vm {vm:<3} {what:<9} {}", self.now_us as f64 / 1_000.0, words());
        }
    }

    /// Notes the first thing that is wrong.
    pub fn violated(&mut self, what: impl Display) {
        if self.violation.is_none() {
            self.note("VIOLATED", 0, || what.to_string());
            self.violation = Some(what.to_string());
        }
    }

    /// Takes a check's answer.
    pub fn check(&mut self, result: Result<(), String>) {
        if let Err(what) = result {
            self.violated(what);
        }
    }

    /// The service serves another config.
    pub fn change_config(&mut self) {
        let doc = Doc::new(&mut self.rng, self.network.docs);
        self.network.docs += 1;
        self.note("config", 0, || doc.revision.clone());
        self.docs.insert(doc.revision.clone(), doc.clone());
        self.network.doc = doc;
        self.some_time(self.scenario.config_ms, Event::Config);
    }

    /// The clock is set forward or back.
    pub fn jump(&mut self) {
        let longest_ms = self.rng.pick(&[50, 2_000, 20_000, 3_000_000]);
        let far_ms = self.rng.range(1, longest_ms) as i64;
        let step_ms = if self.rng.chance(500_000) { far_ms } else { -far_ms };
        self.offset_ms += step_ms;
        self.note("jump", 0, || format!("the clock is set by {step_ms} ms"));
        self.some_time(self.scenario.jump_ms, Event::Jump);
    }

    /// A VM is about to call its host: the fate of the VM there, and the events that are scheduled for it.
    pub fn host_call(&mut self, vm: u64) -> Fate {
        self.steps += 1;
        let Some(account) = self.ledger.vms.get_mut(&vm) else { return Fate::Crash };
        account.calls_in_job += 1;
        if account.calls_in_job > CALLS_PER_CALLBACK_MAX {
            self.violated(format!("vm {vm} made more than {CALLS_PER_CALLBACK_MAX} host calls in one callback"));
            return Fate::Crash;
        }
        if self.violation.is_some() {
            return Fate::GoOn;
        }
        if !self.quiet && self.rng.chance(self.scenario.crashes) {
            return Fate::Crash;
        }
        if !self.rng.chance(self.scenario.pauses) {
            return Fate::GoOn;
        }
        let wait_us = if !self.quiet && self.rng.chance(self.scenario.long_pauses) {
            self.rng.range(1_000_000, 14_000_000)
        } else if self.rng.chance(50_000) {
            self.rng.range(0, 20_000)
        } else {
            self.rng.range(0, 300)
        };
        self.after(wait_us, Event::Wake(vm));
        Fate::Pause
    }
}
