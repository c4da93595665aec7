//! A thousand crashes of processes with a spool: real pipelines and spools over a simulated host and a disk that tears
//! writes. A seed replays a run exactly.
//!
//! At the end of each run, every event that counted as durable has arrived, under one batch, and the accounting adds up.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests may panic")]

mod disk;
mod process;
mod service;

use disk::Disk;
use process::{Limits, Process};
use service::Service;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

const CRASHES: u32 = 1_000;

/// Crashes in one run; orderly ends come on top.
const CRASHES_PER_RUN: u32 = 4;

/// Steps without a fault within which everything has to recover.
const REST_STEPS_MAX: u32 = 3_000;

/// A random number generator (splitmix64), shared by all parts of a run.
#[derive(Debug, Clone)]
struct Rng(Rc<RefCell<u64>>);

impl Rng {
    fn new(seed: u64) -> Rng {
        Rng(Rc::new(RefCell::new(seed)))
    }

    fn bits(&self) -> u64 {
        let mut state = self.0.borrow_mut();
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = *state;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    fn below(&self, end: u64) -> u64 {
        self.bits() % end.max(1)
    }

    fn one_in(&self, count: u64) -> bool {
        self.below(count) == 0
    }
}

/// Everything that outlives a process.
#[derive(Debug)]
struct World {
    rng: Rng,
    now_ms: i64,
    disk: Rc<RefCell<Disk>>,
    service: Rc<RefCell<Service>>,
}

/// The sums over all processes of a run.
#[derive(Debug, Default)]
struct Totals {
    crashes: u32,
    emitted: i64,
    delivered: i64,
    dropped: i64,
    recovered: i64,
    durable: i64,
    torn: i64,
    full: i64,
    locked: i64,
}

impl Totals {
    fn add(&mut self, process: &Process) {
        for (total, name) in [
            (&mut self.emitted, "events.emitted"),
            (&mut self.delivered, "events.delivered"),
            (&mut self.dropped, "events.dropped_overflow"),
            (&mut self.recovered, "spool.recovered_events"),
            (&mut self.durable, "spool.durable_events"),
            (&mut self.torn, "errors.spool_torn"),
            (&mut self.full, "errors.spool_full"),
            (&mut self.locked, "spool.locked_folders"),
        ] {
            *total += process.count(name);
        }
        self.dropped += process.count("events.rejected");
    }

    fn and(self, other: Totals) -> Totals {
        Totals {
            crashes: self.crashes + other.crashes,
            emitted: self.emitted + other.emitted,
            delivered: self.delivered + other.delivered,
            dropped: self.dropped + other.dropped,
            recovered: self.recovered + other.recovered,
            durable: self.durable + other.durable,
            torn: self.torn + other.torn,
            full: self.full + other.full,
            locked: self.locked + other.locked,
        }
    }
}

fn run(seed: u64, limits: Limits) -> Totals {
    let rng = Rng::new(seed);
    let disk = Rc::new(RefCell::new(Disk::new(rng.clone())));
    let mut world = World { now_ms: 1_700_000_000_000, disk, service: Rc::default(), rng: rng.clone() };
    world.service.borrow_mut().splits = limits == Limits::Splits;
    let mut totals = Totals::default();
    let mut number = 0;
    let mut processes = vec![Process::start(&world, number, limits)];
    while totals.crashes < CRASHES_PER_RUN {
        world.now_ms += 20 + rng.below(200) as i64;
        if rng.one_in(60) {
            let mut service = world.service.borrow_mut();
            service.is_up = !service.is_up;
        }
        if rng.one_in(80) {
            world.disk.borrow_mut().change_health();
        }
        for process in &mut processes {
            process.step(&world);
        }
        // A hot restart: two processes at the same time, of which the first one ends.
        if rng.one_in(150) && processes.len() < 2 {
            number += 1;
            processes.push(Process::start(&world, number, limits));
        }
        if processes.len() == 2 && rng.one_in(30) {
            let mut first = processes.remove(0);
            first.end(&world);
            totals.add(&first);
        }
        if rng.one_in(100) {
            world.disk.borrow_mut().crashes_soon();
        }
        let (dead, live): (Vec<Process>, Vec<Process>) =
            processes.into_iter().partition(|process| process.is_dead(&world));
        processes = live;
        for process in dead {
            totals.crashes += 1;
            process.crash(&world);
            totals.add(&process);
        }
        if processes.is_empty() {
            number += 1;
            processes.push(Process::start(&world, number, limits));
        }
    }
    rest(&mut world, &mut processes, seed);
    for process in &processes {
        totals.add(process);
    }
    check(&world, &totals, limits, seed);
    totals
}

/// Time without faults and new events: everything is delivered.
fn rest(world: &mut World, processes: &mut [Process], seed: u64) {
    world.service.borrow_mut().is_up = true;
    world.disk.borrow_mut().heal();
    for process in processes.iter_mut() {
        process.is_idle = true;
    }
    for _ in 0..REST_STEPS_MAX {
        world.now_ms += 200;
        for process in processes.iter_mut() {
            process.step(world);
        }
        if processes.iter().all(Process::is_empty) && world.disk.borrow().files() == 0 {
            return;
        }
    }
    panic!("seed {seed}: not everything was delivered: {} files are left", world.disk.borrow().files());
}

fn check(world: &World, totals: &Totals, limits: Limits, seed: u64) {
    let (disk, service) = (world.disk.borrow(), world.service.borrow());
    assert!(service.problems.is_empty(), "seed {seed}: {:?}", service.problems);
    let arrived: BTreeSet<&String> = service.events.keys().collect();
    let lost: Vec<&String> = disk.durable.iter().filter(|event| !arrived.contains(event)).collect();
    assert!(lost.len() as i64 <= totals.dropped, "seed {seed}: {} durable events did not arrive: {lost:?}", lost.len());
    assert!(limits != Limits::Default || totals.dropped == 0, "seed {seed}: {totals:?}");
    assert_eq!(totals.durable, disk.durable.len() as i64, "seed {seed}: {totals:?}");
    // Events that were delivered twice had their acknowledgement lost in a crash.
    let repeated = totals.delivered - arrived.len() as i64;
    assert!(repeated <= service.repeated, "seed {seed}: {totals:?}, {repeated} of {} repeated", service.repeated);
    let gone = totals.emitted - arrived.len() as i64 - totals.dropped;
    assert!(gone <= disk.lost_with_processes as i64, "seed {seed}: {totals:?}, {gone} events are gone");
}

#[test]
fn durable_events_survive_a_thousand_crashes() {
    const RUNS: u64 = (CRASHES / CRASHES_PER_RUN) as u64;
    let half = |first: u64| (first..=RUNS).step_by(2).map(run_seed).fold(Totals::default(), Totals::and);
    let totals = std::thread::scope(|scope| {
        let odd = scope.spawn(|| half(1));
        half(2).and(odd.join().unwrap())
    });
    // The runs reach everything that they are about.
    assert!(totals.crashes >= CRASHES && totals.recovered > 1_000, "{totals:?}");
    assert!(totals.torn > 50 && totals.full > 50 && totals.locked > 50, "{totals:?}");
}

fn run_seed(seed: u64) -> Totals {
    let limits = [Limits::Default, Limits::Default, Limits::Small, Limits::Splits];
    run(seed, limits[(seed / 2) as usize % limits.len()])
}
