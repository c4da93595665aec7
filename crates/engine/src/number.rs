//! Decimal texts and the numbers they stand for.

/// The number that a text of digits stands for, which may have a sign, a point and an exponent.
pub fn read(text: &str) -> Option<f64> {
    // The standard library also reads names such as `inf`.
    let is_decimal = text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'+' | b'-' | b'.' | b'e' | b'E'));
    if is_decimal { text.parse().ok() } else { None }
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
        10 => digits.parse().ok()?,
        _ => digits.chars().try_fold(0.0, |sum, digit| Some(sum * 16.0 + f64::from(digit.to_digit(16)?)))?,
    };
    (!digits.is_empty()).then_some(sign * number)
}

/// `number` as JavaScript writes it (ECMA-262, Number::toString).
pub fn javascript(number: f64) -> String {
    ryu_js::Buffer::new().format(number).to_owned()
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
