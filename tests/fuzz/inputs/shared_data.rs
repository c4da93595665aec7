//! Whatever is in shared data: an older module's bytes, a newer one's, another program's.

use edgesplit_filter::config_sync::state::{Body, Sources, State};
use edgesplit_filter::events::outbox::{Lease, Outbox, Sealing, Sending, Settled};
use edgesplit_filter::events::slot::Events;
use edgesplit_filter::plugin_config::{Batch, OutboxLimits};

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
    if let Some(events) = Events::decode(data, 0) {
        assert_eq!(Events::decode(&events.encode(0), 0).as_ref(), Some(&events));
        let id = edgesplit_filter::events::slot::part_id(0, &(0..events.len()), events.len());
        let _ = events.body(&id, 0..events.len());
        let _ = events.fitting(1, 10, 1_000);
    }
    if let Some(mut outbox) = Outbox::decode(data) {
        assert_eq!(Outbox::decode(&outbox.encode()).as_ref(), Some(&outbox));
        // What was believed has to be safe to work with, however odd its numbers are.
        let limits = OutboxLimits { max_batches: 4, ..OutboxLimits::default() };
        let lease = Lease { holder: 1, since_ms: 0, until_ms: 10 };
        let sealing = Sealing { id: 7, events: 3, bytes: 100 };
        let mut settled = Settled::default();
        outbox.tidy(0, 1_000, &mut settled);
        let _ = outbox.join(sealing, lease, &limits, &Batch::default());
        if outbox.reserve(sealing, lease, &limits, &mut settled).is_some() {
            outbox.publish(7, 1, Sending::IfAllowed, 0);
        }
        if let Some(batch) = outbox.lease_next(lease) {
            outbox.too_large(batch.id, 1, &batch.part(), 0, &mut settled);
            outbox.kept(batch.id, 1, 0, 0, |_| u64::MAX);
            outbox.delivered(batch.id, 1, &batch.part(), &mut settled);
        }
        let _ = (outbox.queued_events(), outbox.queued_bytes());
    }
}
