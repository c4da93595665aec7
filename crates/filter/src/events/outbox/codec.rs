//! The stored form of the index.

use super::{Batch, BufferReport, Lease, Outbox};
use crate::shared_data::{Reader, Record, Writer};

/// Stands for no lease.
const NO_LEASE: Lease = Lease { holder: 0, since_ms: i64::MIN, until_ms: i64::MIN };

impl Record for Outbox {
    const MARK: &'static [u8] = b"ESo\x01";

    fn write(&self, out: &mut Writer) {
        out.u32(self.failures);
        out.i64(self.retry_at_ms);
        out.i64(self.failed_at_ms);
        out.u32(self.batches.len() as u32);
        for batch in &self.batches {
            write_batch(batch, out);
        }
        out.u32(self.buffers.len() as u32);
        for report in &self.buffers {
            out.u64(report.vm);
            out.u32(report.events);
            out.u32(report.bytes);
            out.i64(report.until_ms);
        }
    }

    fn read(bytes: &mut Reader<'_>) -> Option<Outbox> {
        let mut outbox = Outbox {
            failures: bytes.u32()?,
            retry_at_ms: bytes.i64()?,
            failed_at_ms: bytes.i64()?,
            ..Outbox::default()
        };
        for _ in 0..bytes.u32()? {
            outbox.batches.push(read_batch(bytes)?);
        }
        for _ in 0..bytes.u32()? {
            let (vm, events, bytes, until_ms) = (bytes.u64()?, bytes.u32()?, bytes.u32()?, bytes.i64()?);
            outbox.buffers.push(BufferReport { vm, events, bytes, until_ms });
        }
        Some(outbox)
    }
}

fn write_batch(batch: &Batch, out: &mut Writer) {
    out.u128(batch.id);
    for number in [batch.slot, batch.events, batch.bytes, batch.next, batch.part_max, batch.tries] {
        out.u32(number);
    }
    out.i64(batch.sealed_at_ms);
    out.u8(u8::from(batch.written));
    let lease = batch.lease.unwrap_or(NO_LEASE);
    out.u64(lease.holder);
    out.i64(lease.since_ms);
    out.i64(lease.until_ms);
}

fn read_batch(bytes: &mut Reader<'_>) -> Option<Batch> {
    let id = bytes.u128()?;
    let [slot, events, size, next, part_max, tries] =
        [bytes.u32()?, bytes.u32()?, bytes.u32()?, bytes.u32()?, bytes.u32()?, bytes.u32()?];
    let (sealed_at_ms, written) = (bytes.i64()?, bytes.u8()? == 1);
    let lease = Lease { holder: bytes.u64()?, since_ms: bytes.i64()?, until_ms: bytes.i64()? };
    let lease = (lease != NO_LEASE).then_some(lease);
    Some(Batch { id, slot, events, bytes: size, sealed_at_ms, next, part_max, tries, written, lease })
}
