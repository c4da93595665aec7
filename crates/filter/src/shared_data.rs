//! Shared data: the values that all VMs of the process see.
//!
//! `update` is the only way to change one: a bounded compare-and-swap loop. A stored value is a [`Record`], bytes that
//! begin with a mark and a version and are checked before use, because a module may meet the data of an older or newer
//! one. A value that cannot be read counts as absent, and is counted.
//!
//! Hosts have traps that [`crate::host::Shared`] documents: a `cas` of 0 overwrites, keys cannot be deleted, and a cleared
//! value may read as empty. An empty value therefore counts as absent.

use crate::env::Env;
use crate::host::{Host, HostError, SetError};
use crate::metrics::Counter;

/// How often a change is tried before it is given up and counted. Callers try again on a later tick.
pub const UPDATE_TRIES_MAX: u32 = 16;

/// How far apart the clocks of two workers may be. A stored time further ahead is from before the clock was set back.
pub const CLOCK_SKEW_MS_MAX: i64 = 5_000;

/// A value with a stored form.
pub trait Record: Sized {
    /// The first bytes: a name and the version of the format behind it.
    const MARK: &'static [u8];

    /// Appends the value's fields.
    fn write(&self, out: &mut Writer);

    /// Reads the fields that [`Record::write`] appends; `None` for anything else.
    fn read(bytes: &mut Reader<'_>) -> Option<Self>;

    /// The stored form.
    fn encode(&self) -> Vec<u8> {
        let mut out = Writer(Self::MARK.to_vec());
        self.write(&mut out);
        out.0
    }

    /// Reads a stored form, all of it; `None` for anything else.
    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut bytes = Reader(bytes.strip_prefix(Self::MARK)?);
        Self::read(&mut bytes).filter(|_| bytes.is_empty())
    }
}

/// Reads the value under `key`; `None` if it is absent or unreadable.
///
/// # Errors
/// The host failed; it was counted.
pub(crate) fn read<R: Record>(env: &mut Env<'_, impl Host>, key: &str) -> Result<Option<R>, HostError> {
    match env.host.shared_get(key) {
        Ok(shared) => Ok(decode_or_count(&shared.value, env)),
        Err(HostError) => {
            env.metrics.add(Counter::SharedData, 1);
            Err(HostError)
        }
    }
}

/// Changes the value under `key`. `change` may run several times, each time on the value that is there then; the default
/// stands for an absent or unreadable one. If `change` gives `None`, the value stays as it is.
///
/// # Errors
/// The host failed, or other VMs kept changing the value; it was counted.
pub(crate) fn update<R: Record + Default, T>(
    env: &mut Env<'_, impl Host>,
    key: &str,
    mut change: impl FnMut(&mut R) -> Option<T>,
) -> Result<Option<T>, HostError> {
    let mut result = None;
    swap(env, key, &mut |env, current| {
        let mut record = decode_or_count(current, env).unwrap_or_default();
        result = change(&mut record);
        result.is_some().then(|| record.encode())
    })?;
    Ok(result)
}

/// Gives the new bytes for the current ones, or `None` to leave them.
type Change<'a, H> = dyn FnMut(&mut Env<'_, H>, &[u8]) -> Option<Vec<u8>> + 'a;

/// Changes the bytes under `key` by compare-and-swap. True if `change` gave new bytes and they were stored.
///
/// # Errors
/// As [`update`].
pub(crate) fn swap<H: Host>(env: &mut Env<'_, H>, key: &str, change: &mut Change<'_, H>) -> Result<bool, HostError> {
    for _ in 0..UPDATE_TRIES_MAX {
        let written = env.host.shared_get(key).map_err(|HostError| SetError::Failed).and_then(|shared| {
            let Some(value) = change(env, &shared.value) else { return Ok(false) };
            env.host.shared_set(key, &value, shared.cas).map(|()| true)
        });
        match written {
            Ok(written) => return Ok(written),
            Err(SetError::Stale) => {}
            Err(SetError::Failed) => {
                env.metrics.add(Counter::SharedData, 1);
                return Err(HostError);
            }
        }
    }
    env.metrics.add(Counter::CasExhausted, 1);
    Err(HostError)
}

fn decode_or_count<R: Record>(bytes: &[u8], env: &mut Env<'_, impl Host>) -> Option<R> {
    let record = R::decode(bytes);
    if record.is_none() && !bytes.is_empty() {
        env.metrics.add(Counter::SharedDataCorrupt, 1);
    }
    record
}

/// Writes the fields of a record: numbers in little-endian order.
#[derive(Debug)]
pub struct Writer(Vec<u8>);

/// Reads the fields of a record. Every method gives `None` past the end.
#[derive(Debug)]
pub struct Reader<'a>(&'a [u8]);

/// One method for each type of number, named after it, in both directions.
macro_rules! numbers {
    ($($number:ident)*) => {
        impl Writer {
            $(
                #[doc = concat!("Appends a ", stringify!($number), ".")]
                pub fn $number(&mut self, number: $number) {
                    self.bytes(&number.to_le_bytes());
                }
            )*
        }

        impl Reader<'_> {
            $(
                #[doc = concat!("The next ", stringify!($number), ".")]
                pub fn $number(&mut self) -> Option<$number> {
                    let (number, rest) = self.0.split_first_chunk()?;
                    self.0 = rest;
                    Some($number::from_le_bytes(*number))
                }
            )*
        }
    };
}

numbers!(u8 u32 u64 i64 u128);

impl Writer {
    /// Appends bytes as they are. Their length has to be known to the reader by other means.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// Reserves memory for `bytes` more, to write large records without copying them.
    pub fn reserve(&mut self, bytes: usize) {
        self.0.reserve_exact(bytes);
    }
}

impl<'a> Reader<'a> {
    /// The next `count` bytes.
    pub fn bytes(&mut self, count: u32) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(count as usize)?;
        self.0 = rest;
        Some(bytes)
    }

    /// All bytes that are left.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    /// Whether all bytes were read.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
pub(crate) mod tests;
