//! GrowthBook's bucketing: hashes, ranges, namespaces. Source: the SDK's `util.ts` and the "build your own" pages of
//! docs.growthbook.io.
//!
//! A bucket is a fraction from 0 to 1. All arithmetic uses doubles in the SDK's order, which puts visitors at the
//! edge of a range on the same side as in the SDK.

/// The part of the buckets from the first number up to, not including, the second.
pub type Range = (f64, f64);

/// A version of GrowthBook's hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HashVersion {
    /// The first one: biased, with 1,000 buckets.
    V1,
    /// Hashed twice, with 10,000 buckets.
    V2,
    /// An unknown version, which puts no visitor into any bucket.
    Unknown,
}

impl HashVersion {
    /// The version of this number.
    pub fn of(number: f64) -> HashVersion {
        match number {
            1.0 => HashVersion::V1,
            2.0 => HashVersion::V2,
            _ => HashVersion::Unknown,
        }
    }
}

/// A seed, ready to hash units with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hasher {
    seed: Box<str>,
    version: HashVersion,
    /// The state after the seed; only version 2 hashes the seed first.
    seeded: u32,
}

impl Hasher {
    /// A hasher with this seed.
    pub fn new(seed: &str, version: HashVersion) -> Hasher {
        Hasher { seed: seed.into(), version, seeded: fnv1a(FNV_OFFSET, seed) }
    }

    /// A hasher for namespaces of the name `name`.
    pub fn namespace(name: &str) -> Hasher {
        Hasher::new(&format!("__{name}"), HashVersion::V1)
    }

    /// The bucket of `unit`; none if the version is unknown.
    pub fn bucket(&self, unit: &str) -> Option<f64> {
        match self.version {
            HashVersion::V1 => Some(f64::from(fnv1a(fnv1a(FNV_OFFSET, unit), &self.seed) % 1_000) / 1_000.0),
            HashVersion::V2 => {
                let mut digits = Digits::default();
                let first = fnv1a(self.seeded, unit);
                Some(f64::from(fnv1a_units(FNV_OFFSET, digits.of(first)) % 10_000) / 10_000.0)
            }
            HashVersion::Unknown => None,
        }
    }
}

/// The bucket of `unit` under `seed`; none where there is no such version.
pub fn hash(seed: &str, unit: &str, version: f64) -> Option<f64> {
    Hasher::new(seed, HashVersion::of(version)).bucket(unit)
}

const FNV_OFFSET: u32 = 0x811c_9dc5;
const FNV_PRIME: u32 = 0x0100_0193;

/// FNV-1a with 32 bits, but over the UTF-16 units of a JavaScript string.
fn fnv1a(state: u32, text: &str) -> u32 {
    if text.is_ascii() {
        return fnv1a_units(state, text.bytes().map(u16::from));
    }
    fnv1a_units(state, text.encode_utf16())
}

fn fnv1a_units(state: u32, units: impl Iterator<Item = u16>) -> u32 {
    units.fold(state, |state, unit| (state ^ u32::from(unit)).wrapping_mul(FNV_PRIME))
}

/// The decimal digits of a number, without allocating.
#[derive(Default)]
struct Digits([u8; 10]);

impl Digits {
    fn of(&mut self, mut number: u32) -> impl Iterator<Item = u16> + '_ {
        let mut length = 0;
        for digit in self.0.iter_mut().rev() {
            *digit = b'0' + (number % 10) as u8;
            number /= 10;
            length += 1;
            if number == 0 {
                break;
            }
        }
        let from = self.0.len() - length;
        self.0.iter().skip(from).map(|&digit| u16::from(digit))
    }
}

/// Whether `bucket` is within `range`.
pub fn in_range(bucket: f64, range: Range) -> bool {
    bucket >= range.0 && bucket < range.1
}

/// Whether `unit` is in the part `range` of the namespace `name`.
pub fn in_namespace(unit: &str, name: &str, range: Range) -> bool {
    Hasher::namespace(name).bucket(unit).is_some_and(|bucket| in_range(bucket, range))
}

/// The first of `ranges` that holds `bucket`.
pub fn choose_variation(bucket: f64, ranges: &[Range]) -> Option<usize> {
    ranges.iter().position(|&range| in_range(bucket, range))
}

/// The same weight for each of `count` variations.
pub fn equal_weights(count: usize) -> Vec<f64> {
    vec![1.0 / count as f64; count]
}

/// Whether `weights` are used for `count` variations: as many as them, and about 1 together. Else equal ones are.
pub fn are_weights_usable(weights: &[f64], count: usize) -> bool {
    let total = weights.iter().fold(0.0, |total, weight| total + weight);
    weights.len() == count && (0.99..=1.01).contains(&total)
}

/// The ranges of `count` variations. Each covers the share `coverage` of the range that its weight gives it.
pub fn bucket_ranges(count: usize, coverage: f64, weights: Option<&[f64]>) -> Vec<Range> {
    let coverage = coverage.clamp(0.0, 1.0);
    let mut end = 0.0;
    let range = |weight: f64| {
        let start = end;
        end += weight;
        (start, start + coverage * weight)
    };
    match weights.filter(|weights| are_weights_usable(weights, count)) {
        Some(weights) => weights.iter().copied().map(range).collect(),
        None => equal_weights(count).into_iter().map(range).collect(),
    }
}
