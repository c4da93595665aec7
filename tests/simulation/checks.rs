//! Checks at the end of a callback, and at the end of a run, when nothing goes wrong any more.

use crate::fault_injection;
use crate::host::Process;
use crate::ledger::{EMITTED, Ledger, NAMES, OVERFLOW, VmAccount};
use crate::scenario::{PLUGIN, RETRY_AFTER_S_MAX, Scenario};
use edgesplit_filter::events::outbox::{Batch, Outbox};

/// Failed writes after which a VM may leave a change for the next tick.
const UPDATE_TRIES_MAX: u32 = 16;

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

impl Ledger {
    /// A VM ended a job in peace.
    pub fn finished(&mut self, scenario: &Scenario, process: &Process, vm: u64, now_us: u64) -> Result<(), String> {
        let Some(mut account) = self.vms.remove(&vm) else { return Ok(()) };
        let result = self.finished_account(scenario, process, vm, now_us, &mut account);
        self.vms.insert(vm, account);
        result
    }

    fn finished_account(
        &mut self,
        scenario: &Scenario,
        process: &Process,
        vm: u64,
        now_us: u64,
        account: &mut VmAccount,
    ) -> Result<(), String> {
        if matches!(account.job, "request" | "response") {
            return Ok(());
        }
        account.drop_evicted();
        self.dropped_before_the_outbox(scenario, account)?;
        if account.counted != account.flushed {
            let (counted, flushed) = (account.counted, account.flushed);
            return Err(format!("vm {vm}: {NAMES:?} are {counted:?}, and {flushed:?} was handed over"));
        }
        for grant in std::mem::take(&mut account.grants) {
            let batch = self.index.batches.iter().find(|batch| batch.id == grant.part.batch);
            let holds = batch.is_some_and(|batch| batch.lease.is_some_and(|lease| lease.holder == account.code));
            if holds && account.stale_in_job < UPDATE_TRIES_MAX && account.job != "shut_down" {
                return Err(format!("vm {vm} leased batch {:x} and did not send it", grant.part.batch));
            }
        }
        for result in std::mem::take(&mut account.heard) {
            let batch = self.index.batches.iter().find(|batch| batch.id == result.part.batch);
            let open = batch.is_some_and(|batch| {
                let mine = batch.lease.filter(|lease| lease.holder == account.code);
                batch.part() == result.part.range && mine.is_some_and(|lease| lease.since_ms == result.sent_ms)
            });
            if open && account.stale_in_job < UPDATE_TRIES_MAX {
                return Err(format!("vm {vm} did not write down that it heard {result:?}"));
            }
            if open {
                account.heard.push(result);
            }
        }
        for (slot, batch) in std::mem::take(&mut account.to_clear) {
            if self.slot_holds(process, slot, batch) && account.stale_in_job == 0 {
                return Err(format!("vm {vm} freed batch {batch:x} and left it in slot {slot}"));
            }
        }
        if account.job == "tick" {
            self.nothing_is_too_old(scenario, account.now_ms, now_us)?;
        }
        Ok(())
    }

    /// Batches that are too old leave the outbox soon: so many in a second.
    fn nothing_is_too_old(&mut self, scenario: &Scenario, now_ms: i64, now_us: u64) -> Result<(), String> {
        let Ledger { index, too_old, .. } = self;
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
    fn dropped_before_the_outbox(&mut self, scenario: &Scenario, account: &mut VmAccount) -> Result<(), String> {
        let dropped = account.flushed[OVERFLOW] - account.counted[OVERFLOW];
        if dropped <= 0 {
            return Ok(());
        }
        let (batches, bytes) = account.peak;
        let others = self.vms.len() + 1;
        let was_full = batches + others >= scenario.outbox_batches
            || bytes + (others + 1) * scenario.batch_bytes.max(3_000) >= scenario.outbox_bytes;
        if !was_full || dropped as usize > account.buffer.len() {
            return Err(format!("{dropped} events were dropped for want of room, and there was room"));
        }
        account.counted[OVERFLOW] += dropped;
        account.buffer.drain(..dropped as usize);
        Ok(())
    }

    /// At rest every event is accounted for, and nothing is left over.
    pub fn at_rest(&mut self, process: &Process) -> Result<(), String> {
        let Outbox { batches, buffers, failures, .. } = &self.index;
        if !batches.is_empty() {
            let (first, len) = (batches.first(), batches.len());
            return Err(format!("the outbox is not empty in time: {len} batches, {failures} failures, {first:?}"));
        }
        if !buffers.is_empty() || self.vms.values().any(|account| !account.buffer.is_empty()) {
            return Err(format!("buffers are not empty in time: {buffers:?}"));
        }
        let mut total = self.past;
        for (at, total) in total.iter_mut().enumerate() {
            *total += self.vms.values().map(|account| account.counted[at]).sum::<i64>();
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
            let Some(slot) = fault_injection::slot(key).filter(|_| !value.is_empty()) else { continue };
            if !self.excused.iter().any(|(excused, batch)| *excused == slot && self.slot_holds(process, slot, *batch)) {
                return Err(format!("slot {slot} holds {} bytes that belong to no batch", value.len()));
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
