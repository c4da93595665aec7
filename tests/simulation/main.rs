//! The deterministic simulation: real workers over a simulated proxy in which everything goes wrong that can, and checks that
//! look at every change. A seed and a commit replay a run exactly.
//!
//! ```text
//! make sim                  a thousand seeds
//! make sim SEEDS=10000      more of them
//! make sim SEED=4711        one of them, step by step
//! make sim-mutants          planted bugs, each of which has to be found
//! make sim-module           the built module in an interpreter: SEEDS=300, SEED=4711 as above
//! ```

#![allow(unreachable_pub, missing_docs, reason = "only this test can reach it")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may panic; without the standard harness it is not known as one"
)]

mod checks;
mod config;
mod fault_injection;
mod host;
mod ledger;
mod mutants;
mod network;
mod outbox;
mod scenario;
mod sim;
mod tape;
mod vm;
mod wasm_vm;
mod workload;
mod world;

use edgesplit_testkit::module::Compiled;
use mutants::Mutant;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// The number of seeds by default, as in `cargo test`.
const SEEDS_DEFAULT: u64 = 200;

/// Those of them that also run in the module.
const MODULE_SEEDS: u64 = 10;

/// Seeds within which a planted bug has to be found.
const MUTANT_SEEDS_MAX: u64 = 1_000;

/// Every so many seeds is run twice, to see that nothing but the seed decides.
const REPEAT_EVERY: u64 = 50;

/// Threads that run seeds.
const THREADS: usize = 2;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

fn main() {
    let seeds = number("SEEDS");
    let start = number("START").unwrap_or(1);
    let module = number("MODULE")
        .map(|_| wasm_vm::compiled().unwrap_or_else(|| panic!("dist/edgesplit.wasm is missing: run `make build`")));
    if let Some(seed) = number("SEED") {
        replay(seed, module);
    } else if number("MUTANTS").is_some() {
        hunt();
    } else if module.is_some() {
        sweep(start, seeds.unwrap_or(MODULE_SEEDS), module);
    } else {
        sweep(start, seeds.unwrap_or(SEEDS_DEFAULT), None);
        if seeds.is_some() {
            return;
        }
        match wasm_vm::compiled() {
            Some(module) => sweep(start, MODULE_SEEDS, Some(module)),
            None => println!("the module is not simulated: dist/edgesplit.wasm is missing, `make build` makes it"),
        }
    }
}

/// One seed, step by step.
fn replay(seed: u64, module: Option<&'static Compiled>) {
    let mutant = std::env::var("MUTANT").ok();
    let mutant = mutant.and_then(|name| Mutant::ALL.into_iter().find(|mutant| format!("{mutant:?}") == name));
    let outcome = world::run(seed, mutant, module, true);
    println!("{outcome:#?}");
    assert!(outcome.violation.is_none(), "seed {seed} found a violation");
}

/// The seeds from `start` on; ends with the first violation.
fn sweep(start: u64, seeds: u64, module: Option<&'static Compiled>) {
    let began = Instant::now();
    let next = AtomicU64::new(start);
    let found = Mutex::new(Vec::new());
    let totals = Mutex::new((0_u64, 0_u64, [0_i64; ledger::NAMES.len()], 0_usize));
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= start + seeds || found.lock().unwrap().len() >= 5 {
                        return;
                    }
                    let outcome = world::run(seed, None, module, false);
                    if seed.is_multiple_of(REPEAT_EVERY) {
                        let again = world::run(seed, None, module, false);
                        assert_eq!(outcome.hash, again.hash, "seed {seed} is not the same twice");
                    }
                    let mut totals = totals.lock().unwrap();
                    totals.0 += outcome.steps;
                    totals.1 += outcome.simulated_ms;
                    totals.3 = totals.3.max(outcome.memory_bytes);
                    for (total, events) in totals.2.iter_mut().zip(outcome.totals) {
                        *total += events;
                    }
                    drop(totals);
                    if let Some(violation) = outcome.violation {
                        println!("seed {seed}: {violation}");
                        found.lock().unwrap().push(seed);
                    }
                    let done = seed - start + 1;
                    if done.is_multiple_of(500) {
                        println!("{done} of {seeds} seeds, {:.0} s", began.elapsed().as_secs_f64());
                    }
                }
            });
        }
    });
    let (steps, simulated_ms, totals, memory_bytes) = totals.into_inner().unwrap();
    let (hours, took) = (simulated_ms as f64 / 3_600_000.0, began.elapsed().as_secs_f64());
    let mut found = found.into_inner().unwrap();
    found.sort_unstable();
    let runs = if module.is_some() { "the built module" } else { "native workers" };
    println!("{runs}: {seeds} seeds from {start} on: {hours:.1} simulated hours, {steps} steps in {took:.1} s");
    println!("{:?} = {totals:?}", ledger::NAMES);
    if module.is_some() {
        println!("linear memory of a VM: {memory_bytes} bytes at most, {} are allowed", wasm_vm::MEMORY_BYTES_MAX);
    }
    assert!(
        found.is_empty(),
        "violations: replay with make {} SEED={}",
        if module.is_some() { "sim-module" } else { "sim" },
        found.first().unwrap_or(&0)
    );
}

/// Every planted bug, with the seed that found it.
fn hunt() {
    let missed = Mutex::new(Vec::new());
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while let Some(mutant) = Mutant::ALL.get(next.fetch_add(1, Ordering::Relaxed) as usize) {
                    let found = (1..=MUTANT_SEEDS_MAX).find_map(|seed| {
                        world::run(seed, Some(*mutant), None, false).violation.map(|what| (seed, what))
                    });
                    match found {
                        Some((seed, what)) => println!("{:<20} after {seed:>3} seeds: {what}", format!("{mutant:?}")),
                        None => missed.lock().unwrap().push(*mutant),
                    }
                }
            });
        }
    });
    let missed = missed.into_inner().unwrap();
    assert!(missed.is_empty(), "not found within {MUTANT_SEEDS_MAX} seeds: {missed:?}");
}
