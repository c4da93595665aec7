//! Bytes in shared data: those of an older or newer module, or of another program.

use edgesplit_filter::config_sync::state::{Body, Sources, State};
use edgesplit_filter::events::outbox::{BatchHeader, InFlight, Lease, Outbox, SendPolicy, Settlement};
use edgesplit_filter::events::slot::EncodedBatch;
use edgesplit_filter::guardrails::table::Table;
use edgesplit_filter::plugin_config::{Batch, OutboxLimits};
use edgesplit_filter::shared_data::Record;

/// Takes one input.
pub(crate) fn run(data: &[u8]) {
    if let Some(state) = State::decode(data) {
        assert_eq!(State::decode(&state.encode()), Some(state));
        let _ = state.is_due(0, 10_000);
    }
    let _ = Body::decode(data);
    if let Some(sources) = Sources::decode(data) {
        assert_eq!(Sources::decode(&sources.encode()), Some(sources));
    }
    if let Some(table) = Table::decode(data) {
        assert_eq!(Table::decode(&table.encode()), Some(table));
    }
    if let Some(events) = EncodedBatch::decode(data) {
        assert_eq!(EncodedBatch::decode(&events.encode()).as_ref(), Some(&events));
        let _ = events.body(0..events.len());
        let _ = events.fitting(1, 10, 1_000);
    }
    if let Some(mut outbox) = Outbox::decode(data) {
        assert_eq!(Outbox::decode(&outbox.encode()).as_ref(), Some(&outbox));
        // An index that was read has to be safe to work with, however odd its numbers are.
        let limits = OutboxLimits { max_batches: 4, ..OutboxLimits::default() };
        let lease = Lease { holder: 1, since_ms: 0, until_ms: 10 };
        let header = BatchHeader { id: 7, events: 3, bytes: 100 };
        let mut settlement = Settlement::default();
        outbox.tidy(0, 1_000, &mut settlement);
        let _ = outbox.join(header, lease, &limits, &Batch::default());
        if outbox.reserve(header, lease, &limits, &mut settlement).is_some() {
            outbox.publish(7, 1, SendPolicy::IfAllowed, 0);
        }
        if let Some(batch) = outbox.lease_next(lease) {
            let call = InFlight { batch: batch.id, part: batch.part(), holder: 1, sent_at_ms: 0 };
            outbox.split(&call, &mut settlement);
            outbox.keep(&call, 0, |_| u64::MAX);
            outbox.mark_delivered(&call, &mut settlement);
        }
        let _ = (outbox.queued_events(), outbox.queued_bytes());
    }
}
