//! The events that requests emit, until they are sealed, and the memory of the exposures and goals that were reported.
//!
//! All workers of one process may share a recorder: it is locked for a look-up or for the events of one response, and never
//! during a call of the host that takes part in requests.

use super::buffer::Buffer;
use super::dedupe::{Dedupe, Names};
use super::event::Event;
use crate::metrics::{Counter, Metrics};
use crate::plugin_config::{self, EventFormat};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The part of the events that requests change.
#[derive(Debug)]
pub struct Recorder {
    format: EventFormat,
    pub(super) buffer: Buffer,
    /// The exposures that were reported.
    pub exposures: Dedupe,
    /// The sets of exposures of which all were reported. They must not displace exposures from their memory.
    pub reported_sets: Dedupe,
    /// The goals that were counted for the variants of their visitors.
    pub goals: Dedupe,
}

impl Recorder {
    /// Puts an event into the buffer. False if the buffer is full; the event is counted either way.
    pub fn emit(&mut self, event: &Event<'_>, time_ms: i64, metrics: &mut Metrics) -> bool {
        let format = self.format;
        self.buffer(time_ms, |out| event.write_as(format, out), metrics)
    }

    /// As [`Recorder::emit`], for an event that is already encoded.
    pub fn emit_written(&mut self, event: &[u8], time_ms: i64, metrics: &mut Metrics) -> bool {
        self.buffer(time_ms, |out| out.extend_from_slice(event), metrics)
    }

    fn buffer(&mut self, time_ms: i64, write: impl FnOnce(&mut Vec<u8>), metrics: &mut Metrics) -> bool {
        metrics.add(Counter::Emitted, 1);
        let is_buffered = self.buffer.push(time_ms, write);
        if !is_buffered {
            metrics.add(Counter::DroppedOverflow, 1);
            metrics.add(Counter::BufferFull, 1);
        }
        is_buffered
    }
}

/// The access of a worker to its recorder.
#[derive(Debug, Clone)]
pub struct SharedRecorder {
    /// The format of the events.
    pub format: EventFormat,
    /// The names of visitors and windows in all memories of the recorder.
    pub names: Names,
    recorder: Arc<Mutex<Recorder>>,
}

impl SharedRecorder {
    /// An empty recorder. `seed` is secret.
    pub fn new(config: &plugin_config::Events, seed: u64) -> SharedRecorder {
        let (format, window_ms, entries) = (config.format, config.dedupe.window_ms, config.dedupe.max_entries);
        let exposures = Dedupe::new(seed, window_ms, entries);
        let names = exposures.names.clone();
        let recorder = Recorder {
            format,
            buffer: Buffer::new(config.batch),
            exposures,
            // A set has at least two exposures.
            reported_sets: Dedupe::new(seed, window_ms, entries.div_ceil(2)),
            goals: Dedupe::new(seed, window_ms, entries),
        };
        SharedRecorder { format, names, recorder: Arc::new(Mutex::new(recorder)) }
    }

    /// Locks the recorder. A panic of another thread leaves it usable: at worst, one event is missing.
    #[inline(never)]
    pub fn lock(&self) -> MutexGuard<'_, Recorder> {
        self.recorder.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
