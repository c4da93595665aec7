//! Checks every change of the outbox in shared data: each event that leaves it has a reason that the simulator knows, each
//! lease follows the rules, and each slot holds the batch that the index names.

use crate::host::Process;
use crate::ledger::{DELIVERED, EXPIRED, Grant, HeardResult, Ledger, Meaning, OVERFLOW, Part, REJECTED, event_ids};
use crate::scenario::{PLUGIN, Scenario};
use edgesplit_filter::events::outbox::{Batch, Lease, Outbox};
use edgesplit_filter::events::slot::{EncodedBatch, part_id};
use edgesplit_filter::shared_data::Record;

/// A `retry-after` is followed up to this multiple of the longest back-off.
const RETRY_AFTER_BACKOFFS_MAX: u64 = 10;

/// Calls that batches which waited may have on their way together.
const BACKLOG_CALLS_IN_FLIGHT_MAX: usize = 4;

/// How far two readings of the clock may be apart.
const CLOCK_SKEW_MS_MAX: i64 = 5_000;

/// A change of the index as it is looked at.
struct Change<'a> {
    scenario: &'a Scenario,
    process: &'a Process,
    vm: u64,
    code: u64,
    now_ms: i64,
    old: Outbox,
    new: Outbox,
}

fn is_valid(lease: Option<Lease>, now_ms: i64) -> bool {
    lease.is_some_and(|lease| now_ms < lease.until_ms && lease.since_ms - now_ms <= CLOCK_SKEW_MS_MAX)
}

fn key(batch: &Batch) -> u128 {
    part_id(batch.id, &batch.part(), batch.events as usize).as_u128()
}

fn bytes(outbox: &Outbox) -> usize {
    outbox.batches.iter().map(|batch| batch.bytes as usize).sum()
}

fn find(outbox: &Outbox, id: u128) -> Option<&Batch> {
    outbox.batches.iter().find(|batch| batch.id == id)
}

/// Whether the bytes of a slot contain a batch.
fn holds(value: &[u8], batch: u128) -> bool {
    EncodedBatch::decode(value).is_some_and(|events| events.id == batch)
}

fn slot_key(slot: u32) -> String {
    format!("edgesplit/{PLUGIN}/slot/{slot}")
}

impl Ledger {
    /// Whether a slot holds a batch's events.
    pub fn slot_holds(&self, process: &Process, slot: u32, batch: u128) -> bool {
        holds(process.get(&slot_key(slot)), batch)
    }

    /// A slot was written or cleared.
    pub fn slot_changed(&mut self, slot: u32, value: &[u8]) -> Result<(), String> {
        let stored = self.index.batches.iter().find(|batch| batch.written && batch.slot == slot);
        if let Some(batch) = stored
            && !holds(value, batch.id)
        {
            return Err(format!("slot {slot} was overwritten while batch {:x} is in it", batch.id));
        }
        if let Some(batch) = value.get(4..20).and_then(|id| id.first_chunk()).map(|id| u128::from_le_bytes(*id)) {
            let events = EncodedBatch::decode(value).ok_or("a slot cannot be read")?;
            let ids = event_ids(&events.body(0..events.len()));
            // What somebody broke off adding may be overwritten, what the index counts may not.
            let counted =
                find(&self.index, batch).filter(|batch| batch.written).map_or(0, |batch| batch.events as usize);
            if self.batches.get(&batch).is_some_and(|known| known.get(..counted) != ids.get(..counted)) {
                return Err(format!("the events of batch {batch:x} were overwritten"));
            }
            self.batches.insert(batch, ids);
        }
        Ok(())
    }

    /// The index was written.
    pub fn index_changed(
        &mut self,
        scenario: &Scenario,
        process: &Process,
        vm: u64,
        new: Outbox,
    ) -> Result<(), String> {
        let old = std::mem::replace(&mut self.index, new.clone());
        for account in self.vms.values_mut() {
            account.peak = (account.peak.0.max(new.batches.len()), account.peak.1.max(bytes(&new)));
        }
        let account = self.vms.get(&vm).ok_or("a VM that is not there")?;
        let change = Change { scenario, process, vm, code: account.code, now_ms: account.now_ms, old, new };
        change.bounds()?;
        let mut used = None;
        for old in &change.old.batches {
            let result = match find(&change.new, old.id) {
                None => self.removed(&change, old)?,
                Some(new) => self.changed(&change, old, new)?,
            };
            used = used.or(result);
        }
        for new in change.new.batches.iter().filter(|batch| find(&change.old, batch.id).is_none()) {
            let mine = new.lease.is_some_and(|lease| lease.holder == change.code);
            if new.written || !mine || new.next != 0 {
                return Err(format!("batch {:x} appeared in the outbox and was not reserved", new.id));
            }
        }
        self.health(&change, used)?;
        Ok(())
    }

    /// A batch left the outbox.
    fn removed(&mut self, change: &Change<'_>, batch: &Batch) -> Result<Option<HeardResult>, String> {
        let is_leased = is_valid(batch.lease, change.now_ms);
        let is_mine = batch.lease.is_some_and(|lease| lease.holder == change.code);
        if !batch.written {
            let may = !is_leased || is_mine;
            return if may { Ok(None) } else { Err(format!("the reservation of {:x} was taken away", batch.id)) };
        }
        let left = i64::from(batch.left());
        let result = self.result(change, batch, &[Meaning::Delivered, Meaning::Rejected]);
        let reserved = change.new.batches.iter().find(|new| find(&change.old, new.id).is_none());
        let at = match (&result, reserved) {
            (Some(result), _) if is_mine && batch.part().end == batch.events as usize => {
                self.settled_part(batch, result)?
            }
            (Some(_), _) => return Err(format!("batch {:x} was freed before all of it was settled", batch.id)),
            _ if is_leased => return Err(format!("batch {:x} left the outbox while it was leased", batch.id)),
            (None, Some(reserved)) => {
                let limits = change.scenario;
                let no_room = change.old.batches.len() >= limits.outbox_batches
                    || bytes(&change.old) + reserved.bytes as usize > limits.outbox_bytes;
                if limits.drop_newest || !no_room {
                    return Err(format!("batch {:x} was dropped while there was room", batch.id));
                }
                OVERFLOW
            }
            (None, None) if change.now_ms - batch.sealed_at_ms >= change.scenario.outbox_age_ms as i64 => EXPIRED,
            (None, None) => return Err(format!("batch {:x} left the outbox for no reason", batch.id)),
        };
        let events =
            self.batches.get(&batch.id).and_then(|events| events.get(batch.next as usize..batch.events as usize));
        let events = events.map(<[u128]>::to_vec).unwrap_or_default();
        if let Some(account) = self.vms.get_mut(&change.vm) {
            match at {
                OVERFLOW | EXPIRED => account.evicted.push((at, events)),
                _ => account.counted[at] += left,
            }
            account.to_clear.push((batch.slot, batch.id));
        }
        Ok(result)
    }

    /// A batch stayed, perhaps with another lease or fewer events left.
    fn changed(&mut self, change: &Change<'_>, old: &Batch, new: &Batch) -> Result<Option<HeardResult>, String> {
        if old.slot != new.slot {
            return Err(format!("batch {:x} became another", old.id));
        }
        if (old.events, old.bytes) != (new.events, new.bytes) {
            self.joined(change, old, new)?;
            return Ok(None);
        }
        if new.written && !old.written {
            self.published_batch(change, old, new)?;
            return Ok(None);
        }
        let is_mine = old.lease.is_some_and(|lease| lease.holder == change.code);
        if new.next != old.next {
            let result = self
                .result(change, old, &[Meaning::Delivered, Meaning::Rejected])
                .filter(|_| is_mine && new.next as usize == old.part().end)
                .ok_or_else(|| format!("events of batch {:x} were settled for no reason", old.id))?;
            let at = self.settled_part(old, &result)?;
            if let Some(account) = self.vms.get_mut(&change.vm) {
                account.counted[at] += old.part().len() as i64;
            }
            return Ok(Some(result));
        }
        if new.lease == old.lease {
            return Ok(None);
        }
        if new.lease.is_some_and(|lease| lease.holder == change.code) {
            self.granted(change, old, new)?;
            return Ok(None);
        }
        if new.lease.is_some() || (!is_mine && is_valid(old.lease, change.now_ms)) {
            return Err(format!("batch {:x} was taken from its holder", old.id));
        }
        if !is_mine {
            return Err(format!("vm {} let go of a batch that is not its own", change.vm));
        }
        if let Some(account) = self.vms.get_mut(&change.vm)
            && let Some(at) = account.grants.iter().position(|grant| grant.part.batch == old.id)
        {
            // It was not sent under this lease.
            account.grants.remove(at);
            return Ok(None);
        }
        let result = self
            .result(change, old, &[Meaning::Keep, Meaning::Split])
            .ok_or_else(|| format!("batch {:x} was let go without an answer", old.id))?;
        let half = old.part().len().div_ceil(2) as u32;
        if result.meaning == Meaning::Split && new.part_max != half {
            return Err(format!("batch {:x} was not split: {} events at once", old.id, new.part_max));
        }
        Ok(Some(result))
    }

    /// Takes what the VM heard of the part of `batch` that is on its way.
    fn result(&mut self, change: &Change<'_>, batch: &Batch, meanings: &[Meaning]) -> Option<HeardResult> {
        let account = self.vms.get_mut(&change.vm)?;
        let part = Part { batch: batch.id, range: batch.part() };
        // A bad answer ends the lease under which the call was made; a good one settles the part, whenever it was sent.
        let ends = |one: &HeardResult| {
            matches!(one.meaning, Meaning::Delivered | Meaning::Rejected)
                || batch.lease.is_some_and(|lease| lease.since_ms == one.sent_ms)
        };
        let fits = |one: &HeardResult| one.part == part && meanings.contains(&one.meaning) && ends(one);
        let at = account.heard.iter().position(fits)?;
        Some(account.heard.remove(at))
    }

    fn settled_part(&mut self, batch: &Batch, result: &HeardResult) -> Result<usize, String> {
        let key = key(batch);
        self.settled.insert(key);
        match result.meaning {
            Meaning::Delivered if !self.accepted.contains_key(&key) => {
                Err(format!("{key:x} counts as delivered, and the service does not have it"))
            }
            Meaning::Delivered => Ok(DELIVERED),
            _ => Ok(REJECTED),
        }
    }

    /// A reservation became a batch: its events leave the VM's buffer.
    fn published_batch(&mut self, change: &Change<'_>, old: &Batch, new: &Batch) -> Result<(), String> {
        if old.lease.is_none_or(|lease| lease.holder != change.code) {
            return Err(format!("vm {} published another VM's batch", change.vm));
        }
        if !self.slot_holds(change.process, new.slot, new.id) {
            return Err(format!("batch {:x} was published, and slot {} does not hold it", new.id, new.slot));
        }
        let events = self.batches.get(&new.id).cloned().unwrap_or_default();
        if events.len() != new.events as usize {
            return Err(format!("batch {:x} has {} events and its slot {}", new.id, new.events, events.len()));
        }
        self.leaves_buffer(change, &events)?;
        let others =
            change.new.batches.iter().filter(|batch| batch.id != new.id && is_valid(batch.lease, change.now_ms));
        let has_room = change.old.failures == 0 && others.count() < 8;
        let account = self.vms.get_mut(&change.vm).ok_or("a VM that is not there")?;
        let part = Part { batch: new.id, range: new.part() };
        if new.lease.is_some() && account.job != "shut_down" {
            account.grants.push(Grant { key: key(new), part: part.clone(), forbidden: None });
            self.holders.insert(new.id, change.vm);
            if !has_room {
                return Err(format!("the fresh batch {:x} is sent while there is no room for its call", new.id));
            }
        } else if has_room && account.job != "shut_down" {
            return Err(format!("the fresh batch {:x} has to wait while there is room for its call", new.id));
        }
        self.name(key(new), part);
        Ok(())
    }

    /// Events join a batch that waits: they leave the VM's buffer.
    fn joined(&mut self, change: &Change<'_>, old: &Batch, new: &Batch) -> Result<(), String> {
        let is_mine = old.lease.is_some_and(|lease| lease.holder == change.code);
        if !is_mine || !old.written || new.events < old.events || new.lease.is_some() || new.next != 0 {
            return Err(format!("vm {} added to batch {:x} by no right", change.vm, old.id));
        }
        if !self.slot_holds(change.process, new.slot, new.id) {
            return Err(format!("batch {:x} grew, and slot {} does not hold it", new.id, new.slot));
        }
        let events = self.batches.get(&new.id).and_then(|events| events.get(old.events as usize..new.events as usize));
        let events = events.ok_or_else(|| format!("batch {:x} grew by more than its slot", new.id))?.to_vec();
        if let Some(account) = self.vms.get_mut(&change.vm) {
            account.grants.retain(|grant| grant.part.batch != new.id);
        }
        self.leaves_buffer(change, &events)
    }

    /// Events leave the buffer for the outbox.
    fn leaves_buffer(&mut self, change: &Change<'_>, events: &[u128]) -> Result<(), String> {
        let account = self.vms.get_mut(&change.vm).ok_or("a VM that is not there")?;
        // What was dropped for want of room before it is known by this alone until the count is handed over.
        let dropped = account.position(events).filter(|_| !events.is_empty());
        let dropped = dropped.ok_or_else(|| format!("vm {} sealed what it did not have in its buffer", change.vm))?;
        account.counted[OVERFLOW] += dropped as i64;
        account.buffer.drain(..dropped + events.len());
        Ok(())
    }

    /// A VM got the lease of a batch that waited.
    fn granted(&mut self, change: &Change<'_>, old: &Batch, new: &Batch) -> Result<(), String> {
        if is_valid(old.lease, change.now_ms) {
            return Err(format!("vm {} took batch {:x}, which is leased", change.vm, old.id));
        }
        let in_flight = change.old.batches.iter().filter(|batch| is_valid(batch.lease, change.now_ms)).count();
        let down = change.old.failures > 0;
        let set_back = change.old.failed_at_ms - change.now_ms > CLOCK_SKEW_MS_MAX;
        // Events may be added to it all the same.
        let forbidden = if down && in_flight > 0 {
            Some("the service is down, and more than one call probes it".to_owned())
        } else if down && change.now_ms < change.old.retry_at_ms && !set_back {
            Some(format!("vm {} probes the service before its back-off is over", change.vm))
        } else if !down && in_flight >= BACKLOG_CALLS_IN_FLIGHT_MAX {
            Some("batches that waited take the room of fresh ones".to_owned())
        } else {
            None
        };
        let part = Part { batch: new.id, range: new.part() };
        self.name(key(new), part.clone());
        if let Some(account) = self.vms.get_mut(&change.vm) {
            // A VM that overslept a lease and has it anew has one, not two.
            account.grants.retain(|grant| grant.key != key(new));
            account.grants.push(Grant { key: key(new), part, forbidden });
            self.holders.insert(new.id, change.vm);
        }
        Ok(())
    }

    /// The service's health in the index: only answers change it, and bad ones do.
    fn health(&mut self, change: &Change<'_>, used: Option<HeardResult>) -> Result<(), String> {
        let (old, new) = (&change.old, &change.new);
        let account = self.vms.get_mut(&change.vm).ok_or("a VM that is not there")?;
        let result = used.or_else(|| {
            let changed = (old.failures, old.retry_at_ms) != (new.failures, new.retry_at_ms);
            // The answer to a call whose batch has another owner by now still shows the service's health.
            let at = account.heard.iter().position(|one| (one.meaning == Meaning::Keep) == (new.failures > 0))?;
            changed.then(|| account.heard.remove(at))
        });
        let Some(result) = result else {
            let mended = new.retry_at_ms < old.retry_at_ms && new.failures == old.failures;
            let same = (old.failures, old.retry_at_ms) == (new.failures, new.retry_at_ms);
            return if same || mended {
                Ok(())
            } else {
                Err("the service's health changed without an answer".to_owned())
            };
        };
        if result.meaning != Meaning::Keep {
            return if new.failures == 0 { Ok(()) } else { Err("the service answered and counts as down".to_owned()) };
        }
        let set_back = old.failed_at_ms - change.now_ms > CLOCK_SKEW_MS_MAX;
        let is_news = old.failures == 0 || result.sent_ms >= old.failed_at_ms;
        if !is_news && !set_back {
            return Ok(());
        }
        if !is_news && new.failures == old.failures {
            return Err("the service failed, and no worker waits: the clock was set back before".to_owned());
        }
        let wait_ms = new.retry_at_ms - change.now_ms;
        let Scenario { backoff_min_ms, backoff_max_ms, .. } = *change.scenario;
        let ceiling = backoff_max_ms.min(backoff_min_ms.saturating_mul(1 << new.failures.min(20)));
        let retry_after_ms = result.retry_after_ms.min(backoff_max_ms * RETRY_AFTER_BACKOFFS_MAX);
        let longest = ceiling.max(backoff_min_ms).max(retry_after_ms) as i64;
        let shortest = backoff_min_ms.max(retry_after_ms) as i64;
        if new.failures == 0 || !(shortest..=longest).contains(&wait_ms) {
            return Err(format!(
                "after {} failures the service is left alone for {wait_ms} ms, not {shortest} to {longest}",
                new.failures
            ));
        }
        Ok(())
    }
}

impl Change<'_> {
    fn bounds(&self) -> Result<(), String> {
        let (batches, bytes) = (self.new.batches.len(), bytes(&self.new));
        if batches > self.scenario.outbox_batches || bytes > self.scenario.outbox_bytes {
            return Err(format!("the outbox holds {batches} batches, {bytes} bytes: more than it may"));
        }
        for (at, batch) in self.new.batches.iter().enumerate() {
            if self.new.batches.iter().skip(at + 1).any(|other| other.slot == batch.slot || other.id == batch.id) {
                return Err(format!("slot {} or the id {:x} is used twice", batch.slot, batch.id));
            }
        }
        Ok(())
    }
}
