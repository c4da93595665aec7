//! A VM: the real worker, run as a coroutine, so that it can lose its thread at every host call, or its life.

use crate::fault_injection;
use crate::host::{Crash, Go, SimHost, SimReply};
use crate::network::Answer;
use crate::sim::Sim;
use crate::wasm_vm;
use crate::workload::Visit;
use corosensei::stack::DefaultStack;
use corosensei::{Coroutine, CoroutineResult};
use edgesplit_filter::events::dedupe::Dedupe;
use edgesplit_filter::events::event::{derived_id, random_id};
use edgesplit_filter::request::{Flow, handle_request};
use edgesplit_filter::response::handle_response;
use edgesplit_filter::response_plan::ResponsePlan;
use edgesplit_filter::worker::Worker;
use edgesplit_testkit::module::{Compiled, ModuleVm};
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

/// A callback of a VM.
#[derive(Debug, Clone)]
pub enum Job {
    /// Begin.
    Configure,
    /// The regular work.
    Tick,
    /// Take in a reply.
    Reply(u32, Answer),
    /// Handle a request's headers.
    Request(u64, Visit),
    /// Handle the headers of the response to it.
    Response(u64),
    /// End.
    ShutDown,
}

impl Job {
    /// Its name.
    pub fn name(&self) -> &'static str {
        match self {
            Job::Configure => "configure",
            Job::Tick => "tick",
            Job::Reply(..) => "reply",
            Job::Request(..) => "request",
            Job::Response(_) => "response",
            Job::ShutDown => "shut_down",
        }
    }
}

/// How a job ended.
#[derive(Debug)]
pub enum End {
    /// As it should.
    Done,
    /// With the VM.
    Crashed,
    /// With a panic of the filter's own.
    Panicked(String),
}

/// A request whose response is on its way, with what is left to do for that.
pub type Stream = (Visit, ResponsePlan);

/// What a VM has in its memory.
#[derive(Default)]
pub struct Memory {
    /// The worker, once it is configured; in module mode its twin.
    pub worker: RefCell<Option<Worker>>,
    /// The built module, where that is what runs.
    pub module: RefCell<Option<ModuleVm>>,
    /// The exposures it has to have reported, in a memory like its own.
    reported: RefCell<Option<Dedupe>>,
    /// Requests whose responses are on their way.
    pub streams: RefCell<BTreeMap<u64, Stream>>,
}

impl Memory {
    /// How often it wants to tick, if it can be asked.
    pub fn tick_period_ms(&self) -> Option<u64> {
        let module = self.module.try_borrow().ok()?;
        if let Some(module) = &*module {
            return Some(u64::from(module.tick_period_ms()));
        }
        self.worker.try_borrow().ok()?.as_ref().map(Worker::tick_period_ms)
    }
}

/// Stacks of coroutines that ended.
pub type Stacks = Vec<DefaultStack>;

/// A VM.
pub struct Vm {
    /// Its number: no other VM of the run ever has it.
    pub life: u64,
    /// Its memory.
    pub memory: Rc<Memory>,
    /// What it has to do next.
    pub inbox: VecDeque<Job>,
    /// It takes no new requests and will be shut down.
    pub draining: bool,
    running: Option<Coroutine<Go, (), End, DefaultStack>>,
}

impl Vm {
    /// A VM that has to be configured.
    pub fn new(life: u64) -> Vm {
        let inbox = VecDeque::from([Job::Configure]);
        Vm { life, memory: Rc::default(), inbox, draining: false, running: None }
    }

    /// Whether it is in the middle of a job.
    pub fn is_busy(&self) -> bool {
        self.running.is_some()
    }

    /// Begins the next job, if it has time for one. True where it did. `module`: it is what runs.
    pub fn begin(&mut self, sim: &Rc<RefCell<Sim>>, stacks: &mut Stacks, module: Option<&'static Compiled>) -> bool {
        if self.is_busy() {
            return false;
        }
        let Some(job) = self.inbox.pop_front() else { return false };
        {
            let mut sim = sim.borrow_mut();
            let now_us = sim.now_us;
            sim.note(job.name(), self.life, String::new);
            sim.ledger.begin(self.life, job.name(), now_us);
            if let Job::Reply(token, answer) = &job {
                sim.note("answer", self.life, || format!("token {token}: {:?}", answer.headers));
                sim.ledger.replied(self.life, *token, answer);
            }
        }
        let (sim, memory, vm) = (Rc::clone(sim), Rc::clone(&self.memory), self.life);
        let stack_bytes = if module.is_some() { wasm_vm::STACK_BYTES } else { 512 << 10 };
        let stack = stacks.pop().unwrap_or_else(|| DefaultStack::new(stack_bytes).unwrap());
        self.running = Some(Coroutine::with_stack(stack, move |yielder, _| {
            let host = SimHost { sim: &sim, yielder, vm, headers: Vec::new(), written: RefCell::default() };
            let run = || match module {
                Some(compiled) => wasm_vm::run(compiled, host, &memory, job),
                None => run(host, &memory, job),
            };
            match catch_unwind(AssertUnwindSafe(run)) {
                Ok(()) => End::Done,
                Err(payload) if payload.is::<Crash>() => End::Crashed,
                Err(payload) => End::Panicked(
                    payload
                        .downcast_ref::<String>()
                        .cloned()
                        .or_else(|| payload.downcast_ref::<&str>().map(|text| (*text).to_owned()))
                        .unwrap_or_default(),
                ),
            }
        }));
        true
    }

    /// Runs on; gives the end of the job, if it came to that.
    pub fn run(&mut self, go: Go, stacks: &mut Stacks) -> Option<End> {
        let running = self.running.as_mut()?;
        match running.resume(go) {
            CoroutineResult::Yield(()) => None,
            CoroutineResult::Return(end) => {
                stacks.extend(self.running.take().map(Coroutine::into_stack));
                Some(end)
            }
        }
    }
}

/// One callback.
fn run(mut host: SimHost<'_>, memory: &Memory, job: Job) {
    let sim = Rc::clone(host.sim);
    if let Job::Configure = job {
        let config = {
            let sim = sim.borrow();
            sim.scenario.plugin_config(sim.mutant)
        };
        match Worker::configure(&host, crate::scenario::PLUGIN, &config) {
            Ok(worker) => *memory.worker.borrow_mut() = Some(worker),
            Err(problems) => {
                let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
                sim.borrow_mut().violated(format!("the configuration is refused: {problems:?}"));
            }
        }
        return;
    }
    let mut worker = memory.worker.borrow_mut();
    let Some(worker) = worker.as_mut() else { return };
    match job {
        Job::Configure => {}
        Job::Tick => worker.tick(&host),
        Job::Reply(_, answer) if sim.borrow().mutant.is_some_and(|mutant| fault_injection::drops(mutant, &answer)) => {}
        Job::Reply(token, answer) => worker.on_reply(&host, token, &SimReply { host: &host, answer }),
        Job::ShutDown => worker.shut_down(&host),
        Job::Request(stream, visit) => {
            host.headers = visit.request_headers();
            let revision = worker.snapshot.as_ref().map(|snapshot| snapshot.revision.clone().unwrap_or_default());
            let (Flow::Continue(pending) | Flow::Answered(pending)) = handle_request(worker, &host);
            check_request(&host, &visit, revision.as_deref());
            memory.streams.borrow_mut().insert(stream, (visit, pending));
        }
        Job::Response(stream) => {
            let Some((visit, pending)) = memory.streams.borrow_mut().remove(&stream) else { return };
            if pending.is_idle() {
                return;
            }
            host.headers = visit.response_headers();
            let exposures = repeats_left_out(&host, memory, &pending);
            handle_response(worker, &host, pending);
            check_response(&host, &visit, &exposures);
        }
    }
}

/// The request went on with the assignments that these experiments give.
pub fn check_request(host: &SimHost<'_>, visit: &Visit, revision: Option<&str>) {
    let written = host.written.borrow();
    let assigned = written.iter().find(|(name, _)| name == "x-ab-assignments").map(|(_, value)| value);
    let mut sim = host.sim.borrow_mut();
    let doc = revision.and_then(|revision| sim.docs.get(revision));
    let expected = doc.and_then(|doc| doc.assignments(&visit.visitor, visit.path));
    if expected.as_ref() != assigned {
        let Visit { visitor, path, .. } = visit;
        sim.violated(format!("{visitor} on {path}: {assigned:?} under {revision:?}, expected {expected:?}"));
    }
}

/// The ids of the exposures that a response has to report.
pub fn repeats_left_out(host: &SimHost<'_>, memory: &Memory, pending: &ResponsePlan) -> Vec<u128> {
    let (window_ms, entries) = {
        let scenario = &host.sim.borrow().scenario;
        (scenario.window_ms, scenario.dedupe_entries)
    };
    let mut reported = memory.reported.borrow_mut();
    let reported = reported.get_or_insert_with(|| Dedupe::new(0, window_ms, entries));
    let mut exposures = Vec::new();
    for exposure in pending.exposures() {
        if reported.remember(exposure.fingerprint as u64, exposure.window) {
            exposures.push(derived_id(exposure.fingerprint).as_u128());
        }
    }
    exposures
}

/// A response was handled: the goals it reached, and the events that are in the buffer now.
pub fn check_response(host: &SimHost<'_>, visit: &Visit, exposures: &[u128]) {
    let mut sim = host.sim.borrow_mut();
    let sim = &mut *sim;
    let randoms = sim.ledger.vms.get(&host.vm).map(|account| account.randoms.clone()).unwrap_or_default();
    let goals: Vec<u128> = randoms.into_iter().map(|random| random_id(random).as_u128()).collect();
    let expected = usize::from(visit.path == "/api/orders" && visit.status.starts_with('2'));
    if goals.len() != expected {
        sim.violated(format!("{} goals for {visit:?}", goals.len()));
    }
    let result = sim.ledger.emitted(host.vm, exposures, &goals);
    sim.check(result);
}
