//! From the outbox to the disk.

use super::contents::{MARK, frame};
use super::{FileErrorKind, Filed, Files, RETRY_AFTER_MS, Spool, Values};
use crate::events::outbox::{Batch, Outbox};
use crate::events::slot::EncodedBatch;
use crate::host::Shared;
use crate::shared_data::Record;
use std::collections::HashSet;

impl<F: Files> Spool<F> {
    /// Takes in batches of processes that ended, and brings the files up to the outbox as it is now. Gives the number of the
    /// index that it saw: the next commit is due when it changes, or if the spool is behind.
    pub fn commit(&mut self, values: &impl Values, now_ms: i64) -> u32 {
        let is_waiting = now_ms < self.retry_at_ms && self.retry_at_ms.saturating_sub(now_ms) <= RETRY_AFTER_MS;
        if is_waiting {
            return values.get(&self.index_key).cas;
        }
        self.retry_at_ms = i64::MIN;
        self.take_in(values, now_ms);
        let Shared { value, cas } = values.get(&self.index_key);
        let outbox = if value.is_empty() { Some(Outbox::default()) } else { Outbox::decode(&value) };
        // An index of another version is not ours to follow.
        if let Some(outbox) = outbox {
            self.remove_settled(&outbox, now_ms);
            self.write_changed(values, &outbox, now_ms);
        }
        cas
    }

    /// Removes the files of batches that left the outbox.
    fn remove_settled(&mut self, outbox: &Outbox, now_ms: i64) {
        let queued: HashSet<u128> = outbox.batches.iter().map(|batch| batch.id).collect();
        let left = self.filed.iter().filter(|(id, _)| !queued.contains(id));
        let (ids, names): (Vec<u128>, Vec<String>) = left.map(|(id, filed)| (*id, filed.name.clone())).unzip();
        if names.is_empty() {
            return;
        }
        match self.files.remove(&names) {
            Ok(()) => ids.iter().for_each(|id| drop(self.filed.remove(id))),
            Err(error) => self.fail(error, now_ms),
        }
    }

    /// Writes batches that are not on disk as they are in the outbox.
    fn write_changed(&mut self, values: &impl Values, outbox: &Outbox, now_ms: i64) {
        for batch in outbox.batches.iter().filter(|batch| batch.written) {
            let file = || Filed { name: self.files.own_name(&file_name(batch)), ..Filed::default() };
            let filed = self.filed.get(&batch.id).cloned().unwrap_or_else(file);
            let is_on_disk = (filed.events, filed.next, filed.part_max) == (batch.events, batch.next, batch.part_max)
                && filed.len > 0;
            if is_on_disk {
                continue;
            }
            // It may have left the outbox by now.
            let Some(events) = self.stored(values, batch) else { continue };
            let head = if filed.len == 0 { MARK } else { &[] };
            let bytes = [head, &frame(batch, filed.events, events)].concat();
            let result = self.files.write(&filed.name, filed.len, &bytes);
            let is_written = result.is_ok();
            let filed = match result {
                Ok(()) => {
                    self.counts.durable_events += u64::from(batch.events.saturating_sub(filed.events));
                    let len = filed.len + bytes.len() as u64;
                    Filed { len, events: batch.events, next: batch.next, part_max: batch.part_max, ..filed }
                }
                Err(error) => {
                    let is_missing = error.kind == FileErrorKind::Missing;
                    self.fail(error, now_ms);
                    // Another process or a person removed it: the next attempt begins anew.
                    if is_missing { Filed { name: filed.name, ..Filed::default() } } else { filed }
                }
            };
            // Also after an error: the file may be there, and is removed with its batch.
            self.filed.insert(batch.id, filed);
            if !is_written {
                return;
            }
        }
    }

    /// The events of a batch, if its slot contains them.
    fn stored(&self, values: &impl Values, batch: &Batch) -> Option<EncodedBatch> {
        let stored = EncodedBatch::decode(&values.get(&self.slot_name(batch.slot)).value)?;
        let is_whole = stored.id == batch.id && stored.len() >= batch.events as usize;
        is_whole.then(|| stored.first(batch.events as usize))
    }

    pub(super) fn slot_name(&self, slot: u32) -> String {
        format!("{}/{slot}", self.slot_key)
    }
}

/// The name of a batch's file: names sort by age.
fn file_name(batch: &Batch) -> String {
    format!("{:016x}-{:032x}", batch.sealed_at_ms.max(0), batch.id)
}
