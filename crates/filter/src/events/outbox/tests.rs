use super::*;
use crate::shared_data::Record;
use crate::shared_data::tests::assert_stored;
use std::ops::Range;

const A: u64 = 1;
const B: u64 = 2;

fn limits() -> OutboxLimits {
    OutboxLimits { max_bytes: 1_000, max_batches: 3, max_age_ms: 100_000, on_full: OnFull::DropOldest, spool: None }
}

fn lease(holder: u64, since_ms: i64) -> Lease {
    Lease { holder, since_ms, until_ms: since_ms + 10_000 }
}

fn header(id: u128, events: u32, bytes: u32) -> BatchHeader {
    BatchHeader { id, events, bytes }
}

/// An outbox with waiting batches of `events` events each, with the ids 1, 2, …
fn waiting(events: &[u32]) -> Outbox {
    let mut outbox = Outbox::default();
    for (id, events) in (1..).zip(events) {
        outbox.reserve(header(id, *events, 100), lease(A, 0), &limits(), &mut Settlement::default()).unwrap();
        assert_eq!(outbox.publish(id, A, SendPolicy::Never, 0), Some(false));
    }
    outbox
}

fn ids(outbox: &Outbox) -> Vec<u128> {
    outbox.batches.iter().map(|batch| batch.id).collect()
}

fn call(batch: u128, holder: u64, sent_at_ms: i64, part: Range<usize>) -> InFlight {
    InFlight { batch, part, holder, sent_at_ms }
}

fn wait(_failures: u32) -> u64 {
    1_000
}

#[test]
fn batch_is_reserved_written_and_sent_by_one_vm() {
    let mut outbox = Outbox::default();
    let mut settlement = Settlement::default();
    assert_eq!(outbox.reserve(header(7, 2, 100), lease(A, 0), &limits(), &mut settlement), Some(0));
    assert_eq!((outbox.queued_events(), outbox.queued_bytes()), (0, 0), "not written yet");
    assert_eq!(outbox.publish(7, B, SendPolicy::IfAllowed, 0), None, "another VM holds it");
    assert_eq!(outbox.publish(7, A, SendPolicy::IfAllowed, 0), Some(true));
    assert_eq!((outbox.queued_events(), outbox.queued_bytes()), (2, 100));
    assert_eq!(outbox.lease_next(lease(B, 9_999)), None, "it is in flight");
    assert!(outbox.mark_delivered(&call(7, A, 0, 0..2), &mut settlement));
    assert_eq!((settlement.delivered, settlement.freed), (2, vec![(0, 7)]));
    assert_eq!(outbox, Outbox::default());
}

#[test]
fn overflow_drops_the_oldest_unleased_batch() {
    for (on_full, bytes, expected, evicted) in [
        (OnFull::DropOldest, 100, Some(0), vec![1]),
        (OnFull::DropOldest, 900, Some(0), vec![1, 2]),
        (OnFull::DropOldest, 1_001, None, vec![]),
        (OnFull::DropNewest, 100, None, vec![]),
    ] {
        let mut outbox = waiting(&[1, 1, 1]);
        let mut settlement = Settlement::default();
        let limits = OutboxLimits { on_full, ..limits() };
        let slot = outbox.reserve(header(9, 1, bytes), lease(B, 5), &limits, &mut settlement);
        let gone: Vec<u128> = settlement.evicted.iter().map(|evicted| evicted.batch.id).collect();
        assert_eq!((slot, gone), (expected, evicted), "{on_full:?} {bytes}");
        assert!(outbox.bytes() <= 1_000 && outbox.batches.len() <= 3);
    }

    let mut leased = waiting(&[1, 1, 1]);
    leased.lease_next(lease(A, 5)).unwrap();
    let mut settlement = Settlement::default();
    assert!(leased.reserve(header(9, 1, 100), lease(B, 5), &limits(), &mut settlement).is_some());
    assert_eq!(ids(&leased), [1, 3, 9], "the oldest is in flight, so the next one is evicted");
}

#[test]
fn expired_reservation_is_freed_and_cannot_be_published() {
    let mut outbox = Outbox::default();
    let mut settlement = Settlement::default();
    outbox.reserve(header(7, 2, 100), lease(A, 0), &limits(), &mut settlement).unwrap();
    assert!(!outbox.tidy(9_999, 100_000, &mut settlement), "its lease still runs");
    assert!(outbox.tidy(10_000, 100_000, &mut settlement));
    assert_eq!(
        (settlement.freed, settlement.evicted),
        (vec![(0, 7)], vec![]),
        "its events still count in their buffer"
    );
    assert_eq!(outbox.publish(7, A, SendPolicy::IfAllowed, 10_001), None);
}

#[test]
fn backlog_leaves_calls_for_fresh_batches() {
    let limits = OutboxLimits { max_batches: 100, max_bytes: 100_000, ..limits() };
    let mut settlement = Settlement::default();
    let mut outbox = Outbox::default();
    for id in 1..=20 {
        outbox.reserve(header(id, 1, 100), lease(A, 0), &limits, &mut settlement).unwrap();
        outbox.publish(id, A, SendPolicy::Never, 0).unwrap();
    }
    let leased: Vec<u128> =
        std::iter::from_fn(|| outbox.lease_next(lease(B, 1))).map(|batch| batch.id).take(20).collect();
    assert_eq!(leased, [1, 2, 3, 4]);
    let fresh: Vec<Option<bool>> = (21..=25)
        .map(|id| {
            outbox.reserve(header(id, 1, 100), lease(A, 2), &limits, &mut settlement).unwrap();
            outbox.publish(id, A, SendPolicy::IfAllowed, 2)
        })
        .collect();
    assert_eq!(fresh, [Some(true), Some(true), Some(true), Some(true), Some(false)], "8 calls in all");
}

#[test]
fn expired_or_future_lease_is_taken_over() {
    for (now_ms, taken) in [(9_999, false), (10_000, true), (-5_000, false), (-5_001, true)] {
        let mut outbox = waiting(&[1]);
        outbox.lease_next(lease(A, 0)).unwrap();
        assert_eq!(outbox.lease_next(lease(B, now_ms)).is_some(), taken, "{now_ms}");
    }
}

#[test]
fn failing_service_gets_one_probe_per_back_off() {
    let mut outbox = waiting(&[1, 1]);
    outbox.lease_next(lease(A, 0)).unwrap();
    assert!(outbox.keep(&call(1, A, 0, 0..1), 100, wait));
    assert_eq!((outbox.failures, outbox.retry_at_ms), (1, 1_100));
    assert_eq!(outbox.lease_next(lease(B, 1_099)), None);
    assert_eq!(outbox.lease_next(lease(B, 1_100)).map(|batch| batch.id), Some(2), "the one with the fewest attempts");
    assert_eq!(outbox.lease_next(lease(A, 1_100)), None, "one at a time");
    assert!(!outbox.keep(&call(1, A, 50, 0..1), 1_150, wait), "it was sent before the first failure");
    assert_eq!((outbox.failures, outbox.retry_at_ms), (1, 1_100), "no news");
    assert!(outbox.keep(&call(2, B, 1_100, 0..1), 1_200, wait));
    assert_eq!((outbox.failures, outbox.retry_at_ms), (2, 2_200));
    outbox.lease_next(lease(A, 2_200)).unwrap();
    assert!(outbox.mark_delivered(&call(1, A, 0, 0..1), &mut Settlement::default()));
    assert!(!outbox.is_down());
}

#[test]
fn clock_set_back_neither_stops_nor_floods_the_service() {
    let mut outbox = waiting(&[1]);
    outbox.lease_next(lease(A, 1_000_000)).unwrap();
    assert!(outbox.keep(&call(1, A, 1_000_000, 0..1), 1_000_100, wait));
    // Now it is 1,000 seconds earlier.
    outbox.lease_next(lease(B, 100)).unwrap();
    assert!(outbox.keep(&call(1, B, 100, 0..1), 200, wait));
    assert_eq!((outbox.failures, outbox.retry_at_ms), (2, 1_200), "this failure counts");
    assert_eq!(outbox.lease_next(lease(B, 1_199)), None);
}

#[test]
fn part_that_is_too_large_is_halved_down_to_one_event() {
    let mut outbox = waiting(&[5]);
    let mut settlement = Settlement::default();
    let mut sent = Vec::new();
    for now_ms in 0..100 {
        let Some(batch) = outbox.lease_next(lease(A, now_ms)) else { break };
        sent.push(batch.part());
        // The service takes two events at once, but never the last one.
        match batch.part().len() {
            _ if batch.part() == (4..5) => outbox.split(&call(1, A, now_ms, batch.part()), &mut settlement),
            3.. => outbox.split(&call(1, A, now_ms, batch.part()), &mut settlement),
            _ => outbox.mark_delivered(&call(1, A, now_ms, batch.part()), &mut settlement),
        };
    }
    assert_eq!(sent, [0..5, 0..3, 0..2, 2..4, 4..5]);
    assert_eq!((settlement.delivered, settlement.rejected, outbox.batches.len()), (4, 1, 0));
}

#[test]
fn late_answer_does_not_end_a_newer_lease() {
    let mut outbox = waiting(&[4]);
    let mut settlement = Settlement::default();
    outbox.lease_next(lease(A, 0)).unwrap();
    outbox.lease_next(lease(A, 10_000)).unwrap();
    assert!(!outbox.keep(&call(1, A, 0, 0..1), 10_001, wait));
    assert!(!outbox.split(&call(1, A, 0, 0..4), &mut settlement));
    assert!(outbox.is_held(1, A), "the second call is in flight");
    assert!(outbox.mark_delivered(&call(1, A, 0, 0..4), &mut settlement), "a late acknowledgement still counts");
    assert!(!outbox.mark_delivered(&call(1, A, 0, 0..4), &mut settlement));
    assert_eq!(settlement.delivered, 4);
}

#[test]
fn events_join_only_untouched_batches() {
    let batch_limits = BatchLimits { max_events: 10, max_bytes: 400, max_age_ms: 1_000 };
    let down = |outbox: &mut Outbox| outbox.failures = 1;
    type Prepare = fn(&mut Outbox);
    let cases: [(&str, Prepare, u32, u32, bool); 7] = [
        ("waits", |_| {}, 2, 100, true),
        ("too many events", |_| {}, 9, 100, false),
        ("too many bytes", |_| {}, 2, 300, false),
        ("in flight", |outbox| outbox.batches[0].lease = Some(lease(A, 0)), 2, 100, false),
        ("sent by a VM that crashed", |outbox| outbox.batches[0].lease = Some(lease(A, -50_000)), 2, 100, false),
        ("tried before", |outbox| outbox.batches[0].tries = 1, 2, 100, false),
        ("split", |outbox| outbox.batches[0].part_max = 1, 2, 100, false),
    ];
    for (case, prepare, events, bytes, expected) in cases {
        let mut outbox = waiting(&[2]);
        down(&mut outbox);
        prepare(&mut outbox);
        let joined = outbox.join(header(9, events, bytes), lease(B, 5), &limits(), &batch_limits);
        assert_eq!(joined.map(|batch| batch.id), expected.then_some(1), "{case}");
    }

    let mut outbox = waiting(&[2]);
    assert_eq!(outbox.join(header(9, 2, 100), lease(B, 5), &limits(), &batch_limits), None, "it does not have to wait");
    down(&mut outbox);
    outbox.join(header(9, 2, 100), lease(B, 5), &limits(), &batch_limits).unwrap();
    let full = OutboxLimits { max_bytes: 150, ..limits() };
    assert!(!outbox.publish_joined(1, B, header(9, 2, 100), &full), "another batch took the space");
    assert!(outbox.publish_joined(1, B, header(9, 2, 100), &limits()));
    assert_eq!((outbox.queued_events(), outbox.queued_bytes(), outbox.batches[0].part()), (4, 200, 0..4));
    assert!(!outbox.publish_joined(1, B, header(9, 2, 100), &limits()), "the lease has ended");
}

#[test]
fn lease_can_be_released() {
    let mut outbox = waiting(&[1]);
    outbox.lease_next(lease(A, 0)).unwrap();
    assert!(!outbox.release(1, B) && outbox.release(1, A) && !outbox.release(1, A));
    assert_eq!(ids(&outbox), [1], "a batch stays");
    outbox.reserve(header(2, 1, 1), lease(A, 0), &limits(), &mut Settlement::default()).unwrap();
    assert!(outbox.release(2, A));
    assert_eq!(ids(&outbox), [1], "a reservation is removed");
}

#[test]
fn expired_batches_are_evicted_in_steps_unless_leased() {
    let limits = OutboxLimits { max_batches: 100, max_bytes: 100_000, ..limits() };
    let mut outbox = Outbox::default();
    for id in 1..=20 {
        outbox.reserve(header(id, 2, 10), lease(A, 0), &limits, &mut Settlement::default()).unwrap();
        outbox.publish(id, A, SendPolicy::Never, 0).unwrap();
    }
    outbox.lease_next(lease(A, 99_000)).unwrap();
    let mut settlement = Settlement::default();
    assert!(!outbox.tidy(99_999, 100_000, &mut settlement));
    assert!(outbox.tidy(100_000, 100_000, &mut settlement));
    assert_eq!((settlement.evicted.len(), outbox.batches.len()), (EXPIRED_PER_TIDY_MAX, 20 - EXPIRED_PER_TIDY_MAX));
    assert!(settlement.evicted.iter().all(|evicted| evicted.reason == EvictionReason::Expired));
    assert!(outbox.tidy(100_000, 100_000, &mut settlement));
    assert_eq!(ids(&outbox), [1], "it is in flight");
}

#[test]
fn buffer_report_expires() {
    let mut outbox = Outbox::default();
    assert!(!outbox.report_buffer(A, 0, 0, 0), "an empty buffer needs no report");
    assert!(
        outbox.report_buffer(A, 3, 30, 0)
            && outbox.report_buffer(B, 4, 40, 1_000)
            && outbox.report_buffer(A, 5, 50, 2_000)
    );
    assert_eq!((outbox.queued_events(), outbox.queued_bytes()), (9, 90));
    assert!(outbox.tidy(1_000 + BUFFER_REPORT_TTL_MS, 1, &mut Settlement::default()));
    assert_eq!(outbox.queued_events(), 5, "the report of B expired");
    assert!(outbox.report_buffer(A, 0, 0, 6_000));
    assert_eq!(outbox, Outbox::default());
    outbox.report_buffer(A, 1, 1, 1_000_000);
    assert!(outbox.tidy(0, 1, &mut Settlement::default()), "a report from the future is invalid");

    for id in 0..BUFFER_REPORTS_MAX as u64 {
        assert!(outbox.report_buffer(id, 1, 1, 0));
    }
    assert!(!outbox.report_buffer(u64::MAX, 1, 1, 0) && outbox.report_buffer(0, 2, 2, 0));
}

#[test]
fn lost_batch_is_removed_and_counted() {
    let mut outbox = waiting(&[3]);
    outbox.lease_next(lease(A, 0)).unwrap();
    let mut settlement = Settlement::default();
    assert!(
        !outbox.mark_lost(&call(1, B, 0, 0..3), &mut settlement)
            && outbox.mark_lost(&call(1, A, 0, 0..3), &mut settlement)
    );
    assert_eq!((settlement.lost, outbox.batches.len()), (3, 0));
}

#[test]
fn damaged_index_is_not_read() {
    let mut outbox = waiting(&[1, 2]);
    outbox.lease_next(lease(A, 7)).unwrap();
    outbox.keep(&call(2, B, 7, 0..1), 8, wait);
    outbox.report_buffer(B, 1, 2, 3);
    for outbox in [outbox, Outbox::default()] {
        let bytes = outbox.encode();
        assert_eq!(Outbox::decode(&bytes), Some(outbox));
        for end in 0..bytes.len() {
            assert_eq!(Outbox::decode(&bytes[..end]), None, "cut at {end}");
        }
        assert_eq!(Outbox::decode(&[&bytes[..], b"x"].concat()), None);
    }
    for garbage in [&b"ESo\x02"[..], b"{}", &[0xff; 200]] {
        assert_eq!(Outbox::decode(garbage), None);
    }
    // A count that exceeds the bytes ends the reading, and costs no memory.
    assert_eq!(Outbox::decode(&[&b"ESo\x01"[..], &[0xff; 28]].concat()), None);
}

#[test]
fn stored_form_is_pinned() {
    let lease = Some(Lease { holder: 8, since_ms: 9, until_ms: 10 });
    let leased = Batch {
        id: 0x0102,
        slot: 3,
        events: 4,
        bytes: 5,
        sealed_at_ms: 6,
        next: 1,
        part_max: 2,
        tries: 7,
        written: true,
        lease,
    };
    let reserved = Batch { id: u128::MAX, slot: 0, written: false, lease: None, ..leased.clone() };
    let outbox = Outbox {
        failures: 1,
        retry_at_ms: 2,
        failed_at_ms: -1,
        batches: vec![leased, reserved],
        buffers: vec![BufferReport { vm: 11, events: 12, bytes: 13, until_ms: 14 }],
    };
    let hex = "45536f01 01000000 0200000000000000 ffffffffffffffff 02000000 \
               02010000000000000000000000000000 03000000 04000000 05000000 01000000 02000000 07000000 \
               0600000000000000 01 0800000000000000 0900000000000000 0a00000000000000 \
               ffffffffffffffffffffffffffffffff 00000000 04000000 05000000 01000000 02000000 07000000 \
               0600000000000000 00 0000000000000000 0000000000000080 0000000000000080 \
               01000000 0b00000000000000 0c000000 0d000000 0e00000000000000";
    assert_stored(&outbox, hex);
}
