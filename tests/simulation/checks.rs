//! Checks at the end of a callback, and at the end of a run, when nothing goes wrong any more.

use crate::books::{Books, EMITTED, NAMES, OVERFLOW, VmBook};
use crate::host::Process;
use crate::scenario::{PLUGIN, RETRY_AFTER_S_MAX, Scenario};
use crate::tamper;
use edgesplit_filter::events::outbox::{Batch, Outbox};

/// Failed writes after which a VM may leave a change for the next tick.
const CAS_TRIES_MAX: u32 = 16;

/// How long after the last fault the outbox is empty and the experiments are in force, in milliseconds: a lease that was
/// just taken, the longest wait, then every event in a call of its own, four calls at a time. Fresh events come meanwhile.
pub fn recovery_ms(scenario: &Scenario, index: &Outbox, buffered: usize) -> u64 {
    let wait_ms = scenario.backoff_max_ms.max(RETRY_AFTER_S_MAX * 1_000);
    let events: u64 = index.batches.iter().map(|batch| u64::from(batch.left())).sum::<u64>() + buffered as u64;
    let config_ms = scenario.refresh_ms + scenario.timeout_ms + 1_000;
    let skew_ms = 5_000;
    let events_ms = scenario.lease_ms + wait_ms + scenario.timeout_ms + events * 30 / 4;
    config_ms.max(events_ms) + skew_ms + 10_000
}

/// How long fresh events come after the last fault.
pub const FRESH_MS: u64 = 4_000;

impl Books {
    /// A VM ended a job in peace.
    pub fn finished(&mut self, scenario: &Scenario, process: &Process, vm: u64, now_us: u64) -> Result<(), String> {
        let Some(mut book) = self.vms.remove(&vm) else { return Ok(()) };
        let result = self.finished_book(scenario, process, vm, now_us, &mut book);
        self.vms.insert(vm, book);
        result
    }

    fn finished_book(
        &mut self,
        scenario: &Scenario,
        process: &Process,
        vm: u64,
        now_us: u64,
        book: &mut VmBook,
    ) -> Result<(), String> {
        if matches!(book.job, "request" | "response") {
            return Ok(());
        }
        book.drop_evicted();
        self.dropped_before_the_outbox(scenario, book)?;
        if book.counted != book.flushed {
            let (counted, flushed) = (book.counted, book.flushed);
            return Err(format!("vm {vm}: {NAMES:?} are {counted:?}, and {flushed:?} was handed over"));
        }
        for grant in std::mem::take(&mut book.grants) {
            let batch = self.index.batches.iter().find(|batch| batch.id == grant.part.batch);
            let holds = batch.is_some_and(|batch| batch.lease.is_some_and(|lease| lease.holder == book.code));
            if holds && book.stale_in_job < CAS_TRIES_MAX && book.job != "shut_down" {
                return Err(format!("vm {vm} leased batch {:x} and did not send it", grant.part.batch));
            }
        }
        for verdict in std::mem::take(&mut book.verdicts) {
            let batch = self.index.batches.iter().find(|batch| batch.id == verdict.part.batch);
            let open = batch.is_some_and(|batch| {
                let mine = batch.lease.filter(|lease| lease.holder == book.code);
                batch.part() == verdict.part.range && mine.is_some_and(|lease| lease.since_ms == verdict.sent_ms)
            });
            if open && book.stale_in_job < CAS_TRIES_MAX {
                return Err(format!("vm {vm} did not write down that it heard {verdict:?}"));
            }
            if open {
                book.verdicts.push(verdict);
            }
        }
        for (slot, batch) in std::mem::take(&mut book.to_clear) {
            if self.slot_holds(process, slot, batch) && book.stale_in_job == 0 {
                return Err(format!("vm {vm} freed batch {batch:x} and left it in slot {slot}"));
            }
        }
        if book.job == "tick" {
            self.nothing_is_too_old(scenario, book.now_ms, now_us)?;
        }
        Ok(())
    }

    /// Batches that are too old leave the outbox soon: so many in a second.
    fn nothing_is_too_old(&mut self, scenario: &Scenario, now_ms: i64, now_us: u64) -> Result<(), String> {
        let Books { index, too_old, .. } = self;
        let is_old = |batch: &&Batch| now_ms - batch.sealed_at_ms >= scenario.outbox_age_ms as i64;
        let old: Vec<u128> = index.batches.iter().filter(is_old).map(|batch| batch.id).collect();
        too_old.retain(|id, _| old.contains(id));
        // While its lease runs a batch stays; a VM may sleep through its turn.
        let patience_us = (scenario.lease_ms + 5_000 + 1_000 * old.len() as u64 / 16) * 1_000 + 14_000_000;
        for id in old {
            let since_us = *too_old.entry(id).or_insert(now_us);
            if now_us - since_us > patience_us {
                return Err(format!("batch {id:x} is too old and stays in the outbox"));
            }
        }
        Ok(())
    }

    /// What a VM dropped because there was no room for it shows only in its count.
    fn dropped_before_the_outbox(&mut self, scenario: &Scenario, book: &mut VmBook) -> Result<(), String> {
        let dropped = book.flushed[OVERFLOW] - book.counted[OVERFLOW];
        if dropped <= 0 {
            return Ok(());
        }
        let (batches, bytes) = book.peak;
        let others = self.vms.len() + 1;
        let was_full = batches + others >= scenario.outbox_batches
            || bytes + (others + 1) * scenario.batch_bytes.max(3_000) >= scenario.outbox_bytes;
        if !was_full || dropped as usize > book.buffer.len() {
            return Err(format!("{dropped} events were dropped for want of room, and there was room"));
        }
        book.counted[OVERFLOW] += dropped;
        book.buffer.drain(..dropped as usize);
        Ok(())
    }

    /// At rest every event is accounted for, and nothing is left over.
    pub fn at_rest(&mut self, process: &Process) -> Result<(), String> {
        let Outbox { batches, vms, failures, .. } = &self.index;
        if !batches.is_empty() {
            let (first, len) = (batches.first(), batches.len());
            return Err(format!("the outbox is not empty in time: {len} batches, {failures} failures, {first:?}"));
        }
        if !vms.is_empty() || self.vms.values().any(|book| !book.buffer.is_empty()) {
            return Err(format!("buffers are not empty in time: {vms:?}"));
        }
        let mut total = self.past;
        for (at, total) in total.iter_mut().enumerate() {
            *total += self.vms.values().map(|book| book.counted[at]).sum::<i64>();
            let counted = process.metric(NAMES[at]);
            if counted != *total - self.uncounted[at] {
                let expected = *total - self.uncounted[at];
                return Err(format!("{} is {counted}, and should be {expected}", NAMES[at]));
            }
        }
        let gone: i64 = total[EMITTED + 1..].iter().sum();
        if total[EMITTED] != gone + self.buried {
            let buried = self.buried;
            return Err(format!("{} events were emitted, {gone} settled, {buried} died with VMs", total[EMITTED]));
        }
        for (name, gauge) in ["outbox.queued_events", "outbox.queued_bytes"].map(|name| (name, process.metric(name))) {
            if gauge != 0 {
                return Err(format!("{name} is {gauge} at rest"));
            }
        }
        for (key, (value, _)) in &process.shared {
            let Some(slot) = tamper::slot(key).filter(|_| !value.is_empty()) else { continue };
            if !self.excused.iter().any(|(excused, batch)| *excused == slot && self.slot_holds(process, slot, *batch)) {
                return Err(format!("slot {slot} holds {} bytes that are nobody's", value.len()));
            }
        }
        let known = format!("edgesplit/{PLUGIN}/");
        if let Some(key) = process.shared.keys().find(|key| !key.starts_with(&known)) {
            return Err(format!("{key} is none of the filter's keys"));
        }
        for (at, total) in total.iter().enumerate() {
            self.totals[at] += total;
        }
        Ok(())
    }
}
