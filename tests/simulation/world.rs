//! The world: VMs come and go, visitors, operators and faults happen, one thing after the other, in the order of the seed.

use crate::checks::{FRESH_MS, recovery_ms};
use crate::host::{Go, Process};
use crate::ledger::NAMES;
use crate::mutants::Mutant;
use crate::native::SPOOL_NAMES;
use crate::network::Health;
use crate::sim::{Event, Sim};
use crate::vm::{End, Job, Stacks, Vm};
use crate::workload::Visit;
use edgesplit_testkit::module::Compiled;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

/// What came of a run.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The first thing that was wrong.
    pub violation: Option<String>,
    /// A number that differs between runs that differ.
    pub hash: u64,
    /// How much happened.
    pub steps: u64,
    /// Milliseconds of the run's own time.
    pub simulated_ms: u64,
    /// Events by what became of them.
    pub totals: [i64; NAMES.len()],
    /// The largest linear memory that a VM had, in bytes; 0 where VMs are native.
    pub memory_bytes: usize,
    /// Crashes of native processes.
    pub crashes: u64,
    /// The metrics of their spools: see [`crate::native::SPOOL_NAMES`].
    pub spool: [u64; SPOOL_NAMES.len()],
}

struct World {
    sim: Rc<RefCell<Sim>>,
    vms: BTreeMap<u64, Vm>,
    /// Who serves on each worker thread.
    seats: Vec<Option<u64>>,
    stacks: Stacks,
    /// What VMs run, if not the native worker.
    module: Option<&'static Compiled>,
    last_life: u64,
    last_stream: u64,
}

/// Runs a seed from its beginning to its end: in native workers, or in the built module.
pub fn run(seed: u64, mutant: Option<Mutant>, module: Option<&'static Compiled>, tracing: bool) -> Outcome {
    let sim = Rc::new(RefCell::new(Sim::new(seed, mutant, tracing)));
    let workers = sim.borrow().scenario.workers;
    let mut world = World {
        seats: vec![None; workers],
        sim,
        vms: BTreeMap::new(),
        stacks: Stacks::new(),
        module,
        last_life: 0,
        last_stream: 0,
    };
    world.set_up();
    while world.sim.borrow().violation.is_none() {
        let Some(event) = world.sim.borrow_mut().next() else { break };
        if event == Event::Finish {
            world.finish();
            break;
        }
        world.happen(event);
    }
    world.tear_down();
    let sim = world.sim.borrow();
    Outcome {
        violation: sim.violation.clone(),
        hash: sim.hash,
        steps: sim.steps,
        simulated_ms: sim.now_us / 1_000,
        totals: sim.ledger.totals,
        memory_bytes: sim.memory_bytes,
        crashes: 0,
        spool: Default::default(),
    }
}

impl World {
    fn set_up(&mut self) {
        self.start_process();
        let mut sim = self.sim.borrow_mut();
        let scenario = sim.scenario.clone();
        sim.note("scenario", 0, || format!("{scenario:#?}"));
        sim.after(1_000_000, Event::Shift(0));
        sim.after(1_000_000, Event::Shift(1));
        sim.after(1_000_000, Event::Shift(2));
        sim.after(200_000, Event::Request);
        sim.after(scenario.config_ms * 1_000, Event::Config);
        for (mean_ms, event) in [
            (scenario.jump_ms, Event::Jump),
            (scenario.reload_ms, Event::Reload),
            (scenario.restart_ms, Event::Restart),
        ] {
            if mean_ms > 0 {
                sim.some_time(mean_ms, event);
            }
        }
        sim.after(scenario.faults_ms * 1_000, Event::EndFaults);
    }

    /// A process starts: the VM that is thrown away, the main thread's, the workers'.
    fn start_process(&mut self) {
        let trial = self.start_vm();
        self.start_listener();
        let mut sim = self.sim.borrow_mut();
        let wait_us = sim.rng.range(100, 50_000);
        sim.after(wait_us, Event::ShutDown(trial));
        drop(sim);
        // It is thrown away without a word.
        self.vms.get_mut(&trial).unwrap().draining = true;
    }

    fn start_listener(&mut self) {
        self.start_vm();
        for seat in 0..self.seats.len() {
            let life = self.start_vm();
            self.seats[seat] = Some(life);
        }
    }

    fn start_vm(&mut self) -> u64 {
        self.last_life += 1;
        let life = self.last_life;
        self.vms.insert(life, Vm::new(life));
        let mut sim = self.sim.borrow_mut();
        sim.ledger.begin(life, "waits", 0);
        let wait_us = sim.rng.range(0, 5_000);
        // Its first tick also begins what is in its inbox.
        sim.after(wait_us, Event::Tick(life));
        life
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Wake(life) => {
                self.proceed(life, Go::On);
                self.proceed_if_idle(life);
            }
            Event::Tick(life) => self.tick(life),
            Event::Response(life, stream) => self.give(life, Job::Response(stream)),
            Event::Arrive(call) => self.sim.borrow_mut().arrive(call),
            Event::Reply(call) => self.reply(call, false),
            Event::Timeout(call) => self.reply(call, true),
            Event::Request => self.request(),
            Event::Shift(service) => self.sim.borrow_mut().shift(service),
            Event::Config => self.sim.borrow_mut().change_config(),
            Event::Jump => self.sim.borrow_mut().jump(),
            Event::Reload => self.reload(),
            Event::ShutDown(life) => self.retire(life),
            Event::Restart => self.restart(),
            Event::EndFaults => self.end_faults(),
            Event::EndRequests => {
                let mut sim = self.sim.borrow_mut();
                sim.scenario.pauses = 0;
                sim.retain(|event| !matches!(event, Event::Request));
            }
            Event::Finish => {}
        }
    }

    fn give(&mut self, life: u64, job: Job) {
        let Some(vm) = self.vms.get_mut(&life) else { return };
        vm.inbox.push_back(job);
        self.proceed_if_idle(life);
    }

    fn proceed_if_idle(&mut self, life: u64) {
        while let Some(vm) = self.vms.get_mut(&life)
            && vm.begin(&self.sim, &mut self.stacks, self.module)
        {
            self.proceed(life, Go::On);
        }
    }

    /// Runs a VM's job on, and sees to it if that was its end.
    fn proceed(&mut self, life: u64, go: Go) {
        let Some(vm) = self.vms.get_mut(&life) else { return };
        let Some(end) = vm.run(go, &mut self.stacks) else { return };
        match end {
            End::Crashed => self.bury(life),
            End::Panicked(message) => {
                self.sim.borrow_mut().violated(format!("vm {life} panicked: {message}"));
                self.bury(life);
            }
            End::Done => {
                self.check(life);
                let shut_down =
                    self.sim.borrow().ledger.vms.get(&life).is_some_and(|account| account.job == "shut_down");
                if shut_down {
                    self.leave(life, 200_000);
                }
            }
        }
    }

    fn check(&mut self, life: u64) {
        let Some(vm) = self.vms.get(&life) else { return };
        let mut sim = self.sim.borrow_mut();
        let sim = &mut *sim;
        let result = sim.ledger.finished(&sim.scenario, &sim.process, life, sim.now_us);
        sim.check(result);
        if sim.scenario.is_calm() && sim.scenario.lease_ms >= sim.scenario.timeout_ms + 500 && sim.mutant.is_none() {
            let result = sim.ledger.calls_are_bounded();
            sim.check(result);
        }
        let is_tick = sim.ledger.vms.get(&life).is_some_and(|account| account.job == "tick");
        if is_tick && !vm.draining {
            let worker = vm.memory.worker.borrow();
            let snapshot = worker.as_ref().and_then(|worker| worker.snapshot.clone());
            let revision = snapshot.as_ref().and_then(|snapshot| snapshot.revision.as_deref());
            let result = sim.ledger.in_force(life, revision);
            sim.check(result);
        }
    }

    fn tick(&mut self, life: u64) {
        let Some(vm) = self.vms.get_mut(&life) else { return };
        let period_ms = vm.memory.tick_period_ms();
        // The host ticks on; what a VM has no time for is not made up for.
        if !vm.is_busy() && !vm.inbox.iter().any(|job| matches!(job, Job::Tick | Job::Configure)) {
            vm.inbox.push_back(Job::Tick);
        }
        let mut sim = self.sim.borrow_mut();
        let late_us = sim.rng.range(0, 300);
        sim.after(period_ms.unwrap_or(100) * 1_000 + late_us, Event::Tick(life));
        drop(sim);
        self.proceed_if_idle(life);
    }

    fn reply(&mut self, call: u64, timed_out: bool) {
        let reply = self.sim.borrow_mut().take_reply(call, timed_out);
        if let Some((life, token, answer)) = reply {
            self.give(life, Job::Reply(token, answer));
        }
    }

    /// A request lands on some worker's thread; a thread without a VM gets one.
    fn request(&mut self) {
        let (seat, visit, response_us) = {
            let mut sim = self.sim.borrow_mut();
            let sim = &mut *sim;
            let wait_us = sim.rng.exponential(sim.scenario.request_ms * 1_000);
            sim.after(wait_us, Event::Request);
            let seat = sim.rng.bits() as usize % self.seats.len();
            (seat, Visit::new(&mut sim.rng, sim.scenario.visitors), sim.rng.range(500, 60_000))
        };
        let life = match self.seats[seat] {
            Some(life) => life,
            None => {
                let life = self.start_vm();
                self.seats[seat] = Some(life);
                life
            }
        };
        self.last_stream += 1;
        let stream = self.last_stream;
        self.give(life, Job::Request(stream, visit));
        self.sim.borrow_mut().after(response_us, Event::Response(life, stream));
    }

    /// A changed listener: new VMs over the same shared data; the old ones finish what they have and go.
    fn reload(&mut self) {
        let old: Vec<u64> = self.vms.values().filter(|vm| !vm.draining).map(|vm| vm.life).collect();
        self.start_listener();
        let mut sim = self.sim.borrow_mut();
        sim.note("reload", 0, String::new);
        for life in old {
            self.vms.get_mut(&life).unwrap().draining = true;
            let wait_us = sim.rng.range(0, 3_000_000);
            sim.after(wait_us, Event::ShutDown(life));
        }
        let mean_ms = sim.scenario.reload_ms;
        sim.some_time(mean_ms, Event::Reload);
    }

    /// A VM that is draining is shut down. The one that was only tried at start is dropped without a callback.
    fn retire(&mut self, life: u64) {
        let Some(vm) = self.vms.get_mut(&life) else { return };
        let is_trial = life == 1 || vm.memory.worker.try_borrow().is_ok_and(|worker| worker.is_none());
        if is_trial {
            self.kill(life);
            self.leave(life, 700_000);
        } else {
            self.give(life, Job::ShutDown);
        }
    }

    /// The process ends, well or badly, and another one starts.
    fn restart(&mut self) {
        let graceful = self.sim.borrow_mut().rng.chance(500_000);
        self.sim.borrow_mut().note("restart", 0, || format!("graceful: {graceful}"));
        let all: Vec<u64> = self.vms.keys().copied().collect();
        for life in &all {
            let idle = self.vms.get(life).is_some_and(|vm| !vm.is_busy());
            if graceful && idle {
                self.vms.get_mut(life).unwrap().inbox.clear();
                self.give(*life, Job::ShutDown);
            }
        }
        for life in all {
            self.kill(life);
            self.leave(life, 300_000);
        }
        self.seats.fill(None);
        {
            let mut sim = self.sim.borrow_mut();
            sim.process = Process::default();
            sim.ledger.process_gone();
            sim.retain(|event| !matches!(event, Event::Tick(_) | Event::Wake(_) | Event::ShutDown(_)));
            let mean_ms = sim.scenario.restart_ms;
            sim.some_time(mean_ms, Event::Restart);
        }
        self.start_process();
    }

    /// Ends what a VM is doing.
    fn kill(&mut self, life: u64) {
        if let Some(vm) = self.vms.get_mut(&life)
            && vm.is_busy()
        {
            vm.run(Go::Die, &mut self.stacks);
        }
    }

    fn bury(&mut self, life: u64) {
        self.sim.borrow_mut().note("crash", life, String::new);
        self.leave(life, 500_000);
    }

    /// A VM is gone, and its memory with it.
    fn leave(&mut self, life: u64, cancelled: u32) {
        if self.vms.remove(&life).is_none() {
            return;
        }
        for seat in self.seats.iter_mut().filter(|seat| **seat == Some(life)) {
            *seat = None;
        }
        let mut sim = self.sim.borrow_mut();
        let sim = &mut *sim;
        sim.ledger.gone(life, &sim.process);
        sim.cancel_calls(life, cancelled);
    }

    fn end_faults(&mut self) {
        let mut sim = self.sim.borrow_mut();
        sim.quiet = true;
        sim.note("quiet", 0, String::new);
        sim.network.health = [Health::Well; 3];
        sim.retain(|event| {
            !matches!(event, Event::Shift(_) | Event::Config | Event::Jump | Event::Reload | Event::Restart)
        });
        let buffered: usize = sim.ledger.vms.values().map(|account| account.buffer.len()).sum();
        let fresh = FRESH_MS / sim.scenario.request_ms * 6;
        // A VM that sleeps may do so for 14 seconds more, and one that is to go may take 3.
        let rest_ms = 14_000 + FRESH_MS + recovery_ms(&sim.scenario, &sim.ledger.index, buffered + fresh as usize);
        sim.after(FRESH_MS * 1_000, Event::EndRequests);
        sim.after(rest_ms * 1_000, Event::Finish);
    }

    fn finish(&mut self) {
        let mut sim = self.sim.borrow_mut();
        let sim = &mut *sim;
        let result = sim.ledger.at_rest(&sim.process);
        sim.check(result);
        let served = sim.network.doc.revision.clone();
        for vm in self.vms.values() {
            let worker = vm.memory.worker.borrow();
            let snapshot = worker.as_ref().and_then(|worker| worker.snapshot.clone());
            let revision = snapshot.as_ref().and_then(|snapshot| snapshot.revision.as_deref());
            if revision != Some(&served) {
                sim.violated(format!("vm {} has {revision:?} in force at rest, {served} is served", vm.life));
            }
        }
    }

    /// Lets what still runs end, so that its stack is unwound.
    fn tear_down(&mut self) {
        let all: Vec<u64> = self.vms.keys().copied().collect();
        for life in all {
            self.kill(life);
        }
    }
}
