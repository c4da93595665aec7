//! Numbers and their texts, by way of the JSON library's reader and writer: with the standard library's, a module would hold both
//! (`serde_json`'s feature `float_roundtrip` makes its reader as exact as theirs).

use serde_json::Value;

/// The number that `text` is: digits, which may have a sign, a point and an exponent.
pub fn read(text: &str) -> Option<f64> {
    let (sign, text) = match text.strip_prefix('-') {
        Some(text) => (-1.0, text),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let are_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let exponent_digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
    if exponent_digits.is_empty()
        || (whole.is_empty() && fraction.is_empty())
        || ![whole, fraction, exponent_digits].into_iter().all(are_digits)
    {
        return None;
    }
    // JSON wants one digit at least on both sides of the point, and no zero before others.
    let json = format!("{:0>1}.{fraction}0e{exponent}", whole.trim_start_matches('0'));
    // Only a number that is too large for a double is refused.
    let value = serde_json::from_slice(json.as_bytes()).unwrap_or(Value::Null);
    Some(sign * value.as_f64().unwrap_or(f64::INFINITY))
}

/// `number` as JavaScript writes it (ECMA-262, Number::toString).
pub fn javascript(number: f64) -> String {
    let mut buffer = zmij::Buffer::new();
    // The shortest digits that are this number and no other, in a form such as `-0.00015`, `150.0` or `1.5e-7`.
    let written = buffer.format(number.abs());
    let (mantissa, exponent) = written.split_once('e').unwrap_or((written, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all = format!("{whole}{fraction}");
    let significant = all.trim_start_matches('0');
    // The place of the point among the significant digits.
    let point = whole.len() as i32 - (all.len() - significant.len()) as i32 + exponent.parse().unwrap_or(0);
    let digits = significant.trim_end_matches('0');
    let count = digits.len() as i32;
    let sign = if number < 0.0 { "-" } else { "" };
    let zeros = |count: i32| "0".repeat(usize::try_from(count).unwrap_or(0));
    let split = |at: i32| digits.split_at_checked(usize::try_from(at).unwrap_or(0)).unwrap_or((digits, ""));
    match point {
        _ if digits.is_empty() => "0".to_owned(), // also -0
        1..=21 if count <= point => format!("{sign}{digits}{}", zeros(point - count)),
        1..=21 => {
            let (whole, fraction) = split(point);
            format!("{sign}{whole}.{fraction}")
        }
        -5..=0 => format!("{sign}0.{}{digits}", zeros(-point)),
        _ => {
            let (first, others) = split(1);
            let dot = if others.is_empty() { "" } else { "." };
            format!("{sign}{first}{dot}{others}e{:+}", point - 1)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_read_as_the_standard_library_does() {
        for text in [
            "0",
            "-0",
            "+1",
            "007",
            "5.",
            ".5",
            "-1.5e2",
            "1E+5",
            "1e-5",
            "1e400",
            "-1e999999999999",
            "1e-400",
            "0e999999999999",
            "9007199254740993",
            "123456789012345678901234567890",
            "0.1",
            "2.2250738585072011e-308",
            "1.7976931348623157e308",
            "179769313486231570814527423731704356798070567525844996598917476803157260780028538760589558632766878171540458953514382464234321326889464182768467546703537516986049910576551282076245490090389328944075868508455133942304583236903222948165808559332123347747979.0",
            "0.3333333333333333148296162562473909929394721984863281250000000000001",
        ] {
            let expected: f64 = text.parse().unwrap();
            assert_eq!(read(text).map(f64::to_bits), Some(expected.to_bits()), "{text}");
        }
        for text in ["", ".", "-", "e5", "1e", "1e+", "--1", "1.2.3", "1_0", "inf", "nan", " 1", "1 ", "0x1", "١"] {
            assert_eq!(read(text), None, "{text:?}");
        }
    }

    #[test]
    fn every_number_comes_back() {
        let mut state = 1_u64;
        for _ in 0..100_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let number = f64::from_bits(state);
            if number.is_finite() {
                let text = javascript(number);
                assert_eq!(text.parse(), Ok(number), "{text}");
                assert_eq!(read(&text), Some(number), "{text}");
                assert_eq!(read(&format!("{number:e}")), Some(number), "{text}");
            }
        }
    }
}
