//! The built module in the place of the native worker: the same scenarios, the same host, crashes as traps.
//!
//! What a callback of the module asks its host and what it hears is put on a tape. Then a native worker, the VM's twin, does
//! the same callback with the tape as its host: it has to ask the same in the same order, and hears the same. So the module
//! makes the same host calls as the source, and all checks that look into a worker's memory look into the twin's.
//!
//! Two differences are none. Counters by experiment stand in a hash map, so metrics that are handed over in one go come in
//! any order. And the module's hash maps draw their seed from where ids come from too, when the VM starts: bits drawn before
//! the module is configured are nobody's, see `ledger.randoms`.

use crate::host::{SimHost, SimReply};
use crate::scenario::PLUGIN;
use crate::vm::{Job, Memory, check_request, check_response, repeats_left_out};
use edgesplit_filter::host::{
    Call, DispatchError, Headers, Host, HostError, MetricKind, Reply, SetError, Shared, StreamHost,
};
use edgesplit_filter::http::headers::HeaderMap;
use edgesplit_filter::request::{Flow, handle_request};
use edgesplit_filter::response::handle_response;
use edgesplit_filter::worker::Worker;
use edgesplit_testkit::module::{Compiled, Death, ModuleVm, taken_apart};
use std::cell::RefCell;
use std::collections::VecDeque;
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
    // A tick, a reply, the end: nothing to see but what it asks.
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
            let reply = Told { headers: headers.clone(), body: body.clone() };
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

/// What a callback gave. A crash at a host call goes on as one; any other trap is the module's own.
fn alive<T>(done: Result<T, Death>) -> T {
    match done {
        Ok(done) => done,
        Err(Death::Host(payload)) => resume_unwind(payload),
        Err(Death::Trap(message)) => panic!("{message}"),
    }
}

/// Checks what the module has of its host: memory, and its ticks.
fn look_after(host: &SimHost<'_>, module: &ModuleVm, memory: &Memory) {
    let mut sim = host.sim.borrow_mut();
    let bytes = module.memory_bytes();
    sim.memory_bytes = sim.memory_bytes.max(bytes);
    if bytes > MEMORY_BYTES_MAX {
        sim.violated(format!("vm {} has a memory of {bytes} bytes", host.vm));
    }
    let asked_ms = u64::from(module.tick_period_ms());
    let job = sim.ledger.vms.get(&host.vm).map_or("", |account| account.job);
    let twin_ms = memory.worker.borrow().as_ref().map(Worker::tick_period_ms);
    if !matches!(job, "request" | "response") && twin_ms.is_some_and(|twin_ms| twin_ms != asked_ms) {
        sim.violated(format!("vm {} ticks every {asked_ms} ms, and should every {twin_ms:?}", host.vm));
    }
}

/// What is asked of a host.
#[derive(Debug, PartialEq)]
enum Ask {
    Now,
    Random,
    Log(log::Level, String),
    Get(String),
    Set(String, Vec<u8>, u32),
    Dispatch(String, Vec<(String, String)>, Vec<u8>, u64),
    Define(bool, String),
    Increment(u32, i64),
    Record(u32, u64),
    Headers(Headers),
    Status,
    SetHeader(Headers, String, Vec<u8>),
    AddHeader(Headers, String, Vec<u8>),
    RemoveHeader(Headers, String),
    Respond(u32),
}

impl Ask {
    fn is_metric(&self) -> bool {
        matches!(self, Ask::Define(..) | Ask::Increment(..) | Ask::Record(..))
    }

    fn call(call: &Call<'_>) -> Ask {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let headers = call.headers.iter().map(owned).collect();
        Ask::Dispatch(call.cluster.to_owned(), headers, call.body.to_vec(), call.timeout_ms)
    }

    fn define(kind: MetricKind, name: &str) -> Ask {
        Ask::Define(kind == MetricKind::Counter, name.to_owned())
    }
}

/// What it answered.
#[derive(Debug)]
enum Heard {
    Nothing,
    Now(i64),
    Random(u128),
    Shared(Result<Shared, HostError>),
    Set(Result<(), SetError>),
    Token(Result<u32, DispatchError>),
    Metric(Option<u32>),
    Headers(HeaderMap),
    Status(Option<u16>),
    Flag(bool),
}

/// Puts on tape what the module asks.
struct Recorder<'a, 'h> {
    host: &'a SimHost<'h>,
    tape: RefCell<VecDeque<(Ask, Heard)>>,
}

impl<'a, 'h> Recorder<'a, 'h> {
    fn new(host: &'a SimHost<'h>) -> Recorder<'a, 'h> {
        Recorder { host, tape: RefCell::default() }
    }

    fn put(&self, ask: Ask, heard: Heard) {
        self.tape.borrow_mut().push_back((ask, heard));
    }

    fn end(self) -> Tape {
        Tape(self.tape)
    }
}

impl Host for Recorder<'_, '_> {
    fn now_ms(&self) -> i64 {
        let now_ms = self.host.now_ms();
        self.put(Ask::Now, Heard::Now(now_ms));
        now_ms
    }

    fn random(&self) -> u128 {
        let random = self.host.random();
        self.put(Ask::Random, Heard::Random(random));
        random
    }

    fn log(&self, level: log::Level, message: &str) {
        self.host.log(level, message);
        // The module names itself.
        let message = message.strip_prefix("edgesplit: ").unwrap_or(message);
        self.put(Ask::Log(level, message.to_owned()), Heard::Nothing);
    }

    fn shared_get(&self, key: &str) -> Result<Shared, HostError> {
        let shared = self.host.shared_get(key);
        self.put(Ask::Get(key.to_owned()), Heard::Shared(shared.clone()));
        shared
    }

    fn shared_set(&self, key: &str, value: &[u8], cas: u32) -> Result<(), SetError> {
        let done = self.host.shared_set(key, value, cas);
        self.put(Ask::Set(key.to_owned(), value.to_vec(), cas), Heard::Set(done));
        done
    }

    fn dispatch(&self, call: &Call<'_>) -> Result<u32, DispatchError> {
        let token = self.host.dispatch(call);
        self.put(Ask::call(call), Heard::Token(token));
        token
    }

    fn define_metric(&self, kind: MetricKind, name: &str) -> Option<u32> {
        let metric = self.host.define_metric(kind, name);
        self.put(Ask::define(kind, name), Heard::Metric(metric));
        metric
    }

    fn increment(&self, metric: u32, by: i64) {
        self.host.increment(metric, by);
        self.put(Ask::Increment(metric, by), Heard::Nothing);
    }

    fn record(&self, metric: u32, value: u64) {
        self.host.record(metric, value);
        self.put(Ask::Record(metric, value), Heard::Nothing);
    }
}

impl StreamHost for Recorder<'_, '_> {
    fn headers(&self, which: Headers) -> HeaderMap {
        let headers = self.host.headers(which);
        self.put(Ask::Headers(which), Heard::Headers(headers.clone()));
        headers
    }

    fn response_status(&self) -> Option<u16> {
        let status = self.host.response_status();
        self.put(Ask::Status, Heard::Status(status));
        status
    }

    fn set_header(&self, which: Headers, name: &str, value: &[u8]) {
        self.host.set_header(which, name, value);
        self.put(Ask::SetHeader(which, name.to_owned(), value.to_vec()), Heard::Nothing);
    }

    fn add_header(&self, which: Headers, name: &str, value: &[u8]) {
        self.host.add_header(which, name, value);
        self.put(Ask::AddHeader(which, name.to_owned(), value.to_vec()), Heard::Nothing);
    }

    fn remove_header(&self, which: Headers, name: &str) {
        self.host.remove_header(which, name);
        self.put(Ask::RemoveHeader(which, name.to_owned()), Heard::Nothing);
    }

    fn respond(&self, status: u32, headers: &[(&str, &str)]) -> bool {
        let done = self.host.respond(status, headers);
        self.put(Ask::Respond(status), Heard::Flag(done));
        done
    }
}

/// The likely reason of a difference.
const STALE: &str = "is dist/edgesplit.wasm of this source? `make build` makes it";

/// The beginning of what is shown.
fn cut(what: &impl std::fmt::Debug) -> String {
    format!("{what:?}").chars().take(200).collect()
}

/// A host that repeats the answers of another one to the same calls.
struct Tape(RefCell<VecDeque<(Ask, Heard)>>);

impl Tape {
    fn hear(&self, ask: &Ask) -> Heard {
        let mut tape = self.0.borrow_mut();
        let at = if ask.is_metric() {
            tape.iter().take_while(|(asked, _)| asked.is_metric()).position(|(asked, _)| asked == ask)
        } else {
            tape.front().filter(|(asked, _)| asked == ask).map(|_| 0)
        };
        match at.and_then(|at| tape.remove(at)) {
            Some((_, heard)) => heard,
            None => {
                let asked = tape.front().map(|(asked, _)| asked);
                panic!("the source would ask {}, the module asked {} ({STALE})", cut(ask), cut(&asked));
            }
        }
    }

    /// Nothing is left of it.
    fn end(&self, what: &str) {
        let tape = self.0.borrow();
        let more = tape.front();
        assert!(more.is_none(), "{what}: the module asked {}, the source would not ({STALE})", cut(&more));
    }
}

/// A tape answers a question with what it was answered with.
macro_rules! heard {
    ($tape:expr, $kind:ident, $ask:expr) => {{
        let ask = $ask;
        match $tape.hear(&ask) {
            Heard::$kind(heard) => heard,
            other => panic!("{ask:?} was answered with {other:?}"),
        }
    }};
}

impl Host for Tape {
    fn now_ms(&self) -> i64 {
        heard!(self, Now, Ask::Now)
    }

    fn random(&self) -> u128 {
        heard!(self, Random, Ask::Random)
    }

    fn log(&self, level: log::Level, message: &str) {
        self.hear(&Ask::Log(level, message.to_owned()));
    }

    fn shared_get(&self, key: &str) -> Result<Shared, HostError> {
        heard!(self, Shared, Ask::Get(key.to_owned()))
    }

    fn shared_set(&self, key: &str, value: &[u8], cas: u32) -> Result<(), SetError> {
        heard!(self, Set, Ask::Set(key.to_owned(), value.to_vec(), cas))
    }

    fn dispatch(&self, call: &Call<'_>) -> Result<u32, DispatchError> {
        heard!(self, Token, Ask::call(call))
    }

    fn define_metric(&self, kind: MetricKind, name: &str) -> Option<u32> {
        heard!(self, Metric, Ask::define(kind, name))
    }

    fn increment(&self, metric: u32, by: i64) {
        self.hear(&Ask::Increment(metric, by));
    }

    fn record(&self, metric: u32, value: u64) {
        self.hear(&Ask::Record(metric, value));
    }
}

impl StreamHost for Tape {
    fn headers(&self, which: Headers) -> HeaderMap {
        heard!(self, Headers, Ask::Headers(which))
    }

    fn response_status(&self) -> Option<u16> {
        heard!(self, Status, Ask::Status)
    }

    fn set_header(&self, which: Headers, name: &str, value: &[u8]) {
        self.hear(&Ask::SetHeader(which, name.to_owned(), value.to_vec()));
    }

    fn add_header(&self, which: Headers, name: &str, value: &[u8]) {
        self.hear(&Ask::AddHeader(which, name.to_owned(), value.to_vec()));
    }

    fn remove_header(&self, which: Headers, name: &str) {
        self.hear(&Ask::RemoveHeader(which, name.to_owned()));
    }

    fn respond(&self, status: u32, _headers: &[(&str, &str)]) -> bool {
        heard!(self, Flag, Ask::Respond(status))
    }
}

/// A reply as the module received it.
struct Told {
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Reply for Told {
    fn headers(&self) -> HeaderMap {
        self.headers.clone()
    }

    fn body_len(&self) -> usize {
        self.body.len()
    }

    fn body(&self, max: usize) -> Vec<u8> {
        self.body[..self.body.len().min(max)].to_vec()
    }
}
