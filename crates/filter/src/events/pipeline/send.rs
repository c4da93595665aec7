//! From a slot on its way, to the service or to the fallback.

use super::{Pipeline, Sent, Verdict};
use crate::events::outbox::{BACKLOG_CALLS_IN_FLIGHT_MAX, Batch, Why};
use crate::events::outcome::Outcome;
use crate::events::slot::{Events, part_id};
use crate::host::{Call, Host, HostError};
use crate::metrics::{Counter, Metrics};
use crate::plugin_config::{Endpoint, EventFormat};
use std::ops::Range;

impl Why {
    pub(super) fn counter(self) -> Counter {
        match self {
            Why::Overflow => Counter::DroppedOverflow,
            Why::Expired => Counter::DroppedExpired,
        }
    }
}

impl Pipeline {
    /// Sends batches that wait, as many as may be in flight.
    pub(super) fn send_waiting(&mut self, host: &impl Host, now_ms: i64, metrics: &mut Metrics) {
        for _ in 0..BACKLOG_CALLS_IN_FLIGHT_MAX {
            let Ok(Some(batch)) = self.lease_next(host, now_ms, metrics) else { return };
            self.send_stored(host, now_ms, &batch, metrics);
        }
    }

    pub(super) fn lease_next(
        &mut self,
        host: &impl Host,
        now_ms: i64,
        metrics: &mut Metrics,
    ) -> Result<Option<Batch>, HostError> {
        let lease = self.lease(now_ms);
        self.update(host, metrics, |outbox, _| outbox.lease_next(lease))
    }

    /// The events of a batch, if its slot holds them.
    pub(super) fn stored(&self, host: &impl Host, batch: &Batch) -> Option<Events> {
        let shared = host.shared_get(&format!("{}/{}", self.slot_key, batch.slot)).ok()?;
        let events = Events::decode(&shared.value, batch.id)?;
        // More than the index counts are what somebody broke off adding.
        (events.len() >= batch.events as usize).then(|| events.first(batch.events as usize))
    }

    pub(super) fn send_stored(&mut self, host: &impl Host, now_ms: i64, batch: &Batch, metrics: &mut Metrics) {
        match self.stored(host, batch) {
            Some(events) => self.send(host, now_ms, batch.id, &events, batch.part(), metrics),
            None => {
                let sent = Sent { batch: batch.id, part: batch.part(), at_ms: now_ms };
                self.settle(host, now_ms, sent, Verdict::Lost, metrics);
            }
        }
    }

    /// Sends a part of a batch to the service.
    pub(super) fn send(
        &mut self,
        host: &impl Host,
        now_ms: i64,
        batch: u128,
        events: &Events,
        part: Range<usize>,
        metrics: &mut Metrics,
    ) {
        let called = self.call(host, &self.config.endpoint, batch, events, &part);
        let sent = Sent { batch, part, at_ms: now_ms };
        match called {
            Ok(token) => {
                self.calls.push((token, sent));
            }
            Err(HostError) => {
                // No such cluster, as a rule: an operator can mend that, so it is a failure like any other.
                metrics.add(Counter::Dispatch, 1);
                self.settle(host, now_ms, sent, Verdict::Answered(Outcome::Keep, None), metrics);
            }
        }
    }

    /// The end of events that there is no place for any more: to the fallback, once, or nowhere.
    pub(super) fn go_without(
        &mut self,
        host: &impl Host,
        batch: u128,
        events: &Events,
        part: Range<usize>,
        why: Why,
        metrics: &mut Metrics,
    ) {
        let count = part.len() as u64;
        match self.config.fallback.as_ref().map(|fallback| self.call(host, fallback, batch, events, &part)) {
            Some(Ok(token)) => {
                self.diversions.push(token);
                metrics.add(Counter::Diverted, count);
                return;
            }
            Some(Err(HostError)) => metrics.add(Counter::Dispatch, 1),
            None => {}
        }
        metrics.add(why.counter(), count);
    }

    /// Dispatches the events in `part` to `endpoint`.
    pub(super) fn call(
        &self,
        host: &impl Host,
        endpoint: &Endpoint,
        batch: u128,
        events: &Events,
        part: &Range<usize>,
    ) -> Result<u32, HostError> {
        let id = part_id(batch, part, events.len());
        let body = events.body(&id, part.clone());
        let id = id.to_string();
        let content_type = match events.format() {
            EventFormat::Native => "application/json",
            EventFormat::Vendor(format) => format.event_wire().map_or("application/json", |wire| wire.content_type()),
            EventFormat::Ndjson => "application/x-ndjson",
            EventFormat::CloudEvents => "application/cloudevents-batch+json; charset=UTF-8",
            EventFormat::KafkaRest => "application/vnd.kafka.json.v2+json",
        };
        let mut headers = vec![
            (":method", "POST"),
            (":path", endpoint.path.as_str()),
            (":authority", endpoint.authority.as_str()),
            (":scheme", "http"),
            ("content-type", content_type),
            ("idempotency-key", id.as_str()),
        ];
        headers.extend(endpoint.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        host.dispatch(&Call { cluster: &endpoint.cluster, headers, body: &body, timeout_ms: self.config.timeout_ms })
    }
}
