//! The deterministic simulation: real workers over a simulated proxy in which everything goes wrong that can, and checks that
//! look at every change. A seed and a commit replay a run exactly.
//!
//! ```text
//! make sim                  a thousand seeds
//! make sim SEEDS=10000      more of them
//! make sim SEED=4711        one of them, step by step
//! make sim-mutants          planted bugs, each of which has to be found
//! make sim MODULE=wasm      the wasm module in an interpreter: SEEDS=300, SEED=4711 as above
//! make sim MODULE=native    the native module in processes that crash, with a spool
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
mod native;
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
use edgesplit_testkit::module_under_test::native_module;
use edgesplit_testkit::root;
use mutants::Mutant;
use native::Program;
use std::cell::LazyCell;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use world::Outcome;

/// The number of seeds by default, as in `cargo test`.
const SEEDS_DEFAULT: u64 = 200;

/// Those of them that also run in each of the modules.
const WASM_SEEDS: u64 = 10;
const NATIVE_SEEDS: u64 = 100;

/// A seed beyond those that found a bug in the native module: a torn file that could not be removed was forgotten.
const NATIVE_SEED_FOUND: u64 = 472;

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

/// The native module in its host, if it is built. Its host is compiled when it is first used.
type Native = LazyCell<Option<Program>>;

/// The form of the filter that runs.
#[derive(Clone, Copy)]
enum Subject<'a> {
    /// Workers, linked into this program.
    Workers,
    Wasm(&'static Compiled),
    Native(&'a Program),
}

impl<'a> Subject<'a> {
    /// The one that `MODULE` names, whose module must be built.
    fn named(name: &str, native: &'a Native) -> Subject<'a> {
        let built = match name {
            "" => Some(Subject::Workers),
            "wasm" => Subject::wasm(),
            "native" => Subject::native(native),
            other => panic!("MODULE={other}: expected wasm or native"),
        };
        built.unwrap_or_else(|| panic!("the {name} module is missing in dist/: run `make build`"))
    }

    fn wasm() -> Option<Subject<'a>> {
        wasm_vm::compiled().map(Subject::Wasm)
    }

    fn native(native: &'a Native) -> Option<Subject<'a>> {
        native.as_ref().map(Subject::Native)
    }

    fn run(self, seed: u64, mutant: Option<Mutant>, tracing: bool) -> Outcome {
        match self {
            Subject::Workers => world::run(seed, mutant, None, tracing),
            Subject::Wasm(module) => world::run(seed, mutant, Some(module), tracing),
            Subject::Native(program) => native::run(seed, mutant, program, tracing),
        }
    }
}

fn main() {
    let seeds = number("SEEDS");
    let start = number("START").unwrap_or(1);
    let name = std::env::var("MODULE").unwrap_or_default();
    let native: Native = LazyCell::new(|| {
        let is_built = root().join("dist/libedgesplit.so").exists();
        is_built.then(|| Program::new(native_module()))
    });
    let subject = Subject::named(&name, &native);
    if let Some(seed) = number("SEED") {
        replay(seed, subject);
    } else if number("MUTANTS").is_some() {
        hunt(subject);
        if let (true, Some(native)) = (name.is_empty(), Subject::native(&native)) {
            hunt(native);
        }
    } else if let Some(seeds) = seeds {
        sweep(start, seeds, subject);
    } else if name.is_empty() {
        sweep(start, SEEDS_DEFAULT, Subject::Workers);
        let native = Subject::native(&native);
        for (name, module, start, seeds) in [
            ("wasm", Subject::wasm(), start, WASM_SEEDS),
            ("native", native, start, NATIVE_SEEDS),
            ("native", native, NATIVE_SEED_FOUND, 1),
        ] {
            match module {
                Some(module) => sweep(start, seeds, module),
                None => println!("the {name} module is not simulated: `make build` makes it"),
            }
        }
    } else {
        sweep(start, if name == "wasm" { WASM_SEEDS } else { NATIVE_SEEDS }, subject);
    }
}

/// One seed, step by step.
fn replay(seed: u64, subject: Subject<'_>) {
    let mutant = std::env::var("MUTANT").ok();
    let mut all = Mutant::VMS.into_iter().chain(Mutant::NATIVE);
    let mutant = mutant.and_then(|name| all.find(|mutant| format!("{mutant:?}") == name));
    let outcome = subject.run(seed, mutant, true);
    println!("{outcome:#?}");
    assert!(outcome.violation.is_none(), "seed {seed} found a violation");
}

/// The seeds from `start` on; ends with the first violation.
fn sweep(start: u64, seeds: u64, subject: Subject<'_>) {
    let began = Instant::now();
    let next = AtomicU64::new(start);
    let found = Mutex::new(Vec::new());
    let totals = Mutex::new(Totals::default());
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= start + seeds || found.lock().unwrap().len() >= 5 {
                        return;
                    }
                    let outcome = subject.run(seed, None, false);
                    if seed.is_multiple_of(REPEAT_EVERY) {
                        let again = subject.run(seed, None, false);
                        assert_eq!(outcome.hash, again.hash, "seed {seed} is not the same twice");
                    }
                    totals.lock().unwrap().add(&outcome);
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
    let Totals { steps, simulated_ms, events, memory_bytes, crashes, spool } = totals.into_inner().unwrap();
    let (hours, took) = (simulated_ms as f64 / 3_600_000.0, began.elapsed().as_secs_f64());
    let mut found = found.into_inner().unwrap();
    found.sort_unstable();
    let (runs, option) = match subject {
        Subject::Workers => ("workers", ""),
        Subject::Wasm(_) => ("the wasm module", "MODULE=wasm "),
        Subject::Native(_) => ("the native module", "MODULE=native "),
    };
    println!("{runs}: {seeds} seeds from {start} on: {hours:.1} simulated hours, {steps} steps in {took:.1} s");
    println!("{:?} = {events:?}", ledger::NAMES);
    match subject {
        Subject::Workers => {}
        Subject::Wasm(_) => {
            println!("linear memory of a VM: {memory_bytes} bytes at most, {} are allowed", wasm_vm::MEMORY_BYTES_MAX);
        }
        Subject::Native(_) => println!("{crashes} crashes, {:?} = {spool:?}", native::SPOOL_NAMES),
    }
    assert!(found.is_empty(), "violations: replay with make sim {option}SEED={}", found.first().unwrap_or(&0));
}

/// The sums over all seeds.
#[derive(Default)]
struct Totals {
    steps: u64,
    simulated_ms: u64,
    events: [i64; ledger::NAMES.len()],
    memory_bytes: usize,
    crashes: u64,
    spool: [u64; native::SPOOL_NAMES.len()],
}

impl Totals {
    fn add(&mut self, outcome: &Outcome) {
        self.steps += outcome.steps;
        self.simulated_ms += outcome.simulated_ms;
        self.memory_bytes = self.memory_bytes.max(outcome.memory_bytes);
        self.crashes += outcome.crashes;
        self.events.iter_mut().zip(outcome.totals).for_each(|(total, events)| *total += events);
        self.spool.iter_mut().zip(outcome.spool).for_each(|(total, count)| *total += count);
    }
}

/// Every planted bug, with the seed that found it.
fn hunt(subject: Subject<'_>) {
    let mutants: &[Mutant] = if matches!(subject, Subject::Native(_)) { &Mutant::NATIVE } else { &Mutant::VMS };
    let missed = Mutex::new(Vec::new());
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while let Some(mutant) = mutants.get(next.fetch_add(1, Ordering::Relaxed) as usize) {
                    let found = (1..=MUTANT_SEEDS_MAX)
                        .find_map(|seed| subject.run(seed, Some(*mutant), false).violation.map(|what| (seed, what)));
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
