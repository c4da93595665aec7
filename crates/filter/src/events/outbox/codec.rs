//! The index as bytes: versioned, and checked before it is believed.

use super::{Batch, Lease, Outbox, Vm};

/// A mark and the version of what follows.
const MAGIC: [u8; 4] = *b"ESo\x01";

impl Outbox {
    /// The bytes of the index.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer(Vec::with_capacity(32 + self.batches.len() * 81 + self.vms.len() * 24));
        out.0.extend_from_slice(&MAGIC);
        out.u32(self.failures);
        out.i64(self.retry_at_ms);
        out.i64(self.failed_at_ms);
        out.u32(self.batches.len() as u32);
        for batch in &self.batches {
            out.0.extend_from_slice(&batch.id.to_le_bytes());
            for number in [batch.slot, batch.events, batch.bytes, batch.next, batch.part_max, batch.tries] {
                out.u32(number);
            }
            out.i64(batch.sealed_at_ms);
            out.0.push(u8::from(batch.written));
            // A lease that ended at the beginning of time is none.
            let lease = batch.lease.unwrap_or(NO_LEASE);
            out.0.extend_from_slice(&lease.holder.to_le_bytes());
            out.i64(lease.since_ms);
            out.i64(lease.until_ms);
        }
        out.u32(self.vms.len() as u32);
        for vm in &self.vms {
            out.0.extend_from_slice(&vm.id.to_le_bytes());
            out.u32(vm.events);
            out.u32(vm.bytes);
            out.i64(vm.until_ms);
        }
        out.0
    }

    /// Reads what [`Outbox::encode`] wrote; nothing at all is an empty outbox, anything else `None`.
    pub fn decode(bytes: &[u8]) -> Option<Outbox> {
        if bytes.is_empty() {
            return Some(Outbox::default());
        }
        let mut bytes = Reader(bytes.strip_prefix(&MAGIC)?);
        let mut outbox = Outbox {
            failures: bytes.u32()?,
            retry_at_ms: bytes.i64()?,
            failed_at_ms: bytes.i64()?,
            ..Outbox::default()
        };
        for _ in 0..bytes.u32()? {
            outbox.batches.push(bytes.batch()?);
        }
        for _ in 0..bytes.u32()? {
            outbox.vms.push(Vm { id: bytes.u64()?, events: bytes.u32()?, bytes: bytes.u32()?, until_ms: bytes.i64()? });
        }
        bytes.0.is_empty().then_some(outbox)
    }
}

const NO_LEASE: Lease = Lease { holder: 0, since_ms: i64::MIN, until_ms: i64::MIN };

struct Writer(Vec<u8>);

impl Writer {
    fn u32(&mut self, number: u32) {
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    fn i64(&mut self, number: i64) {
        self.0.extend_from_slice(&number.to_le_bytes());
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (number, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*number)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    fn i64(&mut self) -> Option<i64> {
        self.take().map(i64::from_le_bytes)
    }

    fn batch(&mut self) -> Option<Batch> {
        let id = self.take().map(u128::from_le_bytes)?;
        let [slot, events, bytes, next, part_max, tries] =
            [self.u32()?, self.u32()?, self.u32()?, self.u32()?, self.u32()?, self.u32()?];
        let sealed_at_ms = self.i64()?;
        let [written] = self.take()?;
        let lease = Lease { holder: self.u64()?, since_ms: self.i64()?, until_ms: self.i64()? };
        Some(Batch {
            id,
            slot,
            events,
            bytes,
            sealed_at_ms,
            next,
            part_max,
            tries,
            written: written == 1,
            lease: (lease != NO_LEASE).then_some(lease),
        })
    }
}
