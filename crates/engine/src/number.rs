//! Decimal texts and the numbers they stand for.

use crate::json;
use serde_json::Number;

/// How long a text may be that is read as a number. The time that reading takes grows with the square of its length.
const NUMBER_BYTES_MAX: usize = 1_024;

/// The number that a text of digits stands for, which may have a sign, a point and an exponent.
pub fn read(text: &str) -> Option<f64> {
    if text.len() > NUMBER_BYTES_MAX {
        return None;
    }
    if let Ok(whole) = text.parse::<u32>() {
        return Some(f64::from(whole));
    }
    let (sign, number) = match text.strip_prefix('-') {
        Some(number) => (-1.0, number),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    let (digits, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let is_number = whole.len() + fraction.len() > 0
        && is_digits(whole)
        && is_digits(fraction)
        && is_digits(exponent.strip_prefix(['+', '-']).unwrap_or(exponent))
        && exponent.ends_with(|last: char| last.is_ascii_digit());
    if !is_number {
        return None;
    }
    // JSON has digits around the point, and no zeros in front. Its reader is in the module anyway, which the standard
    // library's is not.
    let text = format!("{:0>1}.{fraction}0e{exponent}", whole.trim_start_matches('0'));
    let number = json::read(text.as_bytes()).ok().and_then(|number| number.as_f64());
    Some(sign * number.unwrap_or(f64::INFINITY))
}

fn is_digits(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

/// The integer that `text` begins with: JavaScript's `parseInt`, which also reads hexadecimal digits behind `0x`.
pub fn leading_integer(text: &str) -> Option<f64> {
    let text = text.trim_start();
    let (sign, text) = match text.strip_prefix('-') {
        Some(text) => (-1.0, text),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    let hex = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
    let (radix, text) = hex.map_or((10, text), |text| (16, text));
    let digits = text.get(..text.find(|ch: char| !ch.is_digit(radix)).unwrap_or(text.len()))?;
    let number = match radix {
        10 => read(digits)?,
        _ => digits.chars().try_fold(0.0, |sum, digit| Some(sum * 16.0 + f64::from(digit.to_digit(16)?)))?,
    };
    (!digits.is_empty()).then_some(sign * number)
}

/// `number` as JavaScript writes it (ECMA-262, Number::toString).
pub fn javascript(number: f64) -> String {
    /// Doubles distinguish every whole number up to here from its neighbours.
    const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;
    if number.fract() == 0.0 && number.abs() <= WHOLE_MAX {
        return (number as i64).to_string();
    }
    let Some(json) = Number::from_f64(number) else {
        return if number.is_nan() {
            "NaN"
        } else if number > 0.0 {
            "Infinity"
        } else {
            "-Infinity"
        }
        .to_owned();
    };
    // The digits are those that `serde_json` writes; only the place of the point and the exponent differ.
    let text = json.to_string();
    let (sign, text) = text.split_at(usize::from(number < 0.0));
    let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all = [whole, fraction].concat();
    let digits = all.trim_start_matches('0');
    let point = whole.len() as i32 - (all.len() - digits.len()) as i32 + exponent.parse::<i32>().unwrap_or_default();
    let digits = digits.trim_end_matches('0');
    let split = if (1..=21).contains(&point) { point as usize } else { 1 };
    let (before, after) = digits.split_at_checked(split).unwrap_or((digits, ""));
    match point {
        1..=21 if after.is_empty() => format!("{sign}{digits:0<0$}", point as usize),
        1..=21 => format!("{sign}{before}.{after}"),
        -5..=0 => format!("{sign}0.{digits:0>0$}", (digits.len() as i32 - point) as usize),
        _ => format!("{sign}{before}{}{after}e{:+}", if after.is_empty() { "" } else { "." }, point - 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_decimal_texts_are_read() {
        for (text, expected) in
            [("-0", -0.0), ("+1", 1.0), ("007", 7.0), ("5.", 5.0), (".5", 0.5), ("1E+5", 1e5), ("1e400", f64::INFINITY)]
        {
            assert_eq!(read(text).map(f64::to_bits), Some(expected.to_bits()), "{text}");
        }
        for text in ["", ".", "-", "e5", "1e", "1e+", "--1", "1.2.3", "1_0", "inf", "nan", " 1", "1 ", "0x1", "١"] {
            assert_eq!(read(text), None, "{text:?}");
        }
    }

    #[test]
    fn leading_integer_is_read_as_by_javascript() {
        for (text, expected) in [
            ("12beta", Some(12.0)),
            ("-5", Some(-5.0)),
            ("+5.9", Some(5.0)),
            ("0x1fz", Some(31.0)),
            (" 007", Some(7.0)),
            ("9007199254740993", Some(9_007_199_254_740_992.0)),
            ("beta1", None),
            ("0x", None),
            ("", None),
        ] {
            assert_eq!(leading_integer(text), expected, "{text:?}");
        }
    }

    #[test]
    fn numbers_are_read_as_by_the_standard_library() {
        let mut state = 1_u64;
        let mut next = |range: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % range
        };
        for _ in 0..200_000 {
            let mut text = ["", "-", "+"][next(3) as usize].to_owned();
            let (length, point) = (next(22) + 1, next(24));
            for at in 0..length {
                text.push_str(if at == point { "." } else { "" });
                text.push((b'0' + next(10) as u8) as char);
            }
            if next(2) == 0 {
                text.push_str(&format!("e{}", next(700) as i64 - 350));
            }
            assert_eq!(read(&text), text.parse().ok(), "{text}");
        }
    }

    #[test]
    fn numbers_are_written_as_by_javascript() {
        let mut state = 1_u64;
        for _ in 0..100_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let number = f64::from_bits(state);
            if number.is_finite() {
                let text = javascript(number);
                assert_eq!(text, ryu_js::Buffer::new().format(number), "{number:e}");
                assert_eq!(text.parse(), Ok(number), "{text}");
                assert_eq!(read(&text), Some(number), "{text}");
                assert_eq!(read(&format!("{number:e}")), Some(number), "{text}");
            }
        }
    }
}
