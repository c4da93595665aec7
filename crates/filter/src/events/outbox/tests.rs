use super::*;

const A: u64 = 1;
const B: u64 = 2;

fn limits() -> OutboxLimits {
    OutboxLimits { max_bytes: 1_000, max_batches: 3, max_age_ms: 100_000, on_full: OnFull::DropOldest }
}

fn lease(holder: u64, since_ms: i64) -> Lease {
    Lease { holder, since_ms, until_ms: since_ms + 10_000 }
}

fn sealing(id: u128, events: u32, bytes: u32) -> Sealing {
    Sealing { id, events, bytes }
}

/// An outbox with batches of `events` events each that wait, with the ids 1, 2, …
fn waiting(events: &[u32]) -> Outbox {
    let mut outbox = Outbox::default();
    for (id, events) in (1..).zip(events) {
        outbox.reserve(sealing(id, *events, 100), lease(A, 0), &limits(), &mut Settled::default()).unwrap();
        assert_eq!(outbox.publish(id, A, Sending::Not, 0), Some(false));
    }
    outbox
}

fn ids(outbox: &Outbox) -> Vec<u128> {
    outbox.batches.iter().map(|batch| batch.id).collect()
}

fn wait(_failures: u32) -> u64 {
    1_000
}

#[test]
fn a_batch_is_reserved_written_and_sent_by_one_vm() {
    let mut outbox = Outbox::default();
    let mut settled = Settled::default();
    assert_eq!(outbox.reserve(sealing(7, 2, 100), lease(A, 0), &limits(), &mut settled), Some(0));
    assert_eq!((outbox.queued_events(), outbox.queued_bytes()), (0, 0), "nothing is in it yet");
    assert_eq!(outbox.publish(7, B, Sending::IfAllowed, 0), None, "it is another VM's");
    assert_eq!(outbox.publish(7, A, Sending::IfAllowed, 0), Some(true));
    assert_eq!((outbox.queued_events(), outbox.queued_bytes()), (2, 100));
    assert_eq!(outbox.lease_next(lease(B, 9_999)), None, "it is on its way");
    assert!(outbox.delivered(7, A, &(0..2), &mut settled));
    assert_eq!((settled.delivered, settled.freed), (2, vec![(0, 7)]));
    assert_eq!(outbox, Outbox::default());
}

#[test]
fn bounds_hold_and_the_oldest_that_nobody_sends_goes() {
    for (on_full, bytes, expected, evicted) in [
        (OnFull::DropOldest, 100, Some(0), vec![1]),
        (OnFull::DropOldest, 900, Some(0), vec![1, 2]),
        (OnFull::DropOldest, 1_001, None, vec![]),
        (OnFull::DropNewest, 100, None, vec![]),
    ] {
        let mut outbox = waiting(&[1, 1, 1]);
        let mut settled = Settled::default();
        let limits = OutboxLimits { on_full, ..limits() };
        let slot = outbox.reserve(sealing(9, 1, bytes), lease(B, 5), &limits, &mut settled);
        let gone: Vec<u128> = settled.evicted.iter().map(|evicted| evicted.batch.id).collect();
        assert_eq!((slot, gone), (expected, evicted), "{on_full:?} {bytes}");
        assert!(outbox.bytes() <= 1_000 && outbox.batches.len() <= 3);
    }

    let mut leased = waiting(&[1, 1, 1]);
    leased.lease_next(lease(A, 5)).unwrap();
    let mut settled = Settled::default();
    assert!(leased.reserve(sealing(9, 1, 100), lease(B, 5), &limits(), &mut settled).is_some());
    assert_eq!(ids(&leased), [1, 3, 9], "the oldest is on its way, the next one goes");
}

#[test]
fn a_lost_reservation_is_not_published_and_its_slot_is_cleared() {
    let mut outbox = Outbox::default();
    let mut settled = Settled::default();
    outbox.reserve(sealing(7, 2, 100), lease(A, 0), &limits(), &mut settled).unwrap();
    assert!(!outbox.tidy(9_999, 100_000, &mut settled), "its lease still runs");
    assert!(outbox.tidy(10_000, 100_000, &mut settled));
    assert_eq!((settled.freed, settled.evicted), (vec![(0, 7)], vec![]), "its events are counted where they came from");
    assert_eq!(outbox.publish(7, A, Sending::IfAllowed, 10_001), None);
}

#[test]
fn what_waited_leaves_room_for_what_is_fresh() {
    let limits = OutboxLimits { max_batches: 100, max_bytes: 100_000, ..limits() };
    let mut settled = Settled::default();
    let mut outbox = Outbox::default();
    for id in 1..=20 {
        outbox.reserve(sealing(id, 1, 100), lease(A, 0), &limits, &mut settled).unwrap();
        outbox.publish(id, A, Sending::Not, 0).unwrap();
    }
    let leased: Vec<u128> =
        std::iter::from_fn(|| outbox.lease_next(lease(B, 1))).map(|batch| batch.id).take(20).collect();
    assert_eq!(leased, [1, 2, 3, 4]);
    let fresh: Vec<Option<bool>> = (21..=25)
        .map(|id| {
            outbox.reserve(sealing(id, 1, 100), lease(A, 2), &limits, &mut settled).unwrap();
            outbox.publish(id, A, Sending::IfAllowed, 2)
        })
        .collect();
    assert_eq!(fresh, [Some(true), Some(true), Some(true), Some(true), Some(false)], "8 calls in all");
}

#[test]
fn a_lease_that_ran_out_or_is_from_the_future_is_taken_over() {
    for (now_ms, taken) in [(9_999, false), (10_000, true), (-5_000, false), (-5_001, true)] {
        let mut outbox = waiting(&[1]);
        outbox.lease_next(lease(A, 0)).unwrap();
        assert_eq!(outbox.lease_next(lease(B, now_ms)).is_some(), taken, "{now_ms}");
    }
}

#[test]
fn while_the_service_fails_there_is_one_probe_per_back_off() {
    let mut outbox = waiting(&[1, 1]);
    outbox.lease_next(lease(A, 0)).unwrap();
    assert!(outbox.kept(1, A, 0, 100, wait));
    assert_eq!((outbox.failures, outbox.retry_at_ms), (1, 1_100));
    assert_eq!(outbox.lease_next(lease(B, 1_099)), None);
    assert_eq!(outbox.lease_next(lease(B, 1_100)).map(|batch| batch.id), Some(2), "the one tried least often");
    assert_eq!(outbox.lease_next(lease(A, 1_100)), None, "one at a time");
    assert!(!outbox.kept(1, A, 50, 1_150, wait), "it was sent before the first failure");
    assert_eq!((outbox.failures, outbox.retry_at_ms), (1, 1_100), "no news");
    assert!(outbox.kept(2, B, 1_100, 1_200, wait));
    assert_eq!((outbox.failures, outbox.retry_at_ms), (2, 2_200));
    outbox.lease_next(lease(A, 2_200)).unwrap();
    assert!(outbox.delivered(1, A, &(0..1), &mut Settled::default()));
    assert!(!outbox.is_down());
}

#[test]
fn a_clock_that_was_set_back_neither_stops_nor_floods_the_service() {
    let mut outbox = waiting(&[1]);
    outbox.lease_next(lease(A, 1_000_000)).unwrap();
    assert!(outbox.kept(1, A, 1_000_000, 1_000_100, wait));
    // Now it is 1,000 seconds earlier.
    outbox.lease_next(lease(B, 100)).unwrap();
    assert!(outbox.kept(1, B, 100, 200, wait));
    assert_eq!((outbox.failures, outbox.retry_at_ms), (2, 1_200), "what failed now is news");
    assert_eq!(outbox.lease_next(lease(B, 1_199)), None);
}

#[test]
fn a_part_that_is_too_large_is_halved_down_to_one_event() {
    let mut outbox = waiting(&[5]);
    let mut settled = Settled::default();
    let mut sent = Vec::new();
    for now_ms in 0..100 {
        let Some(batch) = outbox.lease_next(lease(A, now_ms)) else { break };
        sent.push(batch.part());
        // The service takes two at once, and the last one never.
        match batch.part().len() {
            _ if batch.part() == (4..5) => outbox.too_large(1, A, &batch.part(), now_ms, &mut settled),
            3.. => outbox.too_large(1, A, &batch.part(), now_ms, &mut settled),
            _ => outbox.delivered(1, A, &batch.part(), &mut settled),
        };
    }
    assert_eq!(sent, [0..5, 0..3, 0..2, 2..4, 4..5]);
    assert_eq!((settled.delivered, settled.rejected, outbox.batches.len()), (4, 1, 0));
}

#[test]
fn a_late_answer_ends_no_lease_but_its_own() {
    let mut outbox = waiting(&[4]);
    let mut settled = Settled::default();
    outbox.lease_next(lease(A, 0)).unwrap();
    outbox.lease_next(lease(A, 10_000)).unwrap();
    assert!(!outbox.kept(1, A, 0, 10_001, wait));
    assert!(!outbox.too_large(1, A, &(0..4), 0, &mut settled));
    assert!(outbox.is_held(1, A), "the second call is on its way");
    assert!(outbox.delivered(1, A, &(0..4), &mut settled), "but what the service has it has");
    assert!(!outbox.delivered(1, A, &(0..4), &mut settled));
    assert_eq!(settled.delivered, 4);
}

#[test]
fn events_join_only_what_nobody_ever_sent() {
    let batch_limits = BatchLimits { max_events: 10, max_bytes: 400, max_age_ms: 1_000 };
    let down = |outbox: &mut Outbox| outbox.failures = 1;
    type Prepare = fn(&mut Outbox);
    let cases: [(&str, Prepare, u32, u32, bool); 7] = [
        ("waits", |_| {}, 2, 100, true),
        ("too many events", |_| {}, 9, 100, false),
        ("too many bytes", |_| {}, 2, 300, false),
        ("on its way", |outbox| outbox.batches[0].lease = Some(lease(A, 0)), 2, 100, false),
        ("sent by a VM that died", |outbox| outbox.batches[0].lease = Some(lease(A, -50_000)), 2, 100, false),
        ("tried in vain", |outbox| outbox.batches[0].tries = 1, 2, 100, false),
        ("split", |outbox| outbox.batches[0].part_max = 1, 2, 100, false),
    ];
    for (case, prepare, events, bytes, expected) in cases {
        let mut outbox = waiting(&[2]);
        down(&mut outbox);
        prepare(&mut outbox);
        let joined = outbox.join(sealing(9, events, bytes), lease(B, 5), &limits(), &batch_limits);
        assert_eq!(joined.map(|batch| batch.id), expected.then_some(1), "{case}");
    }

    let mut outbox = waiting(&[2]);
    assert_eq!(outbox.join(sealing(9, 2, 100), lease(B, 5), &limits(), &batch_limits), None, "it need not wait");
    down(&mut outbox);
    outbox.join(sealing(9, 2, 100), lease(B, 5), &limits(), &batch_limits).unwrap();
    let full = OutboxLimits { max_bytes: 150, ..limits() };
    assert!(!outbox.joined(1, B, sealing(9, 2, 100), &full), "the room was taken meanwhile");
    assert!(outbox.joined(1, B, sealing(9, 2, 100), &limits()));
    assert_eq!((outbox.queued_events(), outbox.queued_bytes(), outbox.batches[0].part()), (4, 200, 0..4));
    assert!(!outbox.joined(1, B, sealing(9, 2, 100), &limits()), "the lease is given back");
}

#[test]
fn a_lease_can_be_given_back() {
    let mut outbox = waiting(&[1]);
    outbox.lease_next(lease(A, 0)).unwrap();
    assert!(!outbox.cancel(1, B) && outbox.cancel(1, A) && !outbox.cancel(1, A));
    assert_eq!(ids(&outbox), [1], "a batch stays");
    outbox.reserve(sealing(2, 1, 1), lease(A, 0), &limits(), &mut Settled::default()).unwrap();
    assert!(outbox.cancel(2, A));
    assert_eq!(ids(&outbox), [1], "a reservation goes");
}

#[test]
fn what_is_too_old_leaves_bit_by_bit_unless_it_is_on_its_way() {
    let limits = OutboxLimits { max_batches: 100, max_bytes: 100_000, ..limits() };
    let mut outbox = Outbox::default();
    for id in 1..=20 {
        outbox.reserve(sealing(id, 2, 10), lease(A, 0), &limits, &mut Settled::default()).unwrap();
        outbox.publish(id, A, Sending::Not, 0).unwrap();
    }
    outbox.lease_next(lease(A, 99_000)).unwrap();
    let mut settled = Settled::default();
    assert!(!outbox.tidy(99_999, 100_000, &mut settled));
    assert!(outbox.tidy(100_000, 100_000, &mut settled));
    assert_eq!((settled.evicted.len(), outbox.batches.len()), (EXPIRED_PER_TIDY_MAX, 20 - EXPIRED_PER_TIDY_MAX));
    assert!(settled.evicted.iter().all(|evicted| evicted.why == Why::Expired));
    assert!(outbox.tidy(100_000, 100_000, &mut settled));
    assert_eq!(ids(&outbox), [1], "it is on its way");
}

#[test]
fn a_vm_s_word_about_its_buffer_counts_for_a_while() {
    let mut outbox = Outbox::default();
    assert!(!outbox.buffered(A, 0, 0, 0), "nothing to say, nothing to write");
    assert!(outbox.buffered(A, 3, 30, 0) && outbox.buffered(B, 4, 40, 1_000) && outbox.buffered(A, 5, 50, 2_000));
    assert_eq!((outbox.queued_events(), outbox.queued_bytes()), (9, 90));
    assert!(outbox.tidy(1_000 + VM_WORD_MS, 1, &mut Settled::default()));
    assert_eq!(outbox.queued_events(), 5, "B died, or has forgotten to say that it has none");
    assert!(outbox.buffered(A, 0, 0, 6_000));
    assert_eq!(outbox, Outbox::default());
    outbox.buffered(A, 1, 1, 1_000_000);
    assert!(outbox.tidy(0, 1, &mut Settled::default()), "a word from the future is none");

    for id in 0..VMS_MAX as u64 {
        assert!(outbox.buffered(id, 1, 1, 0));
    }
    assert!(!outbox.buffered(u64::MAX, 1, 1, 0) && outbox.buffered(0, 2, 2, 0));
}

#[test]
fn a_batch_whose_slot_holds_something_else_is_lost_and_counted() {
    let mut outbox = waiting(&[3]);
    outbox.lease_next(lease(A, 0)).unwrap();
    let mut settled = Settled::default();
    assert!(!outbox.lost(1, B, &mut settled) && outbox.lost(1, A, &mut settled));
    assert_eq!((settled.lost, outbox.batches.len()), (3, 0));
}

#[test]
fn the_index_survives_its_encoding_and_damage_is_found() {
    assert_eq!(Outbox::decode(b""), Some(Outbox::default()));
    let mut outbox = waiting(&[1, 2]);
    outbox.lease_next(lease(A, 7)).unwrap();
    outbox.kept(2, B, 7, 8, wait);
    outbox.buffered(B, 1, 2, 3);
    for outbox in [outbox, Outbox::default()] {
        let bytes = outbox.encode();
        assert_eq!(Outbox::decode(&bytes), Some(outbox));
        for end in 1..bytes.len() {
            assert_eq!(Outbox::decode(&bytes[..end]), None, "cut at {end}");
        }
        assert_eq!(Outbox::decode(&[&bytes[..], b"x"].concat()), None);
    }
    for garbage in [&b"ESo\x02"[..], b"{}", &[0xff; 200]] {
        assert_eq!(Outbox::decode(garbage), None);
    }
    // A count that promises more than there is ends the reading, and costs no memory.
    assert_eq!(Outbox::decode(&[&b"ESo\x01"[..], &[0xff; 28]].concat()), None);
}
