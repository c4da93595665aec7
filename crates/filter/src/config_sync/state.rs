//! What VMs share about the config, as versioned bytes that are checked before they are believed.

use crate::http::headers::HeaderMap;

/// Marks and versions of what follows them.
const STATE_MAGIC: [u8; 4] = *b"ESc\x02";
const BODY_MAGIC: [u8; 4] = *b"ESd\x04";
const SOURCES_MAGIC: [u8; 4] = *b"ESs\x01";

/// How many sources are kept at once. There is one as a rule, and one more for every listener that still drains.
pub const SOURCES_MAX: usize = 8;

/// How far two workers' readings of the clock may be apart.
const CLOCK_SKEW_MS_MAX: i64 = 5_000;

/// Who fetches, and what was fetched.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct State {
    /// Names the stored body; 0: there is none.
    pub version: u64,
    /// When the source last said that this is the current config.
    pub confirmed_ms: i64,
    /// When to fetch next.
    pub next_fetch_ms: i64,
    /// The VM that fetches.
    pub holder: u64,
    /// Since when it does.
    pub leased_ms: i64,
    /// When another one may take over.
    pub lease_until_ms: i64,
    /// How many VMs fetched before their first tick.
    pub start_fetches: u8,
}

impl State {
    /// Whether somebody has to fetch now, where that is done every `refresh_ms`. What lies further ahead was noted before the
    /// clock was set back.
    pub fn is_due(&self, now_ms: i64, refresh_ms: u64) -> bool {
        let wait_ms_max = i64::try_from(refresh_ms).unwrap_or(i64::MAX).saturating_add(CLOCK_SKEW_MS_MAX);
        let leased = now_ms < self.lease_until_ms && self.leased_ms.saturating_sub(now_ms) <= CLOCK_SKEW_MS_MAX;
        let waits = now_ms < self.next_fetch_ms && self.next_fetch_ms.saturating_sub(now_ms) <= wait_ms_max;
        !leased && !waits
    }

    /// The bytes of the state.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = STATE_MAGIC.to_vec();
        for number in [self.version, self.holder] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        for moment in [self.confirmed_ms, self.next_fetch_ms, self.leased_ms, self.lease_until_ms] {
            bytes.extend_from_slice(&moment.to_le_bytes());
        }
        bytes.push(self.start_fetches);
        bytes
    }

    /// Reads what [`State::encode`] wrote; `None` for anything else.
    pub fn decode(bytes: &[u8]) -> Option<State> {
        let rest = bytes.strip_prefix(&STATE_MAGIC)?;
        let (numbers, start_fetches) = rest.split_at_checked(48)?;
        let [start_fetches] = start_fetches else { return None };
        let mut numbers = numbers.chunks_exact(8).filter_map(|bytes| bytes.first_chunk().copied());
        let [version, holder] = [numbers.next()?, numbers.next()?].map(u64::from_le_bytes);
        let [confirmed_ms, next_fetch_ms, leased_ms, lease_until_ms] =
            [numbers.next()?, numbers.next()?, numbers.next()?, numbers.next()?].map(i64::from_le_bytes);
        Some(State {
            version,
            confirmed_ms,
            next_fetch_ms,
            holder,
            leased_ms,
            lease_until_ms,
            start_fetches: *start_fetches,
        })
    }
}

/// What a source tells one state of its config from another by, as it said it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Validator {
    /// Its entity tag.
    Etag(String),
    /// When it was last modified: of sources that give no entity tag.
    LastModified(String),
}

impl Validator {
    /// What the headers of a reply say.
    pub fn of(headers: &HeaderMap) -> Option<Validator> {
        let text = |name: &str| {
            let text = std::str::from_utf8(headers.get(name)?).ok()?;
            (!text.is_empty()).then(|| text.to_owned())
        };
        text("etag").map(Validator::Etag).or_else(|| text("last-modified").map(Validator::LastModified))
    }

    /// The header that asks for a newer state only.
    pub fn condition(&self) -> (&str, &str) {
        match self {
            Validator::Etag(etag) => ("if-none-match", etag),
            Validator::LastModified(date) => ("if-modified-since", date),
        }
    }
}

/// The last good config as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Body {
    /// The version of the state that goes with it.
    pub version: u64,
    /// What the source tells it from a newer one by.
    pub validator: Option<Validator>,
    /// Its bytes.
    pub text: Vec<u8>,
}

impl Body {
    /// The bytes of the body.
    pub fn encode(&self) -> Vec<u8> {
        let (kind, validator) = match &self.validator {
            None => (0, ""),
            Some(Validator::Etag(etag)) => (1, etag.as_str()),
            Some(Validator::LastModified(date)) => (2, date.as_str()),
        };
        let mut bytes = Vec::with_capacity(17 + validator.len() + self.text.len());
        bytes.extend_from_slice(&BODY_MAGIC);
        bytes.extend_from_slice(&self.version.to_le_bytes());
        bytes.push(kind);
        bytes.extend_from_slice(&(validator.len() as u32).to_le_bytes());
        bytes.extend_from_slice(validator.as_bytes());
        bytes.extend_from_slice(&self.text);
        bytes
    }

    /// Reads what [`Body::encode`] wrote; `None` for anything else.
    pub fn decode(bytes: &[u8]) -> Option<Body> {
        let rest = bytes.strip_prefix(&BODY_MAGIC)?;
        let (version, rest) = rest.split_first_chunk()?;
        let (kind, rest) = rest.split_first()?;
        let (length, rest) = rest.split_first_chunk()?;
        let (validator, text) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        let validator = std::str::from_utf8(validator).ok()?.to_owned();
        let validator = match kind {
            0 if validator.is_empty() => None,
            1 => Some(Validator::Etag(validator)),
            2 => Some(Validator::LastModified(validator)),
            _ => return None,
        };
        Some(Body { version: u64::from_le_bytes(*version), validator, text: text.to_vec() })
    }
}

/// The sources that are kept, the one that was configured last in front.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sources(Vec<u64>);

impl Sources {
    /// Puts a source in front. Gives the one that there is no more room for, and nothing at all where it is in front already.
    pub fn configured(&mut self, source: u64) -> Option<Option<u64>> {
        if self.0.first() == Some(&source) {
            return None;
        }
        self.0.retain(|known| *known != source);
        self.0.insert(0, source);
        Some(if self.0.len() > SOURCES_MAX { self.0.pop() } else { None })
    }

    /// The bytes of the list.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = SOURCES_MAGIC.to_vec();
        bytes.extend(self.0.iter().flat_map(|source| source.to_le_bytes()));
        bytes
    }

    /// Reads what [`Sources::encode`] wrote; `None` for anything else.
    pub fn decode(bytes: &[u8]) -> Option<Sources> {
        let sources = bytes.strip_prefix(&SOURCES_MAGIC)?.chunks(8);
        let sources: Option<Vec<u64>> = sources.map(|bytes| bytes.try_into().ok().map(u64::from_le_bytes)).collect();
        sources.filter(|sources| sources.len() <= SOURCES_MAX).map(Sources)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn the_state_survives_its_encoding_and_damage_is_found() {
        let bytes = state().encode();
        assert_eq!(State::decode(&bytes), Some(state()));
        for end in 0..bytes.len() {
            assert_eq!(State::decode(&bytes[..end]), None, "cut at {end}");
        }
        assert_eq!(State::decode(&[&bytes[..], b"x"].concat()), None);
    }

    #[test]
    fn the_body_survives_its_encoding() {
        let date = "Mon, 23 Nov 2026 08:00:00 GMT".to_owned();
        for validator in [None, Some(Validator::Etag("\"v1\"".to_owned())), Some(Validator::LastModified(date))] {
            let body = Body { version: 7, validator, text: b"{}".to_vec() };
            assert_eq!(Body::decode(&body.encode()), Some(body));
        }
        assert_eq!(Body::decode(b"ESd\x04"), None);
    }

    #[test]
    fn only_so_many_sources_are_kept() {
        let mut sources = Sources::default();
        for source in 0..SOURCES_MAX as u64 {
            assert_eq!(sources.configured(source), Some(None));
        }
        assert_eq!(sources.configured(SOURCES_MAX as u64 - 1), None, "it is in front");
        assert_eq!(sources.configured(0), Some(None), "it is known");
        assert_eq!(sources.configured(100), Some(Some(1)), "the one that was configured longest ago goes");
        let bytes = sources.encode();
        assert_eq!(Sources::decode(&bytes), Some(sources));
        assert_eq!(Sources::decode(&bytes[..bytes.len() - 1]), None);
        assert_eq!(Sources::decode(&[&bytes[..], &[0; 8]].concat()), None, "more than are ever written");
    }

    #[test]
    fn a_fetch_is_due_when_nobody_fetches_and_it_is_time() {
        assert!(State::default().is_due(1_000, 10_000));
        assert!(!state().is_due(2_999, 10_000), "somebody fetches");
        assert!(!state().is_due(9_999, 10_000), "it is not time");
        assert!(state().is_due(10_000, 10_000));
        // The clock was set back by a minute: neither the lease nor the wait is believed.
        assert!(state().is_due(-60_000, 10_000));
    }
}
