//! Bucketing, version 1, and derived ids.
//!
//! `h(s)` is murmur3_x86_32 over the UTF-8 bytes of `s` with seed 0; a bucket is `h(s) * 10000 / 2^32`, rounded down.

use std::hash::{BuildHasherDefault, Hasher};

/// The number of buckets, in which shares, weights and slots are counted.
pub const BUCKETS: u32 = 10_000;

/// An incremental murmur3_x86_32. (The `murmur3` crate needs its whole input in every call. The tests compare with it.)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Murmur3 {
    state: u32,
    /// The bytes of an incomplete block, little-endian.
    rest: u32,
    length: u32,
}

impl Murmur3 {
    fn new(seed: u32) -> Murmur3 {
        Murmur3 { state: seed, rest: 0, length: 0 }
    }

    #[inline(always)]
    fn write(mut self, bytes: &[u8]) -> Murmur3 {
        let bits = 8 * (self.length % 4);
        let (blocks, rest) = bytes.as_chunks();
        for block in blocks {
            let shifted = u64::from(self.rest) | u64::from(u32::from_le_bytes(*block)) << bits;
            self.mix(shifted as u32);
            self.rest = (shifted >> 32) as u32;
        }
        let shifted = u64::from(self.rest) | last_bytes(bytes, rest.len()) << bits;
        self.rest = shifted as u32;
        if bits as usize / 8 + rest.len() >= 4 {
            self.mix(self.rest);
            self.rest = (shifted >> 32) as u32;
        }
        self.length = self.length.wrapping_add(bytes.len() as u32);
        self
    }

    #[inline(always)]
    fn mix(&mut self, block: u32) {
        let mixed = (self.state ^ scrambled(block)).rotate_left(13);
        self.state = mixed.wrapping_mul(5).wrapping_add(0xe654_6b64);
    }

    #[inline(always)]
    fn finish(self) -> u32 {
        // An empty rest scrambles to 0.
        let mut hash = self.state ^ scrambled(self.rest) ^ self.length;
        hash = (hash ^ (hash >> 16)).wrapping_mul(0x85eb_ca6b);
        hash = (hash ^ (hash >> 13)).wrapping_mul(0xc2b2_ae35);
        hash ^ (hash >> 16)
    }

    #[inline(always)]
    fn bucket(self) -> u32 {
        ((u64::from(self.finish()) * u64::from(BUCKETS)) >> 32) as u32
    }
}

/// The last `count` of `bytes`, less than four, as a number.
#[inline(always)]
fn last_bytes(bytes: &[u8], count: usize) -> u64 {
    match bytes.last_chunk() {
        Some(last) => u64::from(u32::from_le_bytes(*last)) >> (32 - 8 * count),
        None => little_endian(bytes),
    }
}

/// An incomplete block as a number.
#[inline(always)]
fn little_endian(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[inline(always)]
fn scrambled(block: u32) -> u32 {
    block.wrapping_mul(0xcc9e_2d51).rotate_left(15).wrapping_mul(0x1b87_3593)
}

/// The prefix of a unit in hashes. It is hashed when the config is compiled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Salt {
    text: Box<str>,
    hashed: Murmur3,
}

impl Salt {
    /// The salt of this text.
    pub fn new(text: impl Into<Box<str>>) -> Salt {
        let text = text.into();
        Salt { hashed: Murmur3::new(0).write(text.as_bytes()), text }
    }

    /// The state of the hash behind it.
    pub fn hashed(&self) -> HashedSalt {
        HashedSalt(self.hashed)
    }

    /// Its text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The bucket, from 0 to 9,999, of the salt followed by `unit`.
    pub fn bucket(&self, unit: &str) -> u32 {
        self.hashed().bucket(unit)
    }
}

/// The state of a hash behind a [`Salt`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HashedSalt(Murmur3);

impl Default for HashedSalt {
    /// The state before any text.
    fn default() -> HashedSalt {
        HashedSalt(Murmur3::new(0))
    }
}

impl HashedSalt {
    /// The bucket of the text that the salt and `unit` make together.
    pub fn bucket(self, unit: &str) -> u32 {
        self.0.write(unit.as_bytes()).bucket()
    }
}

/// The bucket, from 0 to 9,999, of `start` followed by `end`, hashed with `seed`.
pub fn seeded_bucket(seed: u32, start: &str, end: &str) -> u32 {
    Murmur3::new(seed).write(start.as_bytes()).write(end.as_bytes()).bucket()
}

/// The murmur3_x86_32 of `parts` together, with this seed.
pub fn murmur3(seed: u32, parts: &[&str]) -> u32 {
    parts.iter().fold(Murmur3::new(seed), |hash, part| hash.write(part.as_bytes())).finish()
}

/// The murmur3_x86_32 of `bytes`, with this seed.
pub fn murmur3_bytes(seed: u32, bytes: &[u8]) -> u32 {
    Murmur3::new(seed).write(bytes).finish()
}

/// A fast hash for names that never leave the VM. It cannot be predicted without `seed`, but it is no cryptographic hash:
/// collisions are easy to construct, so nothing may rely on their absence.
#[inline(always)]
pub fn hash64_seeded(seed: u64, bytes: &[u8]) -> u64 {
    let mixed = |bits: u64| {
        let bits = (bits ^ (bits >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        bits ^ (bits >> 29)
    };
    let (words, rest) = bytes.as_chunks();
    // The length distinguishes trailing zero bytes from none.
    let seed = seed.wrapping_add(bytes.len() as u64);
    let hash = words.iter().fold(mixed(seed), |hash, word| mixed(hash ^ u64::from_le_bytes(*word)));
    mixed(mixed(hash ^ little_endian(rest)))
}

/// An id of 128 bits for the list `parts`: the same in every worker, proxy and retry.
pub fn fingerprint(parts: &[&[u8]]) -> u128 {
    let mut text = Vec::with_capacity(parts.iter().map(|part| part.len() + 4).sum());
    for part in parts {
        // The length in front distinguishes ("ab", "c") from ("a", "bc").
        text.extend_from_slice(&(part.len() as u32).to_le_bytes());
        text.extend_from_slice(part);
    }
    murmur3::murmur3_x64_128(&mut text.as_slice(), 0).unwrap_or_default()
}

/// Hashes keys that are hashes already, for maps and sets.
pub type BuildIdentityHasher = BuildHasherDefault<IdentityHasher>;

/// Returns 64 bits unchanged.
#[derive(Debug, Default)]
pub struct IdentityHasher(u64);

impl Hasher for IdentityHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        // Not called for a u64.
        self.0 = bytes.iter().fold(self.0, |hash, byte| hash.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_follow_the_formula() {
        // Values from an independent implementation: pure Python, checked against vendors' murmur3 vectors.
        for (salt, unit, expected) in HASHES {
            assert_eq!(Salt::new(*salt).bucket(unit), *expected, "{salt}{unit}");
        }
    }

    /// Vendor-asserted murmur3_x86_32 values with seed 0 that sit on the edges (flagd's testbed).
    #[test]
    fn buckets_reach_both_ends() {
        assert_eq!(Salt::new("").bucket("ejOoVL"), 0, "hash 0");
        assert_eq!(Salt::new("").bucket("ceQdGm"), 9_999, "hash 2^32 - 1");
        assert_eq!(Salt::new("SI7").bucket("p-"), 4_999, "hash 2^31 - 1");
        assert_eq!(Salt::new("6LvT").bucket("0"), 5_000, "hash 2^31");
    }

    #[test]
    fn incremental_hash_equals_the_whole() {
        let text = "experiment/variant/ünïcødé-4711";
        for end in 0..=text.len() {
            let whole = &text.as_bytes()[..end];
            let expected = murmur3::murmur3_32(&mut &whole[..], 7).unwrap();
            for at in 0..=end {
                let (salt, unit) = whole.split_at(at);
                assert_eq!(Murmur3::new(7).write(salt).write(unit).finish(), expected, "{end} cut at {at}");
            }
        }
    }

    #[test]
    fn every_byte_and_the_seed_change_all_bits() {
        for length in 1..40 {
            let bytes: Vec<u8> = (0..length).map(|at: u8| at.wrapping_mul(37)).collect();
            let hash = hash64_seeded(7, &bytes);
            assert_ne!(hash, hash64_seeded(7, &[&bytes[..], b"\0"].concat()));
            for at in 0..bytes.len() {
                let mut other = bytes.clone();
                other[at] ^= 1;
                let changed = (hash ^ hash64_seeded(7, &other)).count_ones();
                assert!((12..=52).contains(&changed), "{changed} bits by byte {at} of {length}");
            }
            assert!((12..=52).contains(&(hash ^ hash64_seeded(8, &bytes)).count_ones()));
        }
    }

    #[test]
    fn fingerprints_depend_on_the_division_into_parts() {
        assert_ne!(fingerprint(&[b"ab", b"c"]), fingerprint(&[b"a", b"bc"]));
        assert_eq!(fingerprint(&[b"ab", b"c"]), fingerprint(&[b"ab", b"c"]));
    }

    const HASHES: &[(&str, &str, u32)] = &[
        ("checkout-button/traffic/", "u1", 233),
        ("checkout-button/variant/", "u1", 4421),
        ("holdout/q4/", "visitor-42", 3584),
        ("layer/checkout/", "ünïcødé", 4910),
        ("s/variant/", "😀", 9190),
        ("", "", 0),
    ];
}
