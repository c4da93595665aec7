//! The simulated proxy as a VM sees it: shared data by its rules, metrics of the process, calls. At every call the VM may
//! lose its thread to another one, or die.

use crate::fault_injection;
use crate::mutants::Mutant;
use crate::network::Answer;
use crate::sim::{Fate, Sim};
use corosensei::Yielder;
use edgesplit_filter::host::{
    Call, DispatchError, Headers, Host, HostError, MetricKind, Reply, SetError, Shared, StreamHost,
};
use edgesplit_filter::http::headers::{HeaderBlock, HeaderMap};
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

/// What VMs of one process share.
#[derive(Debug, Default)]
pub struct Process {
    /// Values with the number of their last change.
    pub shared: BTreeMap<String, (Vec<u8>, u32)>,
    last_cas: u32,
    names: HashMap<String, usize>,
    labels: Vec<Rc<str>>,
    values: Vec<i64>,
    /// Every definition gives a new id.
    ids: Vec<usize>,
}

impl Process {
    /// As Envoy does it: no number asks for an overwrite, a key that is not there is always inserted.
    fn set(&mut self, key: &str, value: &[u8], cas: u32) -> Result<(), SetError> {
        match self.shared.get(key) {
            Some((_, now)) if cas != 0 && cas != *now => return Err(SetError::Stale),
            _ => {}
        }
        self.last_cas += 1;
        self.shared.insert(key.to_owned(), (value.to_vec(), self.last_cas));
        Ok(())
    }

    /// The bytes under `key`.
    pub fn get(&self, key: &str) -> &[u8] {
        self.shared.get(key).map_or(&[], |(value, _)| value)
    }

    fn define(&mut self, name: &str) -> u32 {
        let next = self.values.len();
        let at = *self.names.entry(name.to_owned()).or_insert(next);
        if at == next {
            self.values.push(0);
            self.labels.push(name.into());
        }
        self.ids.push(at);
        self.ids.len() as u32 - 1
    }

    /// The value of a metric by what stands behind `edgesplit.<plugin>.`.
    pub fn metric(&self, name: &str) -> i64 {
        self.names.get(&format!("edgesplit.{}.{name}", crate::scenario::PLUGIN)).map_or(0, |&at| self.values[at])
    }
}

/// How a VM goes on that lost its thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Go {
    /// As if nothing had been.
    On,
    /// Not at all.
    Die,
}

/// A VM's death, as what is thrown.
#[derive(Debug)]
pub struct Crash;

/// The host of one callback.
pub struct SimHost<'a> {
    /// The run.
    pub sim: &'a Rc<RefCell<Sim>>,
    /// Gives the thread away.
    pub yielder: &'a Yielder<Go, ()>,
    /// The VM.
    pub vm: u64,
    /// The headers of the request or response that this callback is about.
    pub headers: Vec<(&'static str, String)>,
    /// What was added to them or replaced.
    pub written: RefCell<Vec<(String, String)>>,
}

impl SimHost<'_> {
    /// The moment before a host call.
    fn point(&self) {
        let fate = self.sim.borrow_mut().host_call(self.vm);
        match fate {
            Fate::GoOn => {}
            Fate::Pause => {
                let since_us = self.sim.borrow().now_us;
                if self.yielder.suspend(()) == Go::Die {
                    die();
                }
                let mut sim = self.sim.borrow_mut();
                let now_us = sim.now_us;
                if let Some(account) = sim.ledger.vms.get_mut(&self.vm) {
                    account.paused_us += now_us - since_us;
                }
            }
            Fate::Crash => die(),
        }
    }

    fn mutant(&self) -> Option<Mutant> {
        self.sim.borrow().mutant
    }
}

/// Unwinds without the noise of a panic.
fn die() -> ! {
    std::panic::resume_unwind(Box::new(Crash))
}

impl Host for SimHost<'_> {
    fn now_ms(&self) -> i64 {
        self.point();
        let mut sim = self.sim.borrow_mut();
        let now_ms = sim.wall_ms();
        if let Some(account) = sim.ledger.vms.get_mut(&self.vm) {
            account.now_ms = now_ms;
        }
        now_ms
    }

    fn random(&self) -> u128 {
        self.point();
        let mut sim = self.sim.borrow_mut();
        let mut random = u128::from(sim.rng.bits()) << 64 | u128::from(sim.rng.bits());
        if sim.mutant == Some(Mutant::ReusesIds) && sim.ledger.vms[&self.vm].job == "tick" {
            random &= 7;
        }
        if let Some(account) = sim.ledger.vms.get_mut(&self.vm) {
            if account.job == "configure" && account.randoms.is_empty() {
                account.code = random as u64;
            }
            account.randoms.push(random);
        }
        random
    }

    fn log(&self, level: log::Level, message: &str) {
        self.point();
        let mut sim = self.sim.borrow_mut();
        sim.note("log", self.vm, || format!("{level} {message}"));
    }

    fn shared_get(&self, key: &str) -> Result<Shared, HostError> {
        self.point();
        let mut sim = self.sim.borrow_mut();
        let mut shared = match sim.process.shared.get(key) {
            Some((value, cas)) => Shared { value: value.clone(), cas: *cas },
            None => Shared { value: Vec::new(), cas: Shared::ABSENT },
        };
        sim.note("get", self.vm, || format!("{key}: {} bytes, cas {}", shared.value.len(), shared.cas));
        if let Some(mutant) = sim.mutant {
            let code = sim.ledger.vms[&self.vm].code;
            fault_injection::read(mutant, key, code, &mut shared.value);
        }
        Ok(shared)
    }

    fn shared_set(&self, key: &str, value: &[u8], cas: u32) -> Result<(), SetError> {
        self.point();
        let mut sim = self.sim.borrow_mut();
        let sim = &mut *sim;
        let mut value = value.to_vec();
        let mut cas = cas;
        if let Some(mutant) = sim.mutant {
            let old = sim.process.get(key).to_vec();
            if fault_injection::write(mutant, key, &old, &mut value, &mut sim.rng) == fault_injection::Write::Skip {
                return Ok(());
            }
            if mutant == Mutant::IgnoresStale {
                cas = 0;
            }
        }
        let old = sim.process.get(key).to_vec();
        let done = sim.process.set(key, &value, cas);
        sim.note("set", self.vm, || format!("{key}: {} bytes, cas {cas}: {done:?}", value.len()));
        match done {
            Ok(()) => {
                let result = sim.ledger.written(&sim.scenario, &sim.process, self.vm, key, &old, sim.now_us);
                sim.check(result);
                Ok(())
            }
            Err(error) => {
                if let Some(account) = sim.ledger.vms.get_mut(&self.vm) {
                    account.stale_in_job += 1;
                }
                if sim.mutant == Some(Mutant::StaleIsDone) { Ok(()) } else { Err(error) }
            }
        }
    }

    fn dispatch(&self, call: &Call<'_>) -> Result<u32, DispatchError> {
        self.point();
        self.sim.borrow_mut().dispatch(self.vm, call).ok_or(DispatchError::NoCluster)
    }

    fn define_metric(&self, _kind: MetricKind, name: &str) -> Option<u32> {
        self.point();
        Some(self.sim.borrow_mut().process.define(name))
    }

    fn increment(&self, metric: u32, by: i64) {
        self.point();
        let mut sim = self.sim.borrow_mut();
        let sim = &mut *sim;
        let at = sim.process.ids[metric as usize];
        let name = Rc::clone(&sim.process.labels[at]);
        let mut by = by;
        match sim.mutant {
            Some(Mutant::CountsTwice) if name.ends_with(".events.delivered") => by *= 2,
            Some(Mutant::LosesCounts) if name.ends_with(".events.emitted") && sim.rng.chance(20_000) => by = 0,
            _ => {}
        }
        if by <= 0 && sim.mutant.is_none() {
            sim.violated(format!("{name} was incremented by {by}"));
        }
        sim.process.values[at] += by;
        sim.ledger.incremented(self.vm, &name, by);
        let result = sim.ledger.counters_are_possible(&sim.process);
        sim.check(result);
    }

    fn record(&self, metric: u32, value: u64) {
        self.point();
        let mut sim = self.sim.borrow_mut();
        let at = sim.process.ids[metric as usize];
        sim.process.values[at] = value as i64;
    }
}

impl StreamHost for SimHost<'_> {
    fn headers<'a>(&'a self, _which: Headers, block: &'a mut HeaderBlock) -> HeaderMap<'a> {
        self.point();
        *block = HeaderBlock::from_pairs(&self.headers);
        block.map()
    }

    fn response_status(&self) -> Option<u16> {
        edgesplit_filter::host::status(&self.headers(Headers::Response, &mut HeaderBlock::default()))
    }

    fn set_header(&self, which: Headers, name: &str, value: &[u8]) {
        self.add_header(which, name, value);
    }

    fn add_header(&self, _which: Headers, name: &str, value: &[u8]) {
        self.point();
        self.written.borrow_mut().push((name.to_owned(), String::from_utf8_lossy(value).into_owned()));
    }

    fn remove_header(&self, _which: Headers, _name: &str) {
        self.point();
    }

    fn respond(&self, _status: u32, _headers: &[(&str, &str)]) -> bool {
        self.point();
        true
    }
}

/// A reply as the filter sees it.
pub struct SimReply<'a> {
    /// The host that hands it over.
    pub host: &'a SimHost<'a>,
    /// What the service said, or the proxy in its place.
    pub answer: Answer,
}

impl Reply for SimReply<'_> {
    fn headers(&self) -> HeaderBlock {
        self.host.point();
        let mut headers = self.answer.headers.clone();
        if let Some(mutant) = self.host.mutant() {
            fault_injection::reply(mutant, self.answer.is_events, &mut headers);
        }
        // A reset has no headers, not even a count of them.
        if headers.is_empty() { HeaderBlock::default() } else { HeaderBlock::from_pairs(&headers) }
    }

    fn body_len(&self) -> usize {
        self.answer.body.len()
    }

    fn body(&self, max: usize) -> Vec<u8> {
        self.host.point();
        self.answer.body[..self.answer.body.len().min(max)].to_vec()
    }
}
