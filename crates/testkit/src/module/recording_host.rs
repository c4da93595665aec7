//! A host for one VM of the built module. It records every host call, and nothing happens in it by itself.

use edgesplit_filter::host::{Call, DispatchError, Headers, Host, HostError, MetricKind, SetError, Shared, StreamHost};
use edgesplit_filter::http::headers::{HeaderBlock, HeaderMap};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

/// Records the host calls of one VM.
#[derive(Default)]
pub struct RecordingHost {
    pub request: HeaderBlock,
    pub response: HeaderBlock,
    /// The purposes of all host calls, in order.
    pub asked: RefCell<Vec<&'static str>>,
    /// The headers that were written.
    pub written: RefCell<Vec<String>>,
    /// The HTTP calls: cluster and body.
    pub calls: RefCell<Vec<String>>,
    pub log: RefCell<Vec<String>>,
    /// The time.
    pub clock_ms: Cell<i64>,
    /// The number of HTTP calls that `take_calls` has returned.
    pub taken: Cell<u32>,
    pub shared: RefCell<BTreeMap<String, (Vec<u8>, u32)>>,
    /// The names of metrics; a metric's id is its index.
    pub metrics: RefCell<Vec<String>>,
    /// The values of metrics, by name.
    pub counted: RefCell<BTreeMap<String, u64>>,
}

impl RecordingHost {
    /// Takes the HTTP calls away that were made since the last time, and gives their tokens.
    pub fn take_calls(&self) -> std::ops::RangeInclusive<u32> {
        let first = self.taken.get() + 1;
        self.taken.set(self.taken.get() + self.calls.take().len() as u32);
        first..=self.taken.get()
    }

    fn metric(&self, id: u32) -> String {
        self.metrics.borrow().get(id as usize).cloned().unwrap_or_default()
    }

    fn asked(&self, what: &'static str) {
        self.asked.borrow_mut().push(what);
    }
}

impl Host for RecordingHost {
    fn now_ms(&self) -> i64 {
        self.asked("clock");
        1_795_392_000_000 + self.clock_ms.get()
    }
    fn random(&self) -> u128 {
        self.asked("random");
        4
    }
    fn log(&self, _level: log::Level, message: &str) {
        self.asked("log");
        self.log.borrow_mut().push(message.to_owned());
    }
    fn shared_get(&self, key: &str) -> Result<Shared, HostError> {
        self.asked("read shared data");
        let absent = Shared { value: Vec::new(), cas: Shared::ABSENT };
        Ok(self.shared.borrow().get(key).map_or(absent, |(value, cas)| Shared { value: value.clone(), cas: *cas }))
    }
    fn shared_set(&self, key: &str, value: &[u8], cas: u32) -> Result<(), SetError> {
        self.asked("write shared data");
        let mut shared = self.shared.borrow_mut();
        let next = shared.len() as u32 + shared.values().map(|(_, cas)| *cas).max().unwrap_or(0) + 1;
        match shared.get(key) {
            Some((_, now)) if cas != Shared::OVERWRITE && *now != cas => return Err(SetError::Stale),
            _ => shared.insert(key.to_owned(), (value.to_vec(), next)),
        };
        Ok(())
    }
    fn dispatch(&self, call: &Call<'_>) -> Result<u32, DispatchError> {
        self.asked("HTTP call");
        let mut calls = self.calls.borrow_mut();
        calls.push(format!("{} {}", call.cluster, String::from_utf8_lossy(call.body)));
        Ok(self.taken.get() + calls.len() as u32)
    }
    fn define_metric(&self, _kind: MetricKind, name: &str) -> Option<u32> {
        self.asked("define metric");
        let mut metrics = self.metrics.borrow_mut();
        metrics.push(name.to_owned());
        Some(metrics.len() as u32 - 1)
    }
    fn increment(&self, metric: u32, by: i64) {
        self.asked("count");
        *self.counted.borrow_mut().entry(self.metric(metric)).or_default() += by as u64;
    }
    fn record(&self, metric: u32, value: u64) {
        self.asked("record");
        self.counted.borrow_mut().insert(self.metric(metric), value);
    }
}

impl StreamHost for RecordingHost {
    fn headers<'a>(&'a self, which: Headers, _block: &'a mut HeaderBlock) -> HeaderMap<'a> {
        self.asked("read headers");
        match which {
            Headers::Request => self.request.map(),
            Headers::Response => self.response.map(),
        }
    }
    fn response_status(&self) -> Option<u16> {
        self.asked("read header");
        edgesplit_filter::host::status(&self.response.map())
    }
    fn set_header(&self, _which: Headers, name: &str, value: &[u8]) {
        self.asked("replace header");
        self.written.borrow_mut().push(format!("{name}={}", String::from_utf8_lossy(value)));
    }
    fn add_header(&self, _which: Headers, name: &str, value: &[u8]) {
        self.asked("add header");
        self.written.borrow_mut().push(format!("{name}: {}", String::from_utf8_lossy(value)));
    }
    fn remove_header(&self, _which: Headers, name: &str) {
        self.asked("remove header");
        self.written.borrow_mut().push(format!("-{name}"));
    }
    fn respond(&self, status: u32, headers: &[(&str, &str)]) -> bool {
        self.asked("respond");
        let headers = headers.iter().map(|(name, value)| format!("{name}: {value}"));
        self.written.borrow_mut().extend(std::iter::once(status.to_string()).chain(headers));
        true
    }
}
