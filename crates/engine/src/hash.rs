//! Bucketing, version 1, and the ids derived from what they name.
//!
//! `h(s)` is murmur3_x86_32 over the UTF-8 bytes of `s` with seed 0; a bucket is `h(s) * 10000 / 2^32`, rounded down.

use std::hash::{BuildHasherDefault, Hasher};

/// How many buckets there are: shares, weights and slots are counted in them.
pub const BUCKETS: u32 = 10_000;

/// murmur3_x86_32 that can be stopped and gone on with. (The `murmur3` crate reads its whole input at every call; it is what
/// this is tested against.)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Murmur3 {
    state: u32,
    /// The bytes that no whole block is made of yet, little-endian.
    rest: u32,
    length: u32,
}

impl Murmur3 {
    fn new(seed: u32) -> Murmur3 {
        Murmur3 { state: seed, rest: 0, length: 0 }
    }

    fn write(mut self, bytes: &[u8]) -> Murmur3 {
        let bits = 8 * (self.length % 4);
        let (blocks, rest) = bytes.as_chunks();
        for block in blocks {
            let shifted = u64::from(self.rest) | u64::from(u32::from_le_bytes(*block)) << bits;
            self.mix(shifted as u32);
            self.rest = (shifted >> 32) as u32;
        }
        let shifted = u64::from(self.rest) | little_endian(rest) << bits;
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

/// Fewer bytes than a whole block, as a number.
#[inline(always)]
fn little_endian(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[inline(always)]
fn scrambled(block: u32) -> u32 {
    block.wrapping_mul(0xcc9e_2d51).rotate_left(15).wrapping_mul(0x1b87_3593)
}

/// What is hashed in front of a unit, hashed already when the config is compiled.
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

    /// Its text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The bucket, from 0 to 9,999, of the text that the salt and `unit` make together.
    pub fn bucket(&self, unit: &str) -> u32 {
        self.hashed.write(unit.as_bytes()).bucket()
    }
}

/// The bucket, from 0 to 9,999, of the text that `start` and `end` make together, hashed with `seed`.
pub fn seeded_bucket(seed: u32, start: &str, end: &str) -> u32 {
    Murmur3::new(seed).write(start.as_bytes()).write(end.as_bytes()).bucket()
}

/// 64 bits of `bytes`, quickly, for what never leaves the VM. Which bits, nobody can foresee who does not know `seed`; to find
/// other bytes with the same bits is no art, so nothing may depend on that.
#[inline(always)]
pub fn hash64_seeded(seed: u64, bytes: &[u8]) -> u64 {
    let mixed = |bits: u64| {
        let bits = (bits ^ (bits >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        bits ^ (bits >> 29)
    };
    let (words, rest) = bytes.as_chunks();
    // The length tells bytes of 0 at the end from none.
    let seed = seed.wrapping_add(bytes.len() as u64);
    let hash = words.iter().fold(mixed(seed), |hash, word| mixed(hash ^ u64::from_le_bytes(*word)));
    mixed(mixed(hash ^ little_endian(rest)))
}

/// 128 bits that name the list `parts`: the same parts give the same bits in every worker, proxy and retry.
pub fn fingerprint(parts: &[&[u8]]) -> u128 {
    let mut text = Vec::with_capacity(parts.iter().map(|part| part.len() + 4).sum());
    for part in parts {
        // The length in front keeps ("ab", "c") and ("a", "bc") apart.
        text.extend_from_slice(&(part.len() as u32).to_le_bytes());
        text.extend_from_slice(part);
    }
    murmur3::murmur3_x64_128(&mut text.as_slice(), 0).unwrap_or_default()
}

/// For maps and sets of what is a hash already.
pub type BuildIdentityHasher = BuildHasherDefault<IdentityHasher>;

/// Takes 64 bits for their own hash.
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
    fn however_a_text_is_cut_its_hash_is_the_same() {
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
    fn fingerprints_tell_the_parts_apart() {
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
