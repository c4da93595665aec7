//! Where events go, and the limits on their way.

use super::duration::{HOUR_MS, MINUTE_MS, Millis, SECOND_MS, millis, show_ms};
use super::endpoint::{ENDPOINT, ENDPOINT_IN_PLACE, Endpoint};
use super::spool::{SPOOL, SpoolFolder};
use edgesplit_formats::FormatRef;
use edgesplit_formats::document;
use edgesplit_formats::document::{Choice, Nullable, Object, Then, strict, whole};
use edgesplit_formats::events::EventWire;

/// The most bytes that an outbox can be given.
pub const OUTBOX_BYTES_MAX: u32 = 1 << 30;
/// The most batches that an outbox can be given.
pub const OUTBOX_BATCHES_MAX: u32 = 4096;

const BACKOFF: Millis = millis(1, 24 * HOUR_MS);

/// The filter's own formats by their names, in the order of their numbers.
const OWN_FORMATS: [(&str, EventFormat); 4] = [
    ("native", EventFormat::Native),
    ("ndjson", EventFormat::Ndjson),
    ("cloudevents", EventFormat::CloudEvents),
    ("kafka-rest", EventFormat::KafkaRest),
];

document! {
    /// The service that gets events, and the limits on their way.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Events {
        /// The body of a batch.
        pub format: EventFormat = EventFormat::Native => Choice(EventFormat::all),
        /// The service that takes batches.
        pub endpoint: Endpoint => ENDPOINT_IN_PLACE,
        /// How long a delivery may take; shorter than `retry.lease`.
        pub timeout_ms as "timeout": u64 = 2 * SECOND_MS => millis(1, 5 * MINUTE_MS),
        /// When a worker's buffer is sealed into a batch: at the first of these limits.
        pub batch: Batch = Batch::default() => strict(),
        /// How long an exposure counts as seen.
        pub dedupe: Dedupe = Dedupe::default() => strict(),
        /// Whether exposures and goals of prefetched pages are withheld, because the visitor may never see them.
        pub withholds_prefetches as "prefetch": bool = true => Choice(|| vec![("withhold", true), ("count", false)]),
        /// Whether URLs in vendors' events have a query.
        pub keeps_url_query as "url_query": bool = false => Choice(|| vec![("strip", false), ("keep", true)]),
        /// The limits of the outbox, over all workers of the process.
        pub outbox: OutboxLimits = OutboxLimits::default() => strict(),
        /// When a delivery is tried again.
        pub retry: Retry = Retry::default() => RETRY,
        /// The service that gets a batch, once, that would be dropped for overflow or age.
        pub fallback: Option<Endpoint> = None => Nullable(ENDPOINT),
    }
}

/// The body of a batch.
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

document! {
    /// When a worker's buffer is sealed into a batch: at the first of the three limits.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Batch {
        /// Events in it.
        pub max_events: usize = 500 => whole(1, 10_000),
        /// Its size in bytes; not more than `outbox.max_bytes`.
        pub max_bytes: usize = 256 << 10 => whole(1, 16 << 20),
        /// Time since its first event.
        pub max_age_ms as "max_age": u64 = SECOND_MS => millis(10, 24 * HOUR_MS),
    }
}

document! {
    /// How long an exposure counts as seen.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Dedupe {
        /// The length of a window. A worker reports an exposure once in each.
        pub window_ms as "window": u64 = 30 * MINUTE_MS => millis(10, 720 * HOUR_MS),
        /// How many exposures one worker remembers.
        pub max_entries: usize = 100_000 => whole(1, 10_000_000),
    }
}

document! {
    /// The limits of the outbox, over all workers.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct OutboxLimits {
        /// Bytes of all batches.
        pub max_bytes: usize = 16 << 20 => whole(1, OUTBOX_BYTES_MAX as u64),
        /// Batches.
        pub max_batches: usize = 256 => whole(1, OUTBOX_BATCHES_MAX as u64),
        /// How long a batch may wait.
        pub max_age_ms as "max_age": u64 = 24 * HOUR_MS => millis(10, 720 * HOUR_MS),
        /// The batch that is dropped when the outbox is full.
        pub on_full: OnFull = OnFull::DropOldest => ON_FULL,
        /// The folder on the proxy's disk where batches also are, to survive the process; only in the native module.
        pub spool: Option<SpoolFolder> = None => SPOOL,
    }
}

const ON_FULL: Choice<OnFull> =
    Choice(|| vec![("drop_oldest", OnFull::DropOldest), ("drop_newest", OnFull::DropNewest)]);

/// The batch that is dropped when the outbox is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFull {
    /// The one that has waited longest.
    DropOldest,
    /// The one that would be added.
    DropNewest,
}

document! {
    /// When a delivery is tried again.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Retry {
        /// The shortest back-off; not more than `backoff_max`.
        pub backoff_min_ms as "backoff_min": u64 = SECOND_MS => BACKOFF,
        /// The longest back-off.
        pub backoff_max_ms as "backoff_max": u64 = MINUTE_MS => BACKOFF,
        /// Time after which another worker may take over a batch; longer than `timeout`.
        pub lease_ms as "lease": u64 = 10 * SECOND_MS => millis(2, 24 * HOUR_MS),
    }
}

/// The block `events`.
pub(super) const EVENTS: Then<Object<Events>, Events> = Then {
    kind: strict(),
    then: |events, node, problems| {
        let Events { timeout_ms, batch, outbox, retry, .. } = &events;
        if batch.max_bytes > outbox.max_bytes {
            let message = format!(
                "{} is more than events.outbox.max_bytes, {}: a full batch would never fit",
                batch.max_bytes, outbox.max_bytes
            );
            problems.error(&node.path.field("batch").field("max_bytes"), message);
        }
        if retry.lease_ms <= *timeout_ms {
            let (lease, timeout) = (show_ms(retry.lease_ms), show_ms(*timeout_ms));
            let message = format!(
                "{lease} is not longer than events.timeout, {timeout}: \
                 a batch would be taken over while it is being sent"
            );
            problems.error(&node.path.field("retry").field("lease"), message);
        }
        Some(events)
    },
};

const RETRY: Then<Object<Retry>, Retry> = Then {
    kind: strict(),
    then: |retry, node, problems| {
        if retry.backoff_min_ms > retry.backoff_max_ms {
            let (min, max) = (show_ms(retry.backoff_min_ms), show_ms(retry.backoff_max_ms));
            let message = format!("{min} is longer than events.retry.backoff_max, {max}");
            problems.error(&node.path.field("backoff_min"), message);
        }
        Some(retry)
    },
};
