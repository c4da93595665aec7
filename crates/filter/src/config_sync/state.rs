//! The values about the config in shared data.

use crate::http::headers::HeaderMap;
use crate::shared_data::{CLOCK_SKEW_MS_MAX, Reader, Record, Writer};

/// How many sources are kept at once. Usually there is one, and one more for every listener that still drains.
pub const SOURCES_MAX: usize = 8;

/// A longer validator is ignored: a source could otherwise send one that it refuses to take back.
pub const VALIDATOR_BYTES_MAX: usize = 256;

/// The keys of a source's state, of the last good config and of its text.
pub(super) fn keys(prefix: &str, source_id: u64) -> [String; 3] {
    let state = format!("{prefix}/config/{source_id:016x}");
    let (body, text) = (format!("{state}/body"), format!("{state}/text"));
    [state, body, text]
}

/// The state of a source: the version that was fetched last, and the lease of the VM that fetches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct State {
    /// Identifies the stored body; 0 if there is none.
    pub version: u64,
    /// When the source last confirmed that this config is current.
    pub confirmed_ms: i64,
    /// When to fetch next.
    pub next_fetch_ms: i64,
    /// The VM that fetches, or did so last.
    pub holder: u64,
    /// When it got the lease.
    pub leased_ms: i64,
    /// When another VM may take over.
    pub lease_until_ms: i64,
    /// How many VMs have fetched before their first tick.
    pub start_fetches: u8,
}

impl State {
    /// Whether a fetch is due, with one every `refresh_ms`. Times further ahead than that are from before the clock was set
    /// back.
    pub fn is_due(&self, now_ms: i64, refresh_ms: u64) -> bool {
        let wait_ms_max = i64::try_from(refresh_ms).unwrap_or(i64::MAX).saturating_add(CLOCK_SKEW_MS_MAX);
        let leased = now_ms < self.lease_until_ms && self.leased_ms.saturating_sub(now_ms) <= CLOCK_SKEW_MS_MAX;
        let is_early = now_ms < self.next_fetch_ms && self.next_fetch_ms.saturating_sub(now_ms) <= wait_ms_max;
        !leased && !is_early
    }
}

impl Record for State {
    const MARK: &'static [u8] = b"ESc\x02";

    fn write(&self, out: &mut Writer) {
        out.u64(self.version);
        out.u64(self.holder);
        for time_ms in [self.confirmed_ms, self.next_fetch_ms, self.leased_ms, self.lease_until_ms] {
            out.i64(time_ms);
        }
        out.u8(self.start_fetches);
    }

    fn read(bytes: &mut Reader<'_>) -> Option<State> {
        let (version, holder) = (bytes.u64()?, bytes.u64()?);
        let (confirmed_ms, next_fetch_ms, leased_ms, lease_until_ms) =
            (bytes.i64()?, bytes.i64()?, bytes.i64()?, bytes.i64()?);
        let start_fetches = bytes.u8()?;
        Some(State { version, confirmed_ms, next_fetch_ms, holder, leased_ms, lease_until_ms, start_fetches })
    }
}

/// The validator of a config, as the source sent it: identifies one state of the config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Validator {
    /// Its entity tag.
    Etag(String),
    /// The time of its last change, from sources without entity tags.
    LastModified(String),
}

impl Validator {
    /// The validator in the headers of a reply.
    pub fn of(headers: &HeaderMap<'_>) -> Option<Validator> {
        let text = |name: &str| {
            let text = std::str::from_utf8(headers.get(name)?).ok()?;
            (1..=VALIDATOR_BYTES_MAX).contains(&text.len()).then(|| text.to_owned())
        };
        text("etag").map(Validator::Etag).or_else(|| text("last-modified").map(Validator::LastModified))
    }

    /// The request header that asks for a newer state only.
    pub fn condition(&self) -> (&str, &str) {
        match self {
            Validator::Etag(etag) => ("if-none-match", etag),
            Validator::LastModified(date) => ("if-modified-since", date),
        }
    }
}

/// The last good config. Its text is a value of its own, which is written before: the host copies it once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Body {
    /// The version of the state that belongs to it.
    pub version: u64,
    /// Its validator.
    pub validator: Option<Validator>,
    /// Its revision, if the source may only send higher ones.
    pub revision: Option<String>,
    /// The hash of the text. A VM may have died before it could store this value, or two VMs may have published at once.
    pub text_hash: u64,
}

/// Added to the kind of a validator if a revision follows.
const HAS_REVISION: u8 = 4;

impl Record for Body {
    const MARK: &'static [u8] = b"ESd\x05";

    fn write(&self, out: &mut Writer) {
        let (kind, validator) = match &self.validator {
            None => (0, ""),
            Some(Validator::Etag(etag)) => (1, etag.as_str()),
            Some(Validator::LastModified(date)) => (2, date.as_str()),
        };
        let revision = self.revision.as_deref();
        out.u64(self.version);
        out.u64(self.text_hash);
        out.u8(kind + revision.map_or(0, |_| HAS_REVISION));
        out.u32(validator.len() as u32);
        out.bytes(validator.as_bytes());
        if let Some(revision) = revision {
            out.u32(revision.len() as u32);
            out.bytes(revision.as_bytes());
        }
    }

    fn read(bytes: &mut Reader<'_>) -> Option<Body> {
        let (version, text_hash, kind, length) = (bytes.u64()?, bytes.u64()?, bytes.u8()?, bytes.u32()?);
        let validator = std::str::from_utf8(bytes.bytes(length)?).ok()?.to_owned();
        let revision = if kind & HAS_REVISION == 0 {
            None
        } else {
            let length = bytes.u32()?;
            Some(std::str::from_utf8(bytes.bytes(length)?).ok()?.to_owned())
        };
        let validator = match kind & !HAS_REVISION {
            0 if validator.is_empty() => None,
            // Stored by an older module.
            1 | 2 if validator.len() > VALIDATOR_BYTES_MAX => None,
            1 => Some(Validator::Etag(validator)),
            2 => Some(Validator::LastModified(validator)),
            _ => return None,
        };
        Some(Body { version, validator, revision, text_hash })
    }
}

/// The sources whose configs are kept, the one that was configured last in front.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sources(Vec<u64>);

impl Sources {
    /// Puts a source in front, and gives the one that no longer fits. `None` if it already is in front.
    pub fn register(&mut self, source: u64) -> Option<Option<u64>> {
        if self.0.first() == Some(&source) {
            return None;
        }
        self.0.retain(|known| *known != source);
        self.0.insert(0, source);
        Some(if self.0.len() > SOURCES_MAX { self.0.pop() } else { None })
    }
}

impl Record for Sources {
    const MARK: &'static [u8] = b"ESs\x01";

    fn write(&self, out: &mut Writer) {
        for source in &self.0 {
            out.u64(*source);
        }
    }

    fn read(bytes: &mut Reader<'_>) -> Option<Sources> {
        let mut sources = Vec::new();
        while !bytes.is_empty() && sources.len() < SOURCES_MAX {
            sources.push(bytes.u64()?);
        }
        Some(Sources(sources))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shared_data::tests::assert_stored;

    fn state() -> State {
        State {
            version: u64::MAX,
            confirmed_ms: -4,
            next_fetch_ms: 10_000,
            holder: 6,
            leased_ms: 7,
            lease_until_ms: 3_000,
            start_fetches: 2,
        }
    }

    #[test]
    fn stored_forms_are_pinned() {
        let state = State {
            version: 1,
            confirmed_ms: 2,
            next_fetch_ms: 3,
            holder: 4,
            leased_ms: 5,
            lease_until_ms: -1,
            start_fetches: 7,
        };
        let hex = "45536302 0100000000000000 0400000000000000 0200000000000000 0300000000000000 0500000000000000 \
                   ffffffffffffffff 07";
        assert_stored(&state, hex);
        let body = |validator| Body { version: 1, validator, revision: None, text_hash: 2 };
        let start = "45536405 0100000000000000 0200000000000000";
        assert_stored(&body(None), &format!("{start} 00 00000000"));
        assert_stored(&body(Some(Validator::Etag("e".to_owned()))), &format!("{start} 01 01000000 65"));
        assert_stored(&body(Some(Validator::LastModified("d".to_owned()))), &format!("{start} 02 01000000 64"));
        let with_revision = Body { revision: Some("r1".to_owned()), ..body(None) };
        assert_stored(&with_revision, &format!("{start} 04 00000000 02000000 7231"));
        assert_stored(&Sources(vec![2, 1]), "45537301 0200000000000000 0100000000000000");
    }

    #[test]
    fn damaged_state_is_not_read() {
        let bytes = state().encode();
        assert_eq!(State::decode(&bytes), Some(state()));
        for end in 0..bytes.len() {
            assert_eq!(State::decode(&bytes[..end]), None, "cut at {end}");
        }
        assert_eq!(State::decode(&[&bytes[..], b"x"].concat()), None);
        assert_eq!(Body::decode(b"ESd\x05"), None);
    }

    #[test]
    fn sources_are_bounded() {
        let mut sources = Sources::default();
        for source in 0..SOURCES_MAX as u64 {
            assert_eq!(sources.register(source), Some(None));
        }
        assert_eq!(sources.register(SOURCES_MAX as u64 - 1), None, "it is in front");
        assert_eq!(sources.register(0), Some(None), "it is known");
        assert_eq!(sources.register(100), Some(Some(1)), "the one that was configured longest ago no longer fits");
        let bytes = sources.encode();
        assert_eq!(Sources::decode(&bytes), Some(sources));
        assert_eq!(Sources::decode(&bytes[..bytes.len() - 1]), None);
        assert_eq!(Sources::decode(&[&bytes[..], &[0; 8]].concat()), None, "more than are ever written");
    }

    #[test]
    fn fetch_is_due_without_a_lease_and_after_the_wait() {
        assert!(State::default().is_due(1_000, 10_000));
        assert!(!state().is_due(2_999, 10_000), "leased");
        assert!(!state().is_due(9_999, 10_000), "too early");
        assert!(state().is_due(10_000, 10_000));
        // The clock was set back by a minute: the lease and the wait are invalid.
        assert!(state().is_due(-60_000, 10_000));
    }
}
