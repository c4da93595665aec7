//! The shares of variants, and the two generations of hashing a key: its text, or its canonical CBOR (RFC 8949).

use edgesplit_engine::hash::{murmur3, murmur3_bytes};
use serde_json::{Number, Value};

/// The key that is hashed.
pub(super) enum Key<'a> {
    Value(&'a Value),
    /// The flag's key and the visitor's.
    Visitor(&'a str, &'a str),
}

/// How large the weights of an operator may be together.
const WEIGHT_SUM_MAX: f64 = 2_147_483_647.0;

/// The variant among `shares`, each a list of a variant and a weight; null if a share is invalid, or if there is none.
pub(super) fn choose(key: &Key<'_>, shares: &[Value], is_cbor: bool) -> Value {
    let Some(weights) = shares.iter().map(weight).collect::<Option<Vec<f64>>>() else { return Value::Null };
    let sum = weights.iter().fold(0.0, |sum, weight| sum + weight);
    if sum > WEIGHT_SUM_MAX {
        return Value::Null;
    }
    let bucket = (u64::from(hash(key, is_cbor)) * sum as u64) >> 32;
    let mut end = 0;
    let found = shares.iter().zip(weights).find(|(_, weight)| {
        end += *weight as u64;
        bucket < end
    });
    found.and_then(|(share, _)| share.get(0)).cloned().unwrap_or_default()
}

/// The weight of a share: 1 by default, and 0 if it is negative. None if the share is invalid.
fn weight(share: &Value) -> Option<f64> {
    let (variant, weight) = match share.as_array()?.as_slice() {
        [variant] => (variant, 1.0),
        [variant, weight] => (variant, weight.as_f64()?),
        _ => return None,
    };
    let is_valid = weight.fract() == 0.0 && !variant.is_array() && !variant.is_object();
    is_valid.then(|| weight.max(0.0))
}

fn hash(key: &Key<'_>, is_cbor: bool) -> u32 {
    match key {
        Key::Value(Value::String(text)) if !is_cbor => murmur3(0, &[text]),
        Key::Visitor(flag, visitor) if !is_cbor => murmur3(0, &[flag, visitor]),
        Key::Value(value) => {
            let mut out = Vec::new();
            write_cbor(value, &mut out);
            murmur3_bytes(0, &out)
        }
        Key::Visitor(flag, visitor) => {
            let mut out = vec![0x82];
            write_text(flag, &mut out);
            write_text(visitor, &mut out);
            murmur3_bytes(0, &out)
        }
    }
}

/// Appends the start of an item: its major type, and a number in as few bytes as possible.
fn write_head(major: u8, number: u64, out: &mut Vec<u8>) {
    let (info, bytes) = match number {
        0..24 => (number as u8, 0),
        24..0x100 => (24, 1),
        0x100..0x1_0000 => (25, 2),
        0x1_0000..0x1_0000_0000 => (26, 4),
        _ => (27, 8),
    };
    out.push(major << 5 | info);
    out.extend(number.to_be_bytes().iter().skip(8 - bytes));
}

fn write_text(text: &str, out: &mut Vec<u8>) {
    write_head(3, text.len() as u64, out);
    out.extend_from_slice(text.as_bytes());
}

fn write_cbor(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Null => out.push(0xf6),
        Value::Bool(truth) => out.push(0xf4 + u8::from(*truth)),
        Value::Number(number) => write_number(number, out),
        Value::String(text) => write_text(text, out),
        Value::Array(list) => {
            write_head(4, list.len() as u64, out);
            list.iter().for_each(|element| write_cbor(element, out));
        }
        Value::Object(members) => {
            write_head(5, members.len() as u64, out);
            // The members are sorted by their names already; shorter names come first.
            let mut lengths: Vec<usize> = members.keys().map(String::len).collect();
            edgesplit_engine::sort::sort_by(&mut lengths, |a, b| a < b);
            lengths.dedup();
            for length in lengths {
                for (name, value) in members.iter().filter(|(name, _)| name.len() == length) {
                    write_text(name, out);
                    write_cbor(value, out);
                }
            }
        }
    }
}

/// Whole numbers that fit are integers, and others the shortest float that has the same value.
fn write_number(number: &Number, out: &mut Vec<u8>) {
    const BITS_63: f64 = 9_223_372_036_854_775_808.0;
    let float = number.as_f64().unwrap_or(f64::NAN);
    let is_whole = float.fract() == 0.0;
    match (number.as_u64(), number.as_i64()) {
        (Some(whole), _) => write_head(0, whole, out),
        (None, Some(negative)) => write_head(1, !negative as u64, out),
        _ if is_whole && (0.0..2.0 * BITS_63).contains(&float) => write_head(0, float as u64, out),
        _ if is_whole && (-BITS_63..0.0).contains(&float) => write_head(1, !(float as i64) as u64, out),
        _ => match (half(float), float as f32) {
            (Some(half), _) => {
                out.push(0xf9);
                out.extend(half.to_be_bytes());
            }
            (None, single) if f64::from(single) == float => {
                out.push(0xfa);
                out.extend(single.to_be_bytes());
            }
            _ => {
                out.push(0xfb);
                out.extend(float.to_be_bytes());
            }
        },
    }
}

/// `float` in 16 bits, if it fits exactly. Whole numbers do not get here, except those with more than 64 bits.
fn half(float: f64) -> Option<u16> {
    let single = Some(float as f32).filter(|single| f64::from(*single) == float)?;
    let bits = single.to_bits();
    let (exponent, mantissa) = ((bits >> 23 & 0xff) as i32 - 127, bits & 0x7f_ffff);
    let (mantissa, dropped, base) = match exponent {
        -14..=15 => (mantissa, 13, ((exponent + 15) as u32) << 10),
        -24..-14 => (mantissa | 0x80_0000, (-1 - exponent) as u32, 0),
        _ => return None,
    };
    let is_exact = mantissa.trailing_zeros() >= dropped;
    is_exact.then_some((bits >> 16 & 0x8000 | base | mantissa >> dropped) as u16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn keys_are_hashed_by_generation() {
        let text = |text: &str, is_cbor| hash(&Key::Value(&json!(text)), is_cbor);
        assert_eq!(text("navu1", false), 3_863_078_623);
        assert_eq!(text("größe 7", false), 267_002_307);
        assert_eq!(text("jack@example.com", false), 3_946_435_534);
        assert_eq!(text("navu1", true), 668_140_480);
        assert_eq!(hash(&Key::Visitor("nav", "u1"), true), 3_229_765_565);
        assert_eq!(hash(&Key::Value(&json!(["nav", "u1"])), true), 3_229_765_565);
    }

    #[test]
    fn cbor_is_canonical() {
        // The examples of RFC 8949, appendix A.
        for (value, expected) in [
            (json!(0), "00"),
            (json!(24), "1818"),
            (json!(1_000), "1903e8"),
            (json!(1_000_000.0), "1a000f4240"),
            (json!(1_000_000_000_000_u64), "1b000000e8d4a51000"),
            (json!(-1), "20"),
            (json!(-1_000.0), "3903e7"),
            (json!(1.5), "f93e00"),
            (json!(5.960464477539063e-8), "f90001"),
            (json!(0.00006103515625), "f90400"),
            (json!(-4.1), "fbc010666666666666"),
            (json!(3.4028234663852886e38), "fa7f7fffff"),
            (json!(1.1), "fb3ff199999999999a"),
            (json!([false, true, null]), "83f4f5f6"),
            (json!("ü"), "62c3bc"),
            (json!({"aa": 1, "b": [2, 3]}), "a2616282020362616101"),
        ] {
            let mut out = Vec::new();
            write_cbor(&value, &mut out);
            let hex: String = out.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(hex, expected, "{value}");
        }
    }

    #[test]
    fn shares_are_those_of_the_bucket() {
        let choose = |key: &str, shares: Value| {
            let key = json!(key);
            super::choose(&Key::Value(&key), shares.as_array().unwrap(), false)
        };
        for (key, shares, expected) in [
            ("navu1", json!([["a", 89], ["b", 11]]), json!("b")),
            ("navu1", json!([["a", 90], ["b", 10]]), json!("a")),
            ("größe 7", json!([["a", 6], ["b", 94]]), json!("b")),
            ("jack@example.com", json!([["a"], ["b"], ["c"]]), json!("c")),
            ("navu1", json!([["a", -5], [true, 1]]), json!(true)),
            ("navu1", json!([["a", 0]]), json!(null)),
            ("navu1", json!([["a", 1.5]]), json!(null)),
            ("navu1", json!([["a", "1"]]), json!(null)),
            ("navu1", json!([[["a"], 1]]), json!(null)),
            ("navu1", json!([["a", 1, 2]]), json!(null)),
            ("navu1", json!([["a", 2_147_483_647], ["b", 1]]), json!(null)),
            ("navu1", json!(["a"]), json!(null)),
        ] {
            assert_eq!(choose(key, shares.clone()), expected, "{key} {shares}");
        }
    }
}
