//! The native module in the place of the workers: the shipped `libedgesplit.so` in processes of their own, which crash, with a
//! spool on a disk that tears writes. The host is `tests/native_host/player.c`; documents, visitors, network and services are
//! those of the other simulations.
//!
//! Hooks of one process follow each other, and the thread of its spool goes on between them, from one change of the disk to the
//! next. Hooks that run at the same time on several threads are the subject of `tests/native_host.rs`.

mod disk;
mod ledger;
mod traffic;
mod world;

pub use ledger::NativeLedger;

use crate::ledger::NAMES;
use crate::mutants::Mutant;
use crate::sim::Sim;
use crate::world::Outcome;
use edgesplit_testkit::envoy::Directory;
use edgesplit_testkit::native_process::compile;
use std::path::PathBuf;
use world::World;

/// The metrics of the spool in the summary.
pub const SPOOL_NAMES: [&str; 6] = [
    "spool.durable_events",
    "spool.recovered_events",
    "spool.locked_folders",
    "errors.spool_torn",
    "errors.spool_full",
    "errors.spool_disk",
];

/// The host, compiled, and the module.
#[derive(Debug)]
pub struct Program {
    player: PathBuf,
    module: PathBuf,
    /// Keeps the compiled host.
    _folder: Directory,
}

impl Program {
    /// The program with the built module.
    pub fn new(module: PathBuf) -> Program {
        let folder = Directory::new().unwrap();
        Program { player: compile("player", &folder), module, _folder: folder }
    }
}

/// Runs a seed from its beginning to its end.
pub fn run(seed: u64, mutant: Option<Mutant>, program: &Program, tracing: bool) -> Outcome {
    let folder = Directory::new().unwrap();
    let spool = folder.file("spool");
    let mut sim = Sim::new(seed, mutant, tracing);
    sim.scenario.use_native(&mut sim.rng, &spool);
    sim.native = Some(NativeLedger::new(&sim.scenario));
    let mut world = World::new(sim, program, spool);
    world.run();
    let totals = NAMES.map(|name| world.total(name) as i64);
    let spool = SPOOL_NAMES.map(|name| world.total(name));
    let sim = &world.sim;
    Outcome {
        violation: sim.violation.clone(),
        hash: sim.hash,
        steps: sim.steps,
        simulated_ms: sim.now_us / 1_000,
        totals,
        memory_bytes: 0,
        crashes: world.crashes,
        spool,
    }
}

/// The ledger of a run with native processes.
fn ledger_of(sim: &mut Sim) -> &mut NativeLedger {
    sim.native.as_mut().unwrap()
}
