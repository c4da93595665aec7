//! The built module in the place of the native worker: the same scenarios, the same host, crashes as traps.
//!
//! The host calls of each callback are recorded on a tape, with their answers. Then a native worker, the VM's twin, runs the
//! same callback with the tape as its host: it must make the same calls in the same order, and gets the same answers. The
//! module therefore makes the same host calls as the source, and all checks that look into a worker's memory look into the
//! twin's.
//!
//! Two differences are allowed. Counters by experiment stand in a hash map, so metrics that are handed over together come in
//! any order. And the module's hash maps draw their seed from the same source as ids when the VM starts: bits drawn before
//! the module is configured belong to no id, see `ledger.randoms`.

use crate::host::{SimHost, SimReply};
use crate::scenario::PLUGIN;
use crate::tape::{Recorder, Tape};
use crate::vm::{Job, Memory, check_request, check_response, repeats_left_out};
use edgesplit_filter::host::Reply;
use edgesplit_filter::http::headers::HeaderBlock;
use edgesplit_filter::request::{Flow, handle_request};
use edgesplit_filter::response::handle_response;
use edgesplit_filter::worker::Worker;
use edgesplit_testkit::module::{Compiled, Death, ModuleVm, taken_apart};
use std::panic::resume_unwind;
use std::path::Path;
use std::rc::Rc;
use std::sync::OnceLock;

/// Linear memory that a VM has at most, in bytes.
pub const MEMORY_BYTES_MAX: usize = 16 << 20;

/// The stack of a coroutine that runs the interpreter.
pub const STACK_BYTES: usize = 2 << 20;

/// Streams' ids begin behind those of root contexts.
const FIRST_STREAM: u64 = 1_000;

/// The built module, if there is one.
pub fn compiled() -> Option<&'static Compiled> {
    static COMPILED: OnceLock<Option<Compiled>> = OnceLock::new();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("dist/edgesplit.wasm");
    COMPILED.get_or_init(|| file.exists().then(|| Compiled::load(&file))).as_ref()
}

/// One callback.
pub fn run(compiled: &Compiled, mut host: SimHost<'_>, memory: &Memory, job: Job) {
    let sim = Rc::clone(host.sim);
    let vm = host.vm;
    if let Job::Configure = job {
        let config = sim.borrow().scenario.plugin_config(None);
        let mut module = alive(ModuleVm::start(compiled, &host, PLUGIN));
        if let Some(account) = sim.borrow_mut().ledger.vms.get_mut(&vm) {
            account.randoms.clear();
        }
        let recorder = Recorder::new(&host);
        let taken = alive(module.configure(&recorder, &config));
        let tape = recorder.end();
        match Worker::configure(&tape, PLUGIN, &config) {
            Ok(worker) if taken => {
                tape.end("configure");
                *memory.worker.borrow_mut() = Some(worker);
                look_after(&host, &module, memory);
                *memory.module.borrow_mut() = Some(module);
            }
            twin => {
                let refused = twin.is_err();
                sim.borrow_mut().violated(format!("the configuration is refused: {}, its twin: {refused}", !taken));
            }
        }
        return;
    }
    let mut module = memory.module.borrow_mut();
    let Some(module) = module.as_mut() else { return };
    let what = job.name();
    // A tick, a reply or the end: only its host calls are compared.
    let twin = |done: Result<(), Death>, recorder: Recorder<'_, '_>, work: &dyn Fn(&mut Worker, &Tape)| {
        alive(done);
        let tape = recorder.end();
        if let Some(worker) = memory.worker.borrow_mut().as_mut() {
            work(worker, &tape);
        }
        tape.end(what);
    };
    match job {
        Job::Configure => {}
        Job::Tick => {
            let recorder = Recorder::new(&host);
            twin(module.tick(&recorder), recorder, &|worker, tape| worker.tick(tape));
        }
        Job::Reply(token, answer) => {
            let (headers, body) = taken_apart(&SimReply { host: &host, answer });
            let reply = OwnedReply { headers: headers.clone(), body: body.clone() };
            let recorder = Recorder::new(&host);
            twin(module.reply(&recorder, token, headers, body), recorder, &|worker, tape| {
                worker.on_reply(tape, token, &reply);
            });
        }
        Job::ShutDown => {
            let recorder = Recorder::new(&host);
            twin(module.shut_down(&recorder), recorder, &|worker, tape| worker.shut_down(tape));
        }
        Job::Request(stream, visit) => {
            host.headers = visit.request_headers();
            let recorder = Recorder::new(&host);
            let goes_on = alive(module.request(&recorder, (FIRST_STREAM + stream) as u32));
            let tape = recorder.end();
            let mut worker = memory.worker.borrow_mut();
            let Some(worker) = worker.as_mut() else { return };
            let revision = worker.snapshot.as_ref().map(|snapshot| snapshot.revision.clone().unwrap_or_default());
            let (twin_goes_on, pending) = match handle_request(worker, &tape) {
                Flow::Continue(pending) => (true, pending),
                Flow::Answered(pending) => (false, pending),
            };
            tape.end(what);
            assert_eq!(goes_on, twin_goes_on, "the module and its twin disagree on who answers");
            check_request(&host, &visit, revision.as_deref());
            memory.streams.borrow_mut().insert(stream, (visit, pending));
        }
        Job::Response(stream) => {
            let Some((visit, pending)) = memory.streams.borrow_mut().remove(&stream) else { return };
            host.headers = visit.response_headers();
            let exposures = repeats_left_out(&host, memory, &pending);
            let recorder = Recorder::new(&host);
            // A proxy passes every response to the module, even if nothing is left to do.
            alive(module.response(&recorder, (FIRST_STREAM + stream) as u32));
            let tape = recorder.end();
            let mut worker = memory.worker.borrow_mut();
            let Some(worker) = worker.as_mut() else { return };
            let is_idle = pending.is_idle();
            if !is_idle {
                handle_response(worker, &tape, pending);
            }
            tape.end(what);
            if !is_idle {
                check_response(&host, &visit, &exposures);
            }
        }
    }
    look_after(&host, module, memory);
}

/// The result of a callback. A crash at a host call goes on as one; any other trap is the module's own.
fn alive<T>(done: Result<T, Death>) -> T {
    match done {
        Ok(done) => done,
        Err(Death::Host(payload)) => resume_unwind(payload),
        Err(Death::Trap(message)) => panic!("{message}"),
    }
}

/// Checks the module's memory and its tick period.
fn look_after(host: &SimHost<'_>, module: &ModuleVm, memory: &Memory) {
    let mut sim = host.sim.borrow_mut();
    let bytes = module.memory_bytes();
    sim.memory_bytes = sim.memory_bytes.max(bytes);
    if bytes > MEMORY_BYTES_MAX {
        sim.violated(format!("vm {} has a memory of {bytes} bytes", host.vm));
    }
    let module_ms = u64::from(module.tick_period_ms());
    let job = sim.ledger.vms.get(&host.vm).map_or("", |account| account.job);
    let twin_ms = memory.worker.borrow().as_ref().map(Worker::tick_period_ms);
    if !matches!(job, "request" | "response") && twin_ms.is_some_and(|twin_ms| twin_ms != module_ms) {
        sim.violated(format!("vm {} ticks every {module_ms} ms, and should every {twin_ms:?}", host.vm));
    }
}

/// A reply as the module received it.
struct OwnedReply {
    headers: HeaderBlock,
    body: Vec<u8>,
}

impl Reply for OwnedReply {
    fn headers(&self) -> HeaderBlock {
        self.headers.clone()
    }

    fn body_len(&self) -> usize {
        self.body.len()
    }

    fn body(&self, max: usize) -> Vec<u8> {
        self.body[..self.body.len().min(max)].to_vec()
    }
}
