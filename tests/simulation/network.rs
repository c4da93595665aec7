//! Calls on their way, and the two services at their ends, with all that can go wrong there.

use crate::mutants::Mutant;
use crate::scenario::{CONFIG_BYTES_MAX, RETRY_AFTER_S_MAX};
use crate::sim::{Event, Sim};
use crate::workload::Doc;
use edgesplit_filter::host::Call;
use std::collections::BTreeMap;

/// The services' numbers.
pub const COLLECTOR: usize = 0;
const EXPERIMENTS: usize = 1;
const BACKUP: usize = 2;

/// The health of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// Well, except for faults of the network.
    Well,
    /// Connections are refused.
    Refused,
    /// The proxy does not know the cluster.
    NoCluster,
    /// It never answers.
    Hangs,
    /// Connections are reset, before or after the request was taken in.
    Resets,
    /// It answers late, about as late as the proxy waits.
    Slow,
    /// It answers with this status.
    Answers(u16),
    /// It answers with any status.
    AnswersAnything,
    /// It accepts at most this many events at once.
    Accepts(usize),
    /// The experiments it serves are broken in the way of this number.
    Broken(u8),
}

const STATUSES: [u16; 24] = [
    200, 202, 204, 301, 302, 304, 400, 401, 403, 404, 408, 410, 413, 415, 422, 425, 429, 500, 501, 502, 503, 504, 100,
    599,
];

/// A reply on its way to the filter.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    /// All headers; none for a reset.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Vec<u8>,
    /// Whether it answers events.
    pub is_events: bool,
}

impl Answer {
    fn new(status: u16, body: &[u8]) -> Answer {
        Answer { headers: vec![(":status", status.to_string())], body: body.to_vec(), is_events: false }
    }

    /// Its status, if it is one.
    pub fn status(&self) -> Option<u16> {
        self.headers.first()?.1.parse().ok()
    }

    /// What it asks for with `retry-after`, in seconds; dates are not read here.
    pub fn retry_after_s(&self) -> Option<u64> {
        self.headers.iter().find(|(name, _)| *name == "retry-after")?.1.parse().ok()
    }
}

/// A call on its way.
#[derive(Debug)]
pub struct InFlight {
    /// The VM that waits for it.
    pub vm: u64,
    /// What the VM knows it by.
    pub token: u32,
    service: usize,
    key: u128,
    body: Vec<u8>,
    etag: Option<String>,
    answer: Option<Answer>,
    /// The proxy made it up already or handed it over.
    replied: bool,
}

/// All calls and services.
#[derive(Debug)]
pub struct Network {
    /// Calls by their number.
    pub calls: BTreeMap<u64, InFlight>,
    /// How the services are.
    pub health: [Health; 3],
    /// The experiments that are served.
    pub doc: Doc,
    last_call: u64,
    /// Documents so far.
    pub docs: u64,
}

impl Network {
    /// Both services are well.
    pub fn new(doc: Doc) -> Network {
        Network { calls: BTreeMap::new(), health: [Health::Well; 3], doc, last_call: 0, docs: 1 }
    }
}

impl Sim {
    /// Starts a call. `None`: the host refuses.
    pub fn dispatch(&mut self, vm: u64, call: &Call<'_>) -> Option<u32> {
        let service = match call.cluster {
            "collector" => COLLECTOR,
            "experiments" => EXPERIMENTS,
            _ => BACKUP,
        };
        let health = self.network.health[service];
        let started = health != Health::NoCluster;
        let header = |name: &str| call.headers.iter().find(|(found, _)| *found == name).map(|(_, value)| *value);
        let key = crate::ledger::id(header("idempotency-key").unwrap_or_default().as_bytes());
        let token = self.network.last_call as u32 + 1;
        let result = match (service, &mut self.native) {
            (COLLECTOR, Some(native)) => native.dispatched(vm, started.then_some(token), key, call.body),
            (BACKUP, Some(native)) => native.diverted(started, call.body),
            (_, Some(_)) => Ok(()),
            (COLLECTOR, None) => self.ledger.dispatched(vm, started.then_some(token), key, call.body),
            (BACKUP, None) => self.ledger.diverted(vm, started, call.body),
            (_, None) => self.ledger.fetched(vm),
        };
        self.check(result);
        self.note("dispatch", vm, || format!("{} {key:x} {} bytes, {health:?}", call.cluster, call.body.len()));
        if !started {
            return None;
        }
        self.network.last_call += 1;
        let id = self.network.last_call;
        let etag = header("if-none-match").map(str::to_owned);
        let mut in_flight =
            InFlight { vm, token, service, key, body: call.body.to_vec(), etag, answer: None, replied: false };
        if health == Health::Refused {
            in_flight.answer = Some(Answer::new(503, b"upstream connect error or disconnect/reset before headers"));
            self.after(300, Event::Reply(id));
        } else {
            let timeout_us = call.timeout_ms * 1_000;
            let way_us = match health {
                Health::Slow => self.rng.range(0, timeout_us * 5 / 4),
                _ => self.rng.range(200, 10_000),
            };
            let noise = if self.quiet { 0 } else { self.scenario.noise };
            if !self.rng.chance(noise / 2) {
                self.after(way_us, Event::Arrive(id));
            }
            if self.rng.chance(noise) {
                let again_us = self.rng.range(0, timeout_us * 2);
                self.after(way_us + again_us, Event::Arrive(id));
            }
            self.after(timeout_us, Event::Timeout(id));
        }
        if self.mutant == Some(Mutant::FreesBeforeReply) && service == COLLECTOR {
            in_flight.answer = Some(Answer::new(200, b""));
            self.after(1, Event::Reply(id));
        }
        self.network.calls.insert(id, in_flight);
        Some(token)
    }

    /// A call arrives at its service.
    pub fn arrive(&mut self, id: u64) {
        let Some(call) = self.network.calls.get_mut(&id) else { return };
        let (service, key, body, etag) = (call.service, call.key, call.body.clone(), call.etag.clone());
        let health = self.network.health[service];
        let noise = if self.quiet { 0 } else { self.scenario.noise };
        let mut answer = match health {
            // What began while it was well is reset now.
            Health::Refused | Health::NoCluster => Some(Answer::default()),
            Health::Hangs => None,
            Health::Resets if self.rng.chance(500_000) => Some(Answer::default()),
            Health::Answers(status) => Some(self.serve(service, status, key, &body, etag)),
            Health::AnswersAnything => {
                let status = self.rng.pick(&STATUSES);
                Some(self.serve(service, status, key, &body, etag))
            }
            Health::Accepts(events) if service == COLLECTOR && crate::ledger::event_ids(&body).len() > events => {
                Some(Answer::new(413, b"too many"))
            }
            _ => {
                let status = self.rng.pick(&[200, 200, 200, 202, 204]);
                Some(self.serve(service, status, key, &body, etag))
            }
        };
        if health == Health::Resets && answer.is_some() {
            answer = Some(Answer::default());
        }
        let status = answer.as_ref().map(Answer::status);
        self.note("arrive", 0, || format!("call {id}: {health:?}, {status:?}"));
        if self.rng.chance(noise / 2) {
            // The reply is lost.
            return;
        }
        let Some(answer) = answer else { return };
        let way_us = if health == Health::Slow { self.rng.range(0, 500_000) } else { self.rng.range(200, 10_000) };
        if let Some(call) = self.network.calls.get_mut(&id)
            && call.answer.is_none()
        {
            call.answer = Some(Answer { is_events: service == COLLECTOR, ..answer });
            self.after(way_us, Event::Reply(id));
        }
    }

    fn serve(&mut self, service: usize, status: u16, key: u128, body: &[u8], etag: Option<String>) -> Answer {
        let mut answer = Answer::new(status, b"{}");
        if service == COLLECTOR {
            if (200..300).contains(&status) {
                let result = match &mut self.native {
                    Some(native) => native.accepted(self.scenario.ndjson, key, body),
                    None => self.ledger.accepted(self.scenario.ndjson, key, body),
                };
                self.check(result);
            }
            if matches!(status, 429 | 503) && self.rng.chance(700_000) {
                let seconds = self.rng.range(0, RETRY_AFTER_S_MAX);
                answer.headers.push(("retry-after", seconds.to_string()));
            }
            return answer;
        }
        if !(200..300).contains(&status) || service == BACKUP {
            return answer;
        }
        let tag = format!("\"{}\"", self.network.doc.revision);
        if etag.as_deref() == Some(&tag) {
            return Answer::new(304, b"");
        }
        let mut body = self.network.doc.json();
        match self.network.health[EXPERIMENTS] {
            Health::Broken(0) => body = b"<html>It works!</html>".to_vec(),
            Health::Broken(1) => body.truncate(body.len() / 2),
            Health::Broken(2) => body = br#"{"schema": 7, "experiments": []}"#.to_vec(),
            Health::Broken(3) => body.resize(CONFIG_BYTES_MAX + 1, b' '),
            Health::Broken(_) => body.clear(),
            _ => {}
        }
        let mut answer = Answer::new(200, &body);
        if !self.rng.chance(100_000) {
            answer.headers.push(("etag", tag));
        }
        answer
    }

    /// The reply to a call, if its VM still waits for it.
    pub fn take_reply(&mut self, id: u64, timed_out: bool) -> Option<(u64, u32, Answer)> {
        let call = self.network.calls.get_mut(&id)?;
        if std::mem::replace(&mut call.replied, true) {
            return None;
        }
        let mut answer = match timed_out {
            true => Answer::new(504, b"upstream request timeout"),
            false => call.answer.clone().unwrap_or_default(),
        };
        answer.is_events = call.service == COLLECTOR;
        Some((call.vm, call.token, answer))
    }

    /// Calls of a VM that is gone: some are cancelled on their way, none is answered.
    pub fn cancel_calls(&mut self, vm: u64, cancelled: u32) {
        let calls: Vec<u64> =
            self.network.calls.iter().filter(|(_, call)| call.vm == vm).map(|(number, _)| *number).collect();
        for id in calls {
            if self.rng.chance(cancelled) {
                self.network.calls.remove(&id);
            } else if let Some(call) = self.network.calls.get_mut(&id) {
                call.replied = true;
            }
        }
    }

    /// Changes the health of a service.
    pub fn shift(&mut self, service: usize) {
        let status = self.rng.pick(&STATUSES);
        let common = [Health::Well, Health::Well, Health::Refused, Health::NoCluster, Health::Hangs, Health::Resets];
        let more = match service {
            COLLECTOR => {
                let events = self.rng.range(0, 6) as usize;
                [
                    Health::Slow,
                    Health::Answers(status),
                    Health::Answers(503),
                    Health::AnswersAnything,
                    Health::Accepts(events),
                ]
            }
            BACKUP => [Health::Well, Health::Slow, Health::Answers(status), Health::AnswersAnything, Health::Well],
            _ => {
                let broken = Health::Broken(self.rng.range(0, 4) as u8);
                [Health::Slow, Health::Answers(status), broken, broken, Health::AnswersAnything]
            }
        };
        let all: Vec<Health> = common.into_iter().chain(more).collect();
        let health = self.rng.pick(&all);
        self.network.health[service] = health;
        self.note("shift", 0, || format!("service {service} is {health:?}"));
        self.some_time(self.scenario.shift_ms, Event::Shift(service));
    }
}

/// Checks the form of a body with events.
pub fn check_body(ndjson: bool, key: u128, body: &[u8]) -> Result<(), String> {
    let is_whole = match ndjson {
        true => body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).all(is_json),
        false => is_json(body) && body.starts_with(b"{\"batch\":\"") && crate::ledger::id(&body[10..46]) == key,
    };
    if is_whole { Ok(()) } else { Err(format!("the body of {key:x} is not what it should be")) }
}

fn is_json(text: &[u8]) -> bool {
    serde_json::from_slice::<serde_json::Value>(text).is_ok()
}
