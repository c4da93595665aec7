//! Where events go, and the limits on their way.

use super::block::{self, Block};
use super::duration::{HOUR_MS, MINUTE_MS, SECOND_MS, show_ms};
use super::endpoint::{self, Endpoint};
use edgesplit_formats::FormatRef;
use edgesplit_formats::diagnostics::{Node, Problems};
use edgesplit_formats::events::EventWire;
use std::ops::RangeInclusive;

pub(super) const TIMEOUT_BOUNDS_MS: RangeInclusive<u64> = 1..=5 * MINUTE_MS;
pub(super) const BATCH_BOUNDS_EVENTS: RangeInclusive<u32> = 1..=10_000;
pub(super) const BATCH_BOUNDS_BYTES: RangeInclusive<u32> = 1..=16 << 20;
pub(super) const BATCH_AGE_BOUNDS_MS: RangeInclusive<u64> = 10..=24 * HOUR_MS;
pub(super) const DEDUPE_WINDOW_BOUNDS_MS: RangeInclusive<u64> = 10..=720 * HOUR_MS;
pub(super) const DEDUPE_BOUNDS_ENTRIES: RangeInclusive<u32> = 1..=10_000_000;
/// The most bytes that an outbox can be given.
pub const OUTBOX_BYTES_MAX: u32 = 1 << 30;
/// The most batches that an outbox can be given.
pub const OUTBOX_BATCHES_MAX: u32 = 4096;
pub(super) const OUTBOX_BOUNDS_BYTES: RangeInclusive<u32> = 1..=OUTBOX_BYTES_MAX;
pub(super) const OUTBOX_BOUNDS_BATCHES: RangeInclusive<u32> = 1..=OUTBOX_BATCHES_MAX;
pub(super) const OUTBOX_AGE_BOUNDS_MS: RangeInclusive<u64> = 10..=720 * HOUR_MS;
pub(super) const BACKOFF_BOUNDS_MS: RangeInclusive<u64> = 1..=24 * HOUR_MS;
pub(super) const LEASE_BOUNDS_MS: RangeInclusive<u64> = 2..=24 * HOUR_MS;

pub(super) const TIMEOUT_MS: u64 = 2 * SECOND_MS;

/// The filter's own formats by their names, in the order of their numbers.
const OWN_FORMATS: [(&str, EventFormat); 4] = [
    ("native", EventFormat::Native),
    ("ndjson", EventFormat::Ndjson),
    ("cloudevents", EventFormat::CloudEvents),
    ("kafka-rest", EventFormat::KafkaRest),
];

/// Where events go, and the limits on their way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Events {
    /// What a batch looks like on the wire.
    pub format: EventFormat,
    /// The service that takes batches.
    pub endpoint: Endpoint,
    /// Milliseconds that a delivery may take; shorter than [`Retry::lease_ms`].
    pub timeout_ms: u64,
    /// When a worker's buffer is sealed into a batch.
    pub batch: Batch,
    /// For how long an exposure counts as seen.
    pub dedupe: Dedupe,
    /// What the outbox holds at most.
    pub outbox: OutboxLimits,
    /// When a delivery is tried again.
    pub retry: Retry,
    /// Where batches go, once, that would be dropped for overflow or age; `None`: they are dropped.
    pub fallback: Option<Endpoint>,
}

/// What a batch looks like on the wire.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum EventFormat {
    /// One JSON object with the batch's id and its events.
    #[default]
    Native,
    /// One event a line.
    Ndjson,
    /// A batch of CloudEvents 1.0 in JSON, each with the event as its data.
    CloudEvents,
    /// Records for a topic, as Kafka's REST proxies take them (API version 2), each with the visitor as its key.
    KafkaRest,
    /// The format of a vendor's event service.
    Vendor(FormatRef),
}

impl EventFormat {
    /// All formats with their names, in the order of their numbers.
    pub(super) fn all() -> Vec<(&'static str, EventFormat)> {
        let vendors = edgesplit_formats::formats().filter(|format| format.event_wire().is_some());
        let vendors = vendors.map(|format| (format.name(), EventFormat::Vendor(format)));
        OWN_FORMATS.into_iter().chain(vendors).collect()
    }

    /// The number that stored batches have for the format. A vendor's follows from its place in the table of formats, whose
    /// first entry is Edgesplit's own.
    pub fn number(self) -> u8 {
        let position = match self {
            EventFormat::Vendor(format) => {
                edgesplit_formats::formats().position(|other| other == format).map(|at| OWN_FORMATS.len() - 1 + at)
            }
            own => OWN_FORMATS.iter().position(|(_, format)| *format == own),
        };
        position.and_then(|position| u8::try_from(position).ok()).unwrap_or(u8::MAX)
    }

    /// The format with this number.
    pub fn numbered(number: u8) -> Option<EventFormat> {
        let number = usize::from(number);
        let own = OWN_FORMATS.get(number).map(|(_, format)| *format);
        own.or_else(|| {
            let format = edgesplit_formats::formats().nth((number + 1).checked_sub(OWN_FORMATS.len())?)?;
            format.event_wire().map(|_| EventFormat::Vendor(format))
        })
    }

    /// How events are written, if the format is a vendor's.
    pub fn vendor_wire(self) -> Option<&'static dyn EventWire> {
        match self {
            EventFormat::Vendor(format) => format.event_wire(),
            EventFormat::Native | EventFormat::Ndjson | EventFormat::CloudEvents | EventFormat::KafkaRest => None,
        }
    }
}

/// When a worker's buffer is sealed into a batch: at the first of the three that is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batch {
    /// Events in it.
    pub max_events: usize,
    /// Its size in bytes; not more than [`OutboxLimits::max_bytes`].
    pub max_bytes: usize,
    /// Milliseconds since its first event.
    pub max_age_ms: u64,
}

impl Default for Batch {
    fn default() -> Batch {
        Batch { max_events: 500, max_bytes: 256 << 10, max_age_ms: SECOND_MS }
    }
}

/// For how long an exposure counts as seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dedupe {
    /// The length of a window in milliseconds: each counts an exposure once.
    pub window_ms: u64,
    /// How many exposures one worker remembers.
    pub max_entries: usize,
}

impl Default for Dedupe {
    fn default() -> Dedupe {
        Dedupe { window_ms: 30 * MINUTE_MS, max_entries: 100_000 }
    }
}

/// What the outbox holds at most, over all workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutboxLimits {
    /// Bytes of all its batches.
    pub max_bytes: usize,
    /// Batches.
    pub max_batches: usize,
    /// Milliseconds that a batch may wait.
    pub max_age_ms: u64,
    /// Which batch goes when there is no room.
    pub on_full: OnFull,
}

impl Default for OutboxLimits {
    fn default() -> OutboxLimits {
        OutboxLimits { max_bytes: 16 << 20, max_batches: 256, max_age_ms: 24 * HOUR_MS, on_full: OnFull::DropOldest }
    }
}

/// Which batch goes when the outbox is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFull {
    /// The one that has waited longest.
    DropOldest,
    /// The one that would be added.
    DropNewest,
}

/// When a delivery is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// The shortest back-off in milliseconds; not more than `backoff_max_ms`.
    pub backoff_min_ms: u64,
    /// The longest back-off in milliseconds.
    pub backoff_max_ms: u64,
    /// Milliseconds after which a slot of the outbox is free to be taken over; longer than [`Events::timeout_ms`].
    pub lease_ms: u64,
}

impl Default for Retry {
    fn default() -> Retry {
        Retry { backoff_min_ms: SECOND_MS, backoff_max_ms: MINUTE_MS, lease_ms: 10 * SECOND_MS }
    }
}

pub(super) fn read(node: Node<'_>, problems: &mut Problems) -> Option<Events> {
    let known = [
        "format",
        "cluster",
        "authority",
        "path",
        "headers",
        "timeout",
        "batch",
        "dedupe",
        "outbox",
        "retry",
        "fallback",
    ];
    let block = Block::open(node, &known, problems)?;

    let format = block.or("format", EventFormat::Native, problems, |node, problems| {
        block::format(node, &EventFormat::all(), problems)
    });
    let endpoint = endpoint::read(&block, problems);
    let timeout_ms = block.duration_ms("timeout", TIMEOUT_MS, TIMEOUT_BOUNDS_MS, problems);
    let batch = block.or("batch", Batch::default(), problems, read_batch);
    let dedupe = block.or("dedupe", Dedupe::default(), problems, read_dedupe);
    let outbox = block.or("outbox", OutboxLimits::default(), problems, read_outbox);
    let retry = block.or("retry", Retry::default(), problems, read_retry);
    let fallback = block.nullable("fallback", problems, |node, problems| {
        endpoint::read(&Block::open(node, &["cluster", "authority", "path", "headers"], problems)?, problems)
    });

    if let (Some(batch), Some(outbox)) = (&batch, &outbox)
        && batch.max_bytes > outbox.max_bytes
    {
        let (batch, outbox) = (batch.max_bytes, outbox.max_bytes);
        let message = format!("{batch} is more than events.outbox.max_bytes, {outbox}: a full batch would never fit");
        problems.error(&block.path().field("batch").field("max_bytes"), message);
    }
    if let (Some(timeout_ms), Some(retry)) = (timeout_ms, &retry)
        && retry.lease_ms <= timeout_ms
    {
        let (lease, timeout) = (show_ms(retry.lease_ms), show_ms(timeout_ms));
        let message = format!(
            "{lease} is not longer than events.timeout, {timeout}: a batch would be taken over while it is being sent"
        );
        problems.error(&block.path().field("retry").field("lease"), message);
    }
    Some(Events {
        format: format?,
        endpoint: endpoint?,
        timeout_ms: timeout_ms?,
        batch: batch?,
        dedupe: dedupe?,
        outbox: outbox?,
        retry: retry?,
        fallback: fallback?,
    })
}

fn read_batch(node: Node<'_>, problems: &mut Problems) -> Option<Batch> {
    let block = Block::open(node, &["max_events", "max_bytes", "max_age"], problems)?;
    let defaults = Batch::default();
    let max_events = block.size("max_events", defaults.max_events, BATCH_BOUNDS_EVENTS, problems);
    let max_bytes = block.size("max_bytes", defaults.max_bytes, BATCH_BOUNDS_BYTES, problems);
    let max_age_ms = block.duration_ms("max_age", defaults.max_age_ms, BATCH_AGE_BOUNDS_MS, problems);
    Some(Batch { max_events: max_events?, max_bytes: max_bytes?, max_age_ms: max_age_ms? })
}

fn read_dedupe(node: Node<'_>, problems: &mut Problems) -> Option<Dedupe> {
    let block = Block::open(node, &["window", "max_entries"], problems)?;
    let defaults = Dedupe::default();
    let window_ms = block.duration_ms("window", defaults.window_ms, DEDUPE_WINDOW_BOUNDS_MS, problems);
    let max_entries = block.size("max_entries", defaults.max_entries, DEDUPE_BOUNDS_ENTRIES, problems);
    Some(Dedupe { window_ms: window_ms?, max_entries: max_entries? })
}

fn read_outbox(node: Node<'_>, problems: &mut Problems) -> Option<OutboxLimits> {
    let block = Block::open(node, &["max_bytes", "max_batches", "max_age", "on_full"], problems)?;
    let defaults = OutboxLimits::default();
    let max_bytes = block.size("max_bytes", defaults.max_bytes, OUTBOX_BOUNDS_BYTES, problems);
    let max_batches = block.size("max_batches", defaults.max_batches, OUTBOX_BOUNDS_BATCHES, problems);
    let max_age_ms = block.duration_ms("max_age", defaults.max_age_ms, OUTBOX_AGE_BOUNDS_MS, problems);
    let on_full = block.or("on_full", defaults.on_full, problems, |node, problems| {
        let choices = [("drop_oldest", OnFull::DropOldest), ("drop_newest", OnFull::DropNewest)];
        block::choice(node, &choices, problems)
    });
    Some(OutboxLimits { max_bytes: max_bytes?, max_batches: max_batches?, max_age_ms: max_age_ms?, on_full: on_full? })
}

fn read_retry(node: Node<'_>, problems: &mut Problems) -> Option<Retry> {
    let block = Block::open(node, &["backoff_min", "backoff_max", "lease"], problems)?;
    let defaults = Retry::default();
    let backoff_min_ms = block.duration_ms("backoff_min", defaults.backoff_min_ms, BACKOFF_BOUNDS_MS, problems);
    let backoff_max_ms = block.duration_ms("backoff_max", defaults.backoff_max_ms, BACKOFF_BOUNDS_MS, problems);
    let lease_ms = block.duration_ms("lease", defaults.lease_ms, LEASE_BOUNDS_MS, problems);
    let retry = Retry { backoff_min_ms: backoff_min_ms?, backoff_max_ms: backoff_max_ms?, lease_ms: lease_ms? };
    if retry.backoff_min_ms > retry.backoff_max_ms {
        let (min, max) = (show_ms(retry.backoff_min_ms), show_ms(retry.backoff_max_ms));
        let message = format!("{min} is longer than events.retry.backoff_max, {max}");
        problems.error(&block.path().field("backoff_min"), message);
    }
    Some(retry)
}
