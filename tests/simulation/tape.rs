//! A record of the host calls of one callback, with their answers. A tape is a host: it repeats the answers, and panics at
//! any other call.

use crate::host::SimHost;
use edgesplit_filter::host::{Call, DispatchError, Headers, Host, HostError, MetricKind, SetError, Shared, StreamHost};
use edgesplit_filter::http::headers::{HeaderBlock, HeaderMap};
use std::cell::RefCell;
use std::collections::VecDeque;

/// A host call with its arguments.
#[derive(Debug, PartialEq)]
enum HostCall {
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

impl HostCall {
    fn is_metric(&self) -> bool {
        matches!(self, HostCall::Define(..) | HostCall::Increment(..) | HostCall::Record(..))
    }

    fn dispatch(call: &Call<'_>) -> HostCall {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let headers = call.headers.iter().map(owned).collect();
        HostCall::Dispatch(call.cluster.to_owned(), headers, call.body.to_vec(), call.timeout_ms)
    }

    fn define(kind: MetricKind, name: &str) -> HostCall {
        HostCall::Define(kind == MetricKind::Counter, name.to_owned())
    }
}

/// The host's answer to a call.
#[derive(Debug)]
enum Answer {
    Nothing,
    Now(i64),
    Random(u128),
    Shared(Result<Shared, HostError>),
    Set(Result<(), SetError>),
    Token(Result<u32, DispatchError>),
    Metric(Option<u32>),
    Headers(HeaderBlock),
    Status(Option<u16>),
    Flag(bool),
}

/// Records the module's host calls on a tape.
pub struct Recorder<'a, 'h> {
    host: &'a SimHost<'h>,
    tape: RefCell<VecDeque<(HostCall, Answer)>>,
}

impl<'a, 'h> Recorder<'a, 'h> {
    pub fn new(host: &'a SimHost<'h>) -> Recorder<'a, 'h> {
        Recorder { host, tape: RefCell::default() }
    }

    fn record_call(&self, call: HostCall, answer: Answer) {
        self.tape.borrow_mut().push_back((call, answer));
    }

    pub fn end(self) -> Tape {
        Tape(self.tape)
    }
}

impl Host for Recorder<'_, '_> {
    fn now_ms(&self) -> i64 {
        let now_ms = self.host.now_ms();
        self.record_call(HostCall::Now, Answer::Now(now_ms));
        now_ms
    }

    fn random(&self) -> u128 {
        let random = self.host.random();
        self.record_call(HostCall::Random, Answer::Random(random));
        random
    }

    fn log(&self, level: log::Level, message: &str) {
        self.host.log(level, message);
        // The module names itself.
        let message = message.strip_prefix("edgesplit: ").unwrap_or(message);
        self.record_call(HostCall::Log(level, message.to_owned()), Answer::Nothing);
    }

    fn shared_get(&self, key: &str) -> Result<Shared, HostError> {
        let shared = self.host.shared_get(key);
        self.record_call(HostCall::Get(key.to_owned()), Answer::Shared(shared.clone()));
        shared
    }

    fn shared_set(&self, key: &str, value: &[u8], cas: u32) -> Result<(), SetError> {
        let done = self.host.shared_set(key, value, cas);
        self.record_call(HostCall::Set(key.to_owned(), value.to_vec(), cas), Answer::Set(done));
        done
    }

    fn dispatch(&self, call: &Call<'_>) -> Result<u32, DispatchError> {
        let token = self.host.dispatch(call);
        self.record_call(HostCall::dispatch(call), Answer::Token(token));
        token
    }

    fn define_metric(&self, kind: MetricKind, name: &str) -> Option<u32> {
        let metric = self.host.define_metric(kind, name);
        self.record_call(HostCall::define(kind, name), Answer::Metric(metric));
        metric
    }

    fn increment(&self, metric: u32, by: i64) {
        self.host.increment(metric, by);
        self.record_call(HostCall::Increment(metric, by), Answer::Nothing);
    }

    fn record(&self, metric: u32, value: u64) {
        self.host.record(metric, value);
        self.record_call(HostCall::Record(metric, value), Answer::Nothing);
    }
}

impl StreamHost for Recorder<'_, '_> {
    fn headers<'a>(&'a self, which: Headers, block: &'a mut HeaderBlock) -> HeaderMap<'a> {
        let headers = self.host.headers(which, block);
        let copy = HeaderBlock::from_pairs(&headers.iter().collect::<Vec<_>>());
        self.record_call(HostCall::Headers(which), Answer::Headers(copy));
        headers
    }

    fn response_status(&self) -> Option<u16> {
        let status = self.host.response_status();
        self.record_call(HostCall::Status, Answer::Status(status));
        status
    }

    fn set_header(&self, which: Headers, name: &str, value: &[u8]) {
        self.host.set_header(which, name, value);
        self.record_call(HostCall::SetHeader(which, name.to_owned(), value.to_vec()), Answer::Nothing);
    }

    fn add_header(&self, which: Headers, name: &str, value: &[u8]) {
        self.host.add_header(which, name, value);
        self.record_call(HostCall::AddHeader(which, name.to_owned(), value.to_vec()), Answer::Nothing);
    }

    fn remove_header(&self, which: Headers, name: &str) {
        self.host.remove_header(which, name);
        self.record_call(HostCall::RemoveHeader(which, name.to_owned()), Answer::Nothing);
    }

    fn respond(&self, status: u32, headers: &[(&str, &str)]) -> bool {
        let done = self.host.respond(status, headers);
        self.record_call(HostCall::Respond(status), Answer::Flag(done));
        done
    }
}

/// The likely cause of a difference.
const STALE: &str = "is dist/edgesplit.wasm of this source? `make build` makes it";

/// The beginning of a value's text.
fn cut(value: &impl std::fmt::Debug) -> String {
    format!("{value:?}").chars().take(200).collect()
}

/// A host that repeats the answers of another one to the same calls.
pub struct Tape(RefCell<VecDeque<(HostCall, Answer)>>);

impl Tape {
    fn replay(&self, call: &HostCall) -> Answer {
        let mut tape = self.0.borrow_mut();
        let at = if call.is_metric() {
            tape.iter().take_while(|(recorded, _)| recorded.is_metric()).position(|(recorded, _)| recorded == call)
        } else {
            tape.front().filter(|(recorded, _)| recorded == call).map(|_| 0)
        };
        match at.and_then(|at| tape.remove(at)) {
            Some((_, answer)) => answer,
            None => {
                let recorded = tape.front().map(|(recorded, _)| recorded);
                panic!("the source would call {}, the module called {} ({STALE})", cut(call), cut(&recorded));
            }
        }
    }

    /// Panics if recorded calls are left.
    pub fn end(&self, callback: &str) {
        let tape = self.0.borrow();
        let more = tape.front();
        assert!(more.is_none(), "{callback}: the module called {}, the source would not ({STALE})", cut(&more));
    }
}

/// The recorded answer to a call, which must be of this kind.
macro_rules! answered {
    ($tape:expr, $kind:ident, $call:expr) => {{
        let call = $call;
        match $tape.replay(&call) {
            Answer::$kind(answer) => answer,
            other => panic!("{call:?} was answered with {other:?}"),
        }
    }};
}

impl Host for Tape {
    fn now_ms(&self) -> i64 {
        answered!(self, Now, HostCall::Now)
    }

    fn random(&self) -> u128 {
        answered!(self, Random, HostCall::Random)
    }

    fn log(&self, level: log::Level, message: &str) {
        self.replay(&HostCall::Log(level, message.to_owned()));
    }

    fn shared_get(&self, key: &str) -> Result<Shared, HostError> {
        answered!(self, Shared, HostCall::Get(key.to_owned()))
    }

    fn shared_set(&self, key: &str, value: &[u8], cas: u32) -> Result<(), SetError> {
        answered!(self, Set, HostCall::Set(key.to_owned(), value.to_vec(), cas))
    }

    fn dispatch(&self, call: &Call<'_>) -> Result<u32, DispatchError> {
        answered!(self, Token, HostCall::dispatch(call))
    }

    fn define_metric(&self, kind: MetricKind, name: &str) -> Option<u32> {
        answered!(self, Metric, HostCall::define(kind, name))
    }

    fn increment(&self, metric: u32, by: i64) {
        self.replay(&HostCall::Increment(metric, by));
    }

    fn record(&self, metric: u32, value: u64) {
        self.replay(&HostCall::Record(metric, value));
    }
}

impl StreamHost for Tape {
    fn headers<'a>(&'a self, which: Headers, block: &'a mut HeaderBlock) -> HeaderMap<'a> {
        *block = answered!(self, Headers, HostCall::Headers(which));
        block.map()
    }

    fn response_status(&self) -> Option<u16> {
        answered!(self, Status, HostCall::Status)
    }

    fn set_header(&self, which: Headers, name: &str, value: &[u8]) {
        self.replay(&HostCall::SetHeader(which, name.to_owned(), value.to_vec()));
    }

    fn add_header(&self, which: Headers, name: &str, value: &[u8]) {
        self.replay(&HostCall::AddHeader(which, name.to_owned(), value.to_vec()));
    }

    fn remove_header(&self, which: Headers, name: &str) {
        self.replay(&HostCall::RemoveHeader(which, name.to_owned()));
    }

    fn respond(&self, status: u32, _headers: &[(&str, &str)]) -> bool {
        answered!(self, Flag, HostCall::Respond(status))
    }
}
