//! From a slot to the service, or to the fallback.

use super::{DeliveryResult, Pipeline};
use crate::call_failure::CallFailure;
use crate::env::Env;
use crate::events::outbox::{BACKLOG_CALLS_IN_FLIGHT_MAX, Batch, EvictionReason, InFlight};
use crate::events::outcome::Outcome;
use crate::events::slot::EncodedBatch;
use crate::host::{Call, DispatchError, Host, HostError};
use crate::metrics::Counter;
use crate::plugin_config::{Endpoint, EventFormat};
use crate::shared_data;
use std::ops::Range;

impl EvictionReason {
    pub(super) fn counter(self) -> Counter {
        match self {
            EvictionReason::Overflow => Counter::DroppedOverflow,
            EvictionReason::Expired => Counter::DroppedExpired,
        }
    }
}

impl Pipeline {
    /// Sends waiting batches, as many as may be in flight.
    pub(super) fn send_waiting(&mut self, env: &mut Env<'_, impl Host>) {
        for _ in 0..BACKLOG_CALLS_IN_FLIGHT_MAX {
            let Ok(Some(batch)) = self.lease_next(env) else { return };
            self.send_stored(env, &batch);
        }
    }

    pub(super) fn lease_next(&mut self, env: &mut Env<'_, impl Host>) -> Result<Option<Batch>, HostError> {
        let lease = self.lease(env.now_ms);
        self.update(env, |outbox, _| outbox.lease_next(lease))
    }

    pub(super) fn slot_key(&self, slot: u32) -> String {
        format!("{}/{slot}", self.slot_key)
    }

    /// The events of a batch, if its slot contains them.
    pub(super) fn stored(&self, env: &mut Env<'_, impl Host>, batch: &Batch) -> Option<EncodedBatch> {
        let stored: EncodedBatch = shared_data::read(env, &self.slot_key(batch.slot)).ok()??;
        // More events than the index counts are left from a join that failed halfway.
        let is_whole = stored.id == batch.id && stored.len() >= batch.events as usize;
        is_whole.then(|| stored.first(batch.events as usize))
    }

    /// The call that sends the next part of a batch.
    pub(super) fn call_of(&self, batch: &Batch, now_ms: i64) -> InFlight {
        InFlight { batch: batch.id, part: batch.part(), holder: self.vm, sent_at_ms: now_ms }
    }

    pub(super) fn send_stored(&mut self, env: &mut Env<'_, impl Host>, batch: &Batch) {
        match self.stored(env, batch) {
            Some(events) => self.send(env, &events, batch.part()),
            None => {
                let call = self.call_of(batch, env.now_ms);
                self.settle(env, call, DeliveryResult::Lost);
            }
        }
    }

    /// Sends a part of a batch to the service.
    pub(super) fn send(&mut self, env: &mut Env<'_, impl Host>, events: &EncodedBatch, part: Range<usize>) {
        let token = self.dispatch(env.host, &self.config.endpoint, events, &part);
        let call = InFlight { batch: events.id, part, holder: self.vm, sent_at_ms: env.now_ms };
        match token {
            Ok(token) => self.calls.push((token, call)),
            Err(error) => {
                // An operator can fix it: a failure like any other.
                env.metrics.add(Counter::Dispatch, 1);
                self.log_failure(env, Outcome::Keep, error.into());
                self.settle(env, call, DeliveryResult::Answered(Outcome::Keep, None));
            }
        }
    }

    /// Handles events that the outbox cannot keep: sends them to the fallback, once, or drops them.
    pub(super) fn divert_or_drop(
        &mut self,
        env: &mut Env<'_, impl Host>,
        events: &EncodedBatch,
        part: Range<usize>,
        reason: EvictionReason,
    ) {
        let count = part.len() as u64;
        match self.config.fallback.as_ref().map(|fallback| self.dispatch(env.host, fallback, events, &part)) {
            Some(Ok(token)) => {
                self.diversions.push(token);
                env.metrics.add(Counter::Diverted, count);
                return;
            }
            Some(Err(error)) => {
                env.metrics.add(Counter::Dispatch, 1);
                self.log_fallback_failure(env, error.into());
            }
            None => {}
        }
        env.metrics.add(reason.counter(), count);
    }

    /// Logs a failed delivery, with its consequence for the events.
    pub(super) fn log_failure(&mut self, env: &Env<'_, impl Host>, outcome: Outcome, failure: CallFailure) {
        let consequence = match outcome {
            Outcome::Keep => "events could not be delivered, and are kept",
            Outcome::Split => "a batch of events was too large",
            Outcome::Reject => "events were refused, and are dropped",
            Outcome::Delivered => return,
        };
        self.failures.failed(env.host, failure, (&self.config.endpoint.cluster, consequence));
    }

    /// Logs that the fallback did not take events.
    pub(super) fn log_fallback_failure(&mut self, env: &Env<'_, impl Host>, failure: CallFailure) {
        if let Some(fallback) = &self.config.fallback {
            let consequence = "the fallback did not take events, and they are lost";
            self.fallback_failures.failed(env.host, failure, (&fallback.cluster, consequence));
        }
    }

    /// Starts the call that carries the events in `part` to `endpoint`.
    fn dispatch(
        &self,
        host: &impl Host,
        endpoint: &Endpoint,
        events: &EncodedBatch,
        part: &Range<usize>,
    ) -> Result<u32, DispatchError> {
        let (id, body) = (events.part_id(part).to_string(), events.body(part.clone()));
        let host_of_batch =
            events.format().vendor_wire().and_then(|wire| wire.host(events.head(), &endpoint.authority));
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
            (":authority", host_of_batch.unwrap_or(&endpoint.authority)),
            (":scheme", endpoint.scheme.name()),
            ("content-type", content_type),
            ("idempotency-key", id.as_str()),
        ];
        headers.extend(endpoint.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        host.dispatch(&Call { cluster: &endpoint.cluster, headers, body: &body, timeout_ms: self.config.timeout_ms })
    }
}
