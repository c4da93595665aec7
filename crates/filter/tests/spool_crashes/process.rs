//! A process: one pipeline and its spool, over shared data of their own.

use crate::disk::Folder;
use crate::{Rng, World};
use edgesplit_filter::events::outbox::Outbox;
use edgesplit_filter::events::pipeline::Pipeline;
use edgesplit_filter::host::{Call, DispatchError, Host, HostError, MetricKind, Reply, SetError, Shared};
use edgesplit_filter::http::headers::HeaderBlock;
use edgesplit_filter::metrics::Metrics;
use edgesplit_filter::plugin_config::{Events, PluginConfig};
use edgesplit_filter::shared_data::Record;
use edgesplit_filter::spool::{Spool, Values};
use serde_json::json;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;

const PREFIX: &str = "edgesplit/test";

/// The limits of the outbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Limits {
    /// Nothing is dropped.
    Default,
    /// The outbox overflows.
    Small,
    /// Nothing is dropped, and the service takes only parts of some batches.
    Splits,
}

impl Limits {
    fn events(self) -> Events {
        let outbox = match self {
            Limits::Default | Limits::Splits => json!({}),
            Limits::Small => json!({"max_batches": 3}),
        };
        let events = json!({
            "cluster": "collector", "authority": "collector", "path": "/", "format": "ndjson", "outbox": outbox,
            "batch": {"max_events": 10, "max_age": "300ms"}, "retry": {"backoff_max": "3s"}
        });
        let config = json!({"experiments": {"inline": {}}, "events": events}).to_string();
        PluginConfig::parse(config.as_bytes()).unwrap().events.unwrap()
    }
}

/// A call on its way.
#[derive(Debug)]
struct Sent {
    token: u32,
    batch: String,
    body: Vec<u8>,
    due_ms: i64,
}

/// The host of one process.
#[derive(Debug)]
struct ProcessHost {
    rng: Rng,
    now_ms: Cell<i64>,
    shared: RefCell<HashMap<String, Shared>>,
    last_cas: Cell<u32>,
    sent: RefCell<Vec<Sent>>,
    tokens: Cell<u32>,
    names: RefCell<Vec<String>>,
    counts: RefCell<HashMap<String, i64>>,
}

impl Values for ProcessHost {
    fn get(&self, key: &str) -> Shared {
        self.shared.borrow().get(key).cloned().unwrap_or(Shared { value: Vec::new(), cas: Shared::ABSENT })
    }

    fn set(&self, key: &str, value: &[u8], cas: u32) -> Result<(), SetError> {
        if self.shared.borrow().get(key).is_some_and(|known| cas != Shared::OVERWRITE && cas != known.cas) {
            return Err(SetError::Stale);
        }
        self.last_cas.set(self.last_cas.get() + 1);
        self.shared.borrow_mut().insert(key.to_owned(), Shared { value: value.to_vec(), cas: self.last_cas.get() });
        Ok(())
    }
}

impl Host for ProcessHost {
    fn now_ms(&self) -> i64 {
        self.now_ms.get()
    }

    fn random(&self) -> u128 {
        u128::from(self.rng.bits()) << 64 | u128::from(self.rng.bits())
    }

    fn log(&self, _level: log::Level, _message: &str) {}

    fn shared_get(&self, key: &str) -> Result<Shared, HostError> {
        Ok(self.get(key))
    }

    fn shared_set(&self, key: &str, value: &[u8], cas: u32) -> Result<(), SetError> {
        self.set(key, value, cas)
    }

    fn dispatch(&self, call: &Call<'_>) -> Result<u32, DispatchError> {
        let batch = call.headers.iter().find(|(name, _)| *name == "idempotency-key").unwrap().1.to_owned();
        let token = self.tokens.get();
        self.tokens.set(token + 1);
        let due_ms = self.now_ms.get() + self.rng.below(400) as i64;
        self.sent.borrow_mut().push(Sent { token, batch, body: call.body.to_vec(), due_ms });
        Ok(token)
    }

    fn define_metric(&self, _kind: MetricKind, name: &str) -> Option<u32> {
        let mut names = self.names.borrow_mut();
        names.push(name.strip_prefix("edgesplit.test.").unwrap().to_owned());
        Some(names.len() as u32 - 1)
    }

    fn increment(&self, metric: u32, by: i64) {
        *self.counts.borrow_mut().entry(self.names.borrow()[metric as usize].clone()).or_default() += by;
    }

    fn record(&self, _metric: u32, _value: u64) {}
}

/// An answer without a body.
struct Status(&'static str);

impl Reply for Status {
    fn headers(&self) -> HeaderBlock {
        HeaderBlock::from_pairs(&[(":status", self.0.to_owned())])
    }

    fn body_len(&self) -> usize {
        0
    }

    fn body(&self, _max: usize) -> Vec<u8> {
        Vec::new()
    }
}

/// A running process.
#[derive(Debug)]
pub(crate) struct Process {
    number: u64,
    host: ProcessHost,
    metrics: Metrics,
    pipeline: Pipeline,
    spool: Spool<Folder>,
    events: u64,
    /// Whether it gets no requests.
    pub(crate) is_idle: bool,
}

impl Process {
    pub(crate) fn start(world: &World, number: u64, limits: Limits) -> Process {
        let host = ProcessHost {
            rng: world.rng.clone(),
            now_ms: Cell::new(world.now_ms),
            shared: RefCell::default(),
            last_cas: Cell::new(0),
            sent: RefCell::default(),
            tokens: Cell::new(0),
            names: RefCell::default(),
            counts: RefCell::default(),
        };
        let (events, vm) = (limits.events(), host.random() as u64);
        let folder = Folder { disk: world.disk.clone(), process: number };
        Process {
            number,
            metrics: Metrics::define(&host, "test"),
            spool: Spool::new(folder, PREFIX, events.outbox.clone(), vm + 1),
            pipeline: Pipeline::new(events, vm, PREFIX, 100),
            host,
            events: 0,
            is_idle: false,
        }
    }

    /// A part of its life: requests, a tick, answers, and the spool's thread at any time.
    pub(crate) fn step(&mut self, world: &World) {
        let now_ms = world.now_ms;
        self.host.now_ms.set(now_ms);
        for _ in 0..if self.is_idle { 0 } else { world.rng.below(6) } {
            self.events += 1;
            let event = format!("\"{}-{}\"", self.number, self.events);
            self.pipeline.recorder.lock().emit_written(event.as_bytes(), now_ms, &mut self.metrics);
        }
        if world.rng.one_in(3) {
            self.commit(now_ms);
        }
        self.pipeline.tick(&self.host, now_ms, &mut self.metrics);
        if !world.rng.one_in(3) {
            self.commit(now_ms);
        }
        self.answer(world);
        self.metrics.flush(&self.host);
    }

    fn answer(&mut self, world: &World) {
        let (due, later): (Vec<Sent>, Vec<Sent>) =
            self.host.sent.take().into_iter().partition(|sent| sent.due_ms <= world.now_ms);
        *self.host.sent.borrow_mut() = later;
        for Sent { token, batch, body, .. } in due {
            let status = Self::answer_of(world, &batch, &body);
            self.pipeline.on_reply(&self.host, world.now_ms, token, &status, &mut self.metrics);
        }
    }

    fn answer_of(world: &World, batch: &str, body: &[u8]) -> Status {
        let service = &mut *world.service.borrow_mut();
        if !service.is_up {
            return Status("503");
        }
        if service.splits && world.rng.one_in(10) {
            return Status("413");
        }
        if world.disk.borrow().removed.contains(batch) {
            service.problems.push(format!("batch {batch} was sent after its file was removed"));
        }
        service.take(batch, body);
        Status("200")
    }

    fn commit(&mut self, now_ms: i64) {
        self.spool.commit(&self.host, now_ms);
        self.note_counts();
    }

    fn note_counts(&mut self) {
        for (name, by) in self.spool.take_counts().named() {
            *self.host.counts.borrow_mut().entry(name.to_owned()).or_default() += by as i64;
        }
    }

    /// An orderly end, without a delivery.
    pub(crate) fn end(&mut self, world: &World) {
        self.pipeline.shut_down(&self.host, world.now_ms, &mut self.metrics);
        self.metrics.flush(&self.host);
        self.spool.finish(&self.host, world.now_ms);
        self.note_counts();
        self.crash(world);
    }

    /// The process is gone, with its memory.
    pub(crate) fn crash(&self, world: &World) {
        let mut disk = world.disk.borrow_mut();
        disk.unlock(self.number);
        let left = self.count("events.emitted") + self.count("spool.recovered_events")
            - self.count("events.delivered")
            - self.count("events.rejected")
            - self.count("events.dropped_overflow");
        assert!(left >= 0, "{:?}", self.host.counts.borrow());
        disk.lost_with_processes += left as usize;
    }

    pub(crate) fn is_dead(&self, world: &World) -> bool {
        world.disk.borrow().is_dead(self.number)
    }

    /// Whether its outbox is empty and its accounting adds up.
    pub(crate) fn is_empty(&self) -> bool {
        let outbox = Outbox::decode(&self.host.get(&format!("{PREFIX}/outbox")).value).unwrap_or_default();
        let came = self.count("events.emitted") + self.count("spool.recovered_events");
        let left =
            self.count("events.delivered") + self.count("events.rejected") + self.count("events.dropped_overflow");
        outbox.batches.is_empty() && outbox.queued_events() == 0 && came == left
    }

    pub(crate) fn count(&self, name: &str) -> i64 {
        self.host.counts.borrow().get(name).copied().unwrap_or(0)
    }
}
