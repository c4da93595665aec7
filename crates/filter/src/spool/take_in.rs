//! From the disk into the outbox: the batches of processes that ended.

use super::{
    CLAIM_EVERY_MS, Contents, FileError, FileErrorKind, Filed, Files, Spool, Spooled, TAKE_INS_PER_COMMIT_MAX, Values,
    WAITING_FILES_MAX, read,
};
use crate::events::outbox::{BatchHeader, Lease, Outbox, SendPolicy, Settlement};
use crate::host::SetError;
use crate::plugin_config::{OnFull, OutboxLimits};
use crate::shared_data::{Record, UPDATE_TRIES_MAX};
use std::collections::HashSet;

/// How long the spool may work on a batch before a VM gives its slot to another one.
const LEASE_MS: i64 = 10_000;

/// The result of an attempt to take in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TakenIn {
    /// Its batch is in the outbox now.
    Yes,
    /// It needs no more work: its batch was in the outbox before, or can never be.
    Settled,
    /// The outbox has no room now.
    NotNow,
}

impl<F: Files> Spool<F> {
    /// Looks for folders of processes that ended, and puts their batches into the outbox, the oldest first.
    pub(super) fn take_in(&mut self, values: &impl Values, now_ms: i64) {
        let is_due = |claimed_ms: i64| now_ms.saturating_sub(claimed_ms) >= CLAIM_EVERY_MS || now_ms < claimed_ms;
        if self.claimed_ms.is_none_or(is_due) {
            self.claimed_ms = Some(now_ms);
            self.claim(values, now_ms);
        }
        let mut new = 0;
        while new < TAKE_INS_PER_COMMIT_MAX
            && let Some(name) = self.waiting.pop_front()
        {
            match self.files.read(&name).and_then(|bytes| self.take_in_file(values, &name, &bytes, now_ms)) {
                Ok(TakenIn::Yes) => new += 1,
                Ok(TakenIn::Settled) => {}
                Ok(TakenIn::NotNow) => {
                    self.waiting.push_front(name);
                    return;
                }
                Err(error) => {
                    if error.kind != FileErrorKind::Missing {
                        self.waiting.push_back(name);
                    }
                    self.fail(error, now_ms);
                    return;
                }
            }
        }
    }

    fn claim(&mut self, values: &impl Values, now_ms: i64) {
        let claim = self.files.claim();
        if let Some(error) = claim.error {
            self.fail(error, now_ms);
        }
        self.counts.locked += claim.locked;
        let room = WAITING_FILES_MAX.saturating_sub(self.waiting.len());
        self.waiting.extend(claim.names.into_iter().take(room));
        // Batches that are in the outbox already come first: they must not get another file. Then the oldest.
        let outbox = Outbox::decode(&values.get(&self.index_key).value).unwrap_or_default();
        let queued: HashSet<String> = outbox.batches.iter().map(|batch| format!("{:032x}", batch.id)).collect();
        self.waiting.make_contiguous().sort_by_cached_key(|name| {
            let (_, file) = name.rsplit_once('/').unwrap_or_default();
            let (_, id) = file.rsplit_once('-').unwrap_or_default();
            (!queued.contains(id), file.to_owned())
        });
    }

    /// Takes in one file.
    ///
    /// # Errors
    /// It needs no more work, and could not be removed.
    fn take_in_file(
        &mut self,
        values: &impl Values,
        name: &str,
        bytes: &[u8],
        now_ms: i64,
    ) -> Result<TakenIn, FileError> {
        let (batch, len) = match read(bytes) {
            Contents::Foreign => {
                self.counts.version += 1;
                self.problem = Some(format!("{name} has another version, and is left alone"));
                return Ok(TakenIn::Settled);
            }
            Contents::Nothing => {
                self.files.remove(&[name.to_owned()])?;
                self.counts.torn += 1;
                return Ok(TakenIn::Settled);
            }
            Contents::Batch { batch, len } => (batch, len),
        };
        if left(&batch) == 0 || self.filed.contains_key(&batch.events.id) {
            // It was settled, or this process has a file of it.
            self.files.remove(&[name.to_owned()])?;
            return Ok(TakenIn::Settled);
        }
        if batch.events.bytes() > self.limits.max_bytes {
            self.counts.full += 1;
            self.problem = Some(format!("{name} is larger than events.outbox.max_bytes, and is left alone"));
            return Ok(TakenIn::Settled);
        }
        let Some(is_new) = self.put(values, &batch, now_ms) else { return Ok(TakenIn::NotNow) };
        self.counts.recovered_events += if is_new { u64::from(left(&batch)) } else { 0 };
        self.counts.torn += u64::from(len < bytes.len() as u64);
        let Spooled { next, part_max, events, .. } = *batch;
        let filed = Filed { name: name.to_owned(), len, events: events.len() as u32, next, part_max };
        self.filed.insert(events.id, filed);
        Ok(if is_new { TakenIn::Yes } else { TakenIn::Settled })
    }

    /// Puts a batch into the outbox by the steps that a VM takes for a fresh one. False if it was there: this process had a
    /// spool before. `None` if it has to wait.
    fn put(&self, values: &impl Values, batch: &Spooled, now_ms: i64) -> Option<bool> {
        let (id, holder) = (batch.events.id, self.holder);
        let header = BatchHeader { id, events: batch.events.len() as u32, bytes: batch.events.bytes() as u32 };
        let lease = Lease { holder, since_ms: now_ms, until_ms: now_ms.saturating_add(LEASE_MS) };
        // A batch on disk never displaces one in the outbox.
        let limits = OutboxLimits { on_full: OnFull::DropNewest, ..self.limits.clone() };
        let mut was_there = false;
        let slot = self.update(values, |outbox| {
            // A reservation that an earlier attempt left.
            outbox.release(id, holder);
            was_there = outbox.batches.iter().any(|known| known.id == id);
            if was_there { None } else { outbox.reserve(header, lease, &limits, &mut Settlement::default()) }
        });
        let Some(slot) = slot else { return was_there.then_some(false) };
        let slot_name = self.slot_name(slot);
        let cas = values.get(&slot_name).cas;
        values.set(&slot_name, &batch.events.encode(), cas).ok()?;
        self.update(values, |outbox| {
            outbox.publish(id, holder, SendPolicy::Never, now_ms)?;
            let known = outbox.batches.iter_mut().find(|known| known.id == id)?;
            known.sealed_at_ms = batch.sealed_at_ms;
            known.next = batch.next;
            known.part_max = batch.part_max;
            // It may have been sent, so no events may join it: the service may know it by its id.
            known.tries = 1;
            outbox.batches.sort_by_key(|known| known.sealed_at_ms);
            Some(true)
        })
    }

    /// Changes the index by compare-and-swap. `None` if `change` gives it, or if other VMs kept changing the index.
    fn update<T>(&self, values: &impl Values, mut change: impl FnMut(&mut Outbox) -> Option<T>) -> Option<T> {
        for _ in 0..UPDATE_TRIES_MAX {
            let shared = values.get(&self.index_key);
            let mut outbox = Outbox::decode(&shared.value).unwrap_or_default();
            let result = change(&mut outbox)?;
            match values.set(&self.index_key, &outbox.encode(), shared.cas) {
                Ok(()) => return Some(result),
                Err(SetError::Stale) => {}
                Err(SetError::Failed) => return None,
            }
        }
        None
    }
}

fn left(batch: &Spooled) -> u32 {
    (batch.events.len() as u32).saturating_sub(batch.next)
}

#[cfg(test)]
mod tests {
    use super::super::{Claim, RETRY_AFTER_MS};
    use super::*;
    use crate::host::Shared;
    use std::collections::BTreeMap;

    /// The folder of a process that ended.
    struct Orphan {
        files: BTreeMap<String, Vec<u8>>,
        can_remove: bool,
    }

    impl Files for Orphan {
        fn own_name(&self, file: &str) -> String {
            format!("2-own/{file}")
        }

        fn claim(&mut self) -> Claim {
            Claim { names: self.files.keys().cloned().collect(), ..Claim::default() }
        }

        fn read(&self, name: &str) -> Result<Vec<u8>, FileError> {
            let missing = FileError { kind: FileErrorKind::Missing, message: String::new() };
            self.files.get(name).cloned().ok_or(missing)
        }

        fn write(&mut self, _name: &str, _at: u64, _bytes: &[u8]) -> Result<(), FileError> {
            Ok(())
        }

        fn remove(&mut self, names: &[String]) -> Result<(), FileError> {
            if !self.can_remove {
                return Err(FileError { kind: FileErrorKind::Other, message: "cannot remove".to_owned() });
            }
            self.files.retain(|name, _| !names.contains(name));
            Ok(())
        }
    }

    /// An outbox without batches.
    struct Empty;

    impl Values for Empty {
        fn get(&self, _key: &str) -> Shared {
            Shared { value: Vec::new(), cas: 0 }
        }

        fn set(&self, _key: &str, _value: &[u8], _cas: u32) -> Result<(), SetError> {
            Ok(())
        }
    }

    #[test]
    fn torn_file_that_cannot_be_removed_is_tried_again() {
        let files = BTreeMap::from([("1-ended/0-1".to_owned(), Vec::new())]);
        let mut spool = Spool::new(Orphan { files, can_remove: false }, "edgesplit/p", OutboxLimits::default(), 1);
        spool.commit(&Empty, 0);
        assert_eq!((spool.counts.torn, spool.counts.disk), (0, 1), "it counts as torn once it is removed");
        spool.files.can_remove = true;
        spool.commit(&Empty, RETRY_AFTER_MS);
        assert!(spool.files.files.is_empty());
        assert_eq!((spool.counts.torn, spool.counts.disk), (1, 1));
    }
}
