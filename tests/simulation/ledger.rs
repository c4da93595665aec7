//! The ledger: what the simulator knows of every event, VM and call, kept apart from what the filter counts. `outbox.rs` and
//! `config.rs` beside this file check each change of shared data against them.

use crate::fault_injection;
use crate::host::Process;
use crate::network::{Answer, check_body};
use crate::scenario::Scenario;
use edgesplit_filter::config_sync::state::State;
use edgesplit_filter::events::outbox::Outbox;
use edgesplit_filter::shared_data::Record;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::ops::Range;

/// What becomes of events; also places in [`VmAccount::counted`].
pub const EMITTED: usize = 0;
pub const DELIVERED: usize = 1;
pub const REJECTED: usize = 2;
pub const OVERFLOW: usize = 3;
pub const EXPIRED: usize = 4;
pub const DIVERTED: usize = 5;

/// The counters of these, behind `edgesplit.<plugin>.`.
pub const NAMES: [&str; 7] = [
    "events.emitted",
    "events.delivered",
    "events.rejected",
    "events.dropped_overflow",
    "events.dropped_expired",
    "events.diverted",
    "errors.events_lost",
];

/// Calls that all VMs may have on their way together (`outbox::CALLS_IN_FLIGHT_MAX`, said once more).
const CALLS_IN_FLIGHT_MAX: usize = 8;

/// The meaning of an answer under the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    Delivered,
    Rejected,
    Split,
    Keep,
}

/// The meaning of a status for a call with so many events.
pub fn meaning(status: Option<u16>, events: usize) -> Meaning {
    match status {
        Some(200..=299) => Meaning::Delivered,
        Some(413) if events > 1 => Meaning::Split,
        Some(401 | 403 | 404 | 408 | 425 | 429) => Meaning::Keep,
        Some(400..=499) => Meaning::Rejected,
        _ => Meaning::Keep,
    }
}

/// A part of a batch that was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    pub batch: u128,
    pub range: Range<usize>,
}

/// The right to send a part once.
#[derive(Debug, Clone)]
pub struct Grant {
    pub key: u128,
    pub part: Part,
    /// Why it may not be used to send: leases are also taken to add events.
    pub forbidden: Option<String>,
}

/// What a VM heard of a part and has to write down.
#[derive(Debug, Clone)]
pub struct HeardResult {
    pub part: Part,
    pub meaning: Meaning,
    pub sent_ms: i64,
    pub retry_after_ms: u64,
}

/// What is known of a VM.
#[derive(Debug, Default)]
pub struct VmAccount {
    /// What it calls itself in shared data.
    pub code: u64,
    /// What it does.
    pub job: &'static str,
    /// The time it was reported last.
    pub now_ms: i64,
    /// When the job began.
    pub began_us: u64,
    pub calls_in_job: u32,
    pub stale_in_job: u32,
    pub paused_us: u64,
    /// The most batches and bytes that the outbox held since the job began.
    pub peak: (usize, usize),
    pub randoms: Vec<u128>,
    /// Events in its buffer, the oldest first.
    pub buffer: VecDeque<u128>,
    /// What became of events by its hand, and what it handed over of that.
    pub counted: [i64; NAMES.len()],
    pub flushed: [i64; NAMES.len()],
    pub heard: Vec<HeardResult>,
    pub grants: Vec<Grant>,
    /// Its calls on their way, with the time it believed when it sent them.
    pub sent: BTreeMap<u32, (Part, i64)>,
    /// Batches that it took out of the outbox before they were delivered, with the place of their count: diverted or dropped.
    pub evicted: Vec<(usize, Vec<u128>)>,
    /// Slots it has to clear.
    pub to_clear: Vec<(u32, u128)>,
    pub may_fetch: bool,
}

/// The ledger of the process that runs, and of the services.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Living VMs.
    pub vms: BTreeMap<u64, VmAccount>,
    /// The outbox's index as it is.
    pub index: Outbox,
    /// The events of every batch that was written to a slot.
    pub batches: HashMap<u128, Vec<u128>>,
    /// What each idempotency key stands for.
    keys: HashMap<u128, Part>,
    /// Who got the lease of each batch last.
    pub holders: HashMap<u128, u64>,
    /// Keys whose events were settled for good.
    pub settled: HashSet<u128>,
    /// Keys that the service took, with how often.
    pub accepted: HashMap<u128, u32>,
    accepted_events: i64,
    /// Bodies by their key.
    bodies: HashMap<u128, Vec<u8>>,
    /// Every event there ever was.
    known: HashSet<u128>,
    /// Of VMs that are gone: what they counted, and what of it they took with them.
    pub past: [i64; NAMES.len()],
    pub uncounted: [i64; NAMES.len()],
    /// Events that were in buffers of VMs that died.
    pub buried: i64,
    /// Slots whose VM died before it could clear them.
    pub excused: BTreeSet<(u32, u128)>,
    /// When experiments were published last, and which.
    pub published: Option<(u64, Option<String>)>,
    pub config: State,
    /// Since when batches are too old.
    pub too_old: BTreeMap<u128, u64>,
    /// Totals of the whole run, for the summary.
    pub totals: [i64; NAMES.len()],
}

/// An id as a number; 0 for what is none.
pub fn id(text: &[u8]) -> u128 {
    let hex = text.iter().filter(|byte| **byte != b'-');
    let text: String = hex.map(|byte| char::from(*byte)).collect();
    if text.len() == 32 { u128::from_str_radix(&text, 16).unwrap_or(0) } else { 0 }
}

/// The ids of the events in a body or a slot, in their order.
pub fn event_ids(body: &[u8]) -> Vec<u128> {
    // Inside a text the quotes would be escaped.
    const START: &[u8] = b"{\"id\":\"";
    let mut ids = Vec::new();
    let mut at = 0;
    while at + START.len() + 36 <= body.len() {
        if body[at..].starts_with(START) {
            at += START.len();
            ids.push(id(&body[at..at + 36]));
            at += 36;
        } else {
            at += 1;
        }
    }
    ids
}

impl VmAccount {
    /// Where `ids` stand in the buffer.
    pub fn position(&self, ids: &[u128]) -> Option<usize> {
        (0..self.buffer.len()).find(|at| self.buffer.range(*at..).take(ids.len()).eq(ids.iter()))
    }

    /// What it took out of the outbox and did not divert is dropped.
    pub fn drop_evicted(&mut self) {
        for (at, events) in std::mem::take(&mut self.evicted) {
            self.counted[at] += events.len() as i64;
        }
    }
}

impl Ledger {
    /// A VM begins a job.
    pub fn begin(&mut self, vm: u64, job: &'static str, now_us: u64) {
        let bytes = self.index.batches.iter().map(|batch| batch.bytes as usize).sum();
        let account = self.vms.entry(vm).or_default();
        account.peak = (self.index.batches.len(), bytes);
        account.job = job;
        account.began_us = now_us;
        (account.calls_in_job, account.stale_in_job, account.paused_us) = (0, 0, 0);
        account.randoms.clear();
    }

    /// A value in shared data was written.
    #[allow(clippy::too_many_arguments, reason = "everything that happened")]
    pub fn written(
        &mut self,
        scenario: &Scenario,
        process: &Process,
        vm: u64,
        key: &str,
        old: &[u8],
        now_us: u64,
    ) -> Result<(), String> {
        let new = process.get(key);
        if key == fault_injection::index_key() {
            let index = Outbox::decode(new).ok_or("the index cannot be read")?;
            return self.index_changed(scenario, process, vm, index);
        }
        if fault_injection::is_state(key) {
            let old = State::decode(old).unwrap_or_default();
            let new = State::decode(new).ok_or("the config's state cannot be read")?;
            return self.state_changed(scenario, process, vm, (key, &old, &new), now_us);
        }
        match fault_injection::slot(key) {
            Some(slot) => self.slot_changed(slot, new),
            None => Ok(()),
        }
    }

    /// A VM put events into its buffer: exposures with derived ids, goals with ids of their own.
    pub fn emitted(&mut self, vm: u64, exposures: &[u128], goals: &[u128]) -> Result<(), String> {
        let account = self.vms.get_mut(&vm).ok_or("a VM that is not there")?;
        for id in goals {
            if self.known.contains(id) {
                return Err(format!("the goal {id:x} has an id that was used before"));
            }
        }
        for id in exposures.iter().chain(goals) {
            self.known.insert(*id);
            account.buffer.push_back(*id);
            account.counted[EMITTED] += 1;
        }
        Ok(())
    }

    /// A VM handed a count over.
    pub fn incremented(&mut self, vm: u64, name: &str, by: i64) {
        let at = NAMES.iter().position(|known| name.ends_with(known));
        if let (Some(at), Some(account)) = (at, self.vms.get_mut(&vm)) {
            account.flushed[at] += by;
        }
    }

    /// Holds at every moment.
    pub fn counters_are_possible(&self, process: &Process) -> Result<(), String> {
        let [emitted, delivered, gone @ ..] = NAMES.map(|name| process.metric(name));
        if delivered + gone.iter().sum::<i64>() > emitted {
            return Err(format!("more is settled than was emitted: {emitted} < {delivered} + {gone:?}"));
        }
        if delivered > self.accepted_events {
            return Err(format!("{delivered} events count as delivered, the service has {}", self.accepted_events));
        }
        Ok(())
    }

    /// A VM sends events; `token` is `None` where the call does not start.
    pub fn dispatched(&mut self, vm: u64, token: Option<u32>, key: u128, body: &[u8]) -> Result<(), String> {
        let part = self.keys.get(&key).ok_or_else(|| format!("vm {vm} sent {key:x}, which is no batch's"))?.clone();
        let account = self.vms.get_mut(&vm).ok_or("a VM that is not there")?;
        let ids = event_ids(body);
        if self.batches.get(&part.batch).and_then(|events| events.get(part.range.clone())) != Some(&ids[..]) {
            return Err(format!("vm {vm} sent {key:x} with other events than its batch has"));
        }
        if self.bodies.entry(key).or_insert_with(|| body.to_vec()) != body {
            return Err(format!("vm {vm} sent {key:x} with another body than before"));
        }
        let grant = account.grants.iter().position(|grant| grant.key == key).map(|at| account.grants.remove(at));
        // A VM whose lease has ended may find the batch settled by the next holder.
        let is_last = self.holders.get(&part.batch) == Some(&vm);
        match grant {
            None if account.job == "shut_down" => {}
            None => return Err(format!("vm {vm} sent {key:x} without a lease, or twice under one")),
            Some(_) if is_last && self.settled.contains(&key) => {
                return Err(format!("vm {vm} sent {key:x} again, which is settled"));
            }
            Some(Grant { forbidden: Some(why), .. }) => return Err(why),
            Some(_) => {}
        }
        match token {
            Some(token) => {
                account.sent.insert(token, (part, account.now_ms));
            }
            None => {
                let sent_ms = account.now_ms;
                account.heard.push(HeardResult { part, meaning: Meaning::Keep, sent_ms, retry_after_ms: 0 });
            }
        }
        Ok(())
    }

    /// A VM sends events to the fallback, which count as diverted if the call starts.
    pub fn diverted(&mut self, vm: u64, started: bool, body: &[u8]) -> Result<(), String> {
        let ids = event_ids(body);
        let account = self.vms.get_mut(&vm).ok_or("a VM that is not there")?;
        if let Some(at) = account.evicted.iter().position(|(_, evicted)| *evicted == ids) {
            if started {
                account.evicted.remove(at);
                account.counted[DIVERTED] += ids.len() as i64;
            }
            return Ok(());
        }
        let before = account.position(&ids).ok_or_else(|| format!("vm {vm} diverts events that are not its own"))?;
        if started {
            account.counted[OVERFLOW] += before as i64;
            account.counted[DIVERTED] += ids.len() as i64;
            account.buffer.drain(..before + ids.len());
        }
        Ok(())
    }

    /// Calls on their way are within their limit. Only where no lease can run out under a call.
    pub fn calls_are_bounded(&self) -> Result<(), String> {
        let calls: usize = self.vms.values().map(|account| account.sent.len()).sum();
        if calls > CALLS_IN_FLIGHT_MAX {
            return Err(format!("{calls} calls are on their way, more than {CALLS_IN_FLIGHT_MAX}"));
        }
        Ok(())
    }

    /// The service took a body.
    pub fn accepted(&mut self, ndjson: bool, key: u128, body: &[u8]) -> Result<(), String> {
        check_body(ndjson, key, body)?;
        let ids = event_ids(body);
        if let Some(unknown) = ids.iter().find(|id| !self.known.contains(id)) {
            return Err(format!("the service got the event {unknown:x}, which no worker emitted"));
        }
        let times = self.accepted.entry(key).or_default();
        *times += 1;
        if *times == 1 {
            self.accepted_events += ids.len() as i64;
        }
        Ok(())
    }

    /// A VM hears of its call.
    pub fn replied(&mut self, vm: u64, token: u32, answer: &Answer) {
        let Some(account) = self.vms.get_mut(&vm) else { return };
        let Some((part, sent_ms)) = account.sent.remove(&token) else { return };
        let meaning = meaning(answer.status(), part.range.len());
        let retry_after_ms = answer.retry_after_s().unwrap_or(0) * 1_000;
        account.heard.push(HeardResult { part, meaning, sent_ms, retry_after_ms });
    }

    /// What `key` stands for from now on.
    pub fn name(&mut self, key: u128, part: Part) {
        self.keys.insert(key, part);
    }

    /// A VM is gone, with what it had. `buried`: it did not go by itself.
    pub fn gone(&mut self, vm: u64, process: &Process) {
        let Some(mut account) = self.vms.remove(&vm) else { return };
        account.drop_evicted();
        self.buried += account.buffer.len() as i64;
        for at in 0..NAMES.len() {
            self.past[at] += account.counted[at];
            self.uncounted[at] += account.counted[at] - account.flushed[at];
        }
        for (slot, batch) in account.to_clear {
            if self.slot_holds(process, slot, batch) {
                self.excused.insert((slot, batch));
            }
        }
    }

    /// Everything of the process is gone; what the services know stays.
    pub fn process_gone(&mut self) {
        for at in 0..NAMES.len() {
            self.totals[at] += self.past[at];
        }
        *self = Ledger {
            accepted: std::mem::take(&mut self.accepted),
            known: std::mem::take(&mut self.known),
            keys: std::mem::take(&mut self.keys),
            batches: std::mem::take(&mut self.batches),
            bodies: std::mem::take(&mut self.bodies),
            totals: self.totals,
            ..Ledger::default()
        };
    }
}
