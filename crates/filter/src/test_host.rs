//! A host for unit tests: shared data, a clock that tests set, and records of calls, counters and the log.

use crate::host::{Call, DispatchError, Host, HostError, MetricKind, Reply, SetError, Shared};
use crate::http::headers::HeaderBlock;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;

/// A host in memory.
#[derive(Default)]
pub(crate) struct TestHost {
    pub(crate) now_ms: Cell<i64>,
    pub(crate) shared: RefCell<HashMap<String, (Vec<u8>, u32)>>,
    /// How many of the next writes find that another VM has just written these bytes.
    pub(crate) stale: RefCell<(u32, Vec<u8>)>,
    /// Whether shared data fails.
    pub(crate) fails: Cell<bool>,
    /// The headers of calls. Tokens count from 0.
    pub(crate) calls: RefCell<Vec<Vec<(String, String)>>>,
    pub(crate) log: RefCell<Vec<String>>,
    pub(crate) names: RefCell<Vec<String>>,
    /// Counters that counted, by the end of their names.
    pub(crate) counts: RefCell<HashMap<String, i64>>,
}

impl TestHost {
    pub(crate) fn value(&self, key: &str) -> Vec<u8> {
        self.shared.borrow().get(key).map(|(value, _)| value.clone()).unwrap_or_default()
    }

    pub(crate) fn put(&self, key: &str, value: &[u8]) {
        let cas = self.shared.borrow().get(key).map_or(0, |(_, cas)| *cas) + 1;
        self.shared.borrow_mut().insert(key.to_owned(), (value.to_vec(), cas));
    }

    pub(crate) fn count(&self, name: &str) -> i64 {
        self.counts.borrow().get(name).copied().unwrap_or(0)
    }

    /// The value of a header of the last call.
    pub(crate) fn last_call(&self, name: &str) -> Option<String> {
        let calls = self.calls.borrow();
        calls.last()?.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
    }
}

impl Host for TestHost {
    fn now_ms(&self) -> i64 {
        self.now_ms.get()
    }

    fn random(&self) -> u128 {
        7
    }

    fn log(&self, _level: log::Level, message: &str) {
        self.log.borrow_mut().push(message.to_owned());
    }

    fn shared_get(&self, key: &str) -> Result<Shared, HostError> {
        let absent = (Vec::new(), Shared::ABSENT);
        let (value, cas) = self.shared.borrow().get(key).cloned().unwrap_or(absent);
        if self.fails.get() { Err(HostError) } else { Ok(Shared { value, cas }) }
    }

    fn shared_set(&self, key: &str, value: &[u8], cas: u32) -> Result<(), SetError> {
        let (stale, newer) = self.stale.borrow().clone();
        if stale > 0 {
            self.stale.borrow_mut().0 -= 1;
            self.put(key, &newer);
        }
        if self.shared.borrow().get(key).is_some_and(|(_, now)| cas != Shared::OVERWRITE && *now != cas) {
            return Err(SetError::Stale);
        }
        self.put(key, value);
        Ok(())
    }

    fn dispatch(&self, call: &Call<'_>) -> Result<u32, DispatchError> {
        let headers = call.headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        self.calls.borrow_mut().push(headers.collect());
        Ok(self.calls.borrow().len() as u32 - 1)
    }

    fn define_metric(&self, _kind: MetricKind, name: &str) -> Option<u32> {
        let name = name.strip_prefix("edgesplit.test.").unwrap_or(name);
        self.names.borrow_mut().push(name.to_owned());
        Some(self.names.borrow().len() as u32 - 1)
    }

    fn increment(&self, metric: u32, by: i64) {
        *self.counts.borrow_mut().entry(self.names.borrow()[metric as usize].clone()).or_default() += by;
    }

    fn record(&self, _metric: u32, _value: u64) {}
}

/// A reply in memory.
pub(crate) struct TestReply {
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
}

impl Reply for TestReply {
    fn headers(&self) -> HeaderBlock {
        HeaderBlock::from_pairs(&self.headers)
    }

    fn body_len(&self) -> usize {
        self.body.len()
    }

    fn body(&self, max: usize) -> Vec<u8> {
        self.body.iter().copied().take(max).collect()
    }
}
