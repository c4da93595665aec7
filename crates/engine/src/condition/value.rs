//! JavaScript's view of a value: GrowthBook's conditions are defined by the coercions of its JavaScript SDK.
//!
//! The conversions follow ECMA-262: ToString, ToNumber, `===`, and the relational comparison.

use crate::attribute::AttributeValue;
use crate::number;
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::cmp::Ordering;
use std::iter::repeat_n;

/// A value as JavaScript sees it. Text from a request and text in JSON are the same here.
#[derive(Debug, Clone, Copy)]
pub enum JsValue<'a> {
    /// Null; a missing attribute is null too.
    Null,
    /// True or false.
    Bool(bool),
    /// A double, as all numbers of JavaScript: 1 is 1.0, and whole numbers beyond 2^53 lose precision.
    Number(f64),
    /// Text.
    Text(&'a str),
    /// A list.
    List(&'a [Value]),
    /// An object.
    Object(&'a Map<String, Value>),
}

impl<'a> From<&'a Value> for JsValue<'a> {
    fn from(value: &'a Value) -> JsValue<'a> {
        match value {
            Value::Null => JsValue::Null,
            Value::Bool(truth) => JsValue::Bool(*truth),
            Value::Number(number) => JsValue::Number(number.as_f64().unwrap_or(f64::NAN)),
            Value::String(text) => JsValue::Text(text),
            Value::Array(elements) => JsValue::List(elements),
            Value::Object(members) => JsValue::Object(members),
        }
    }
}

impl<'a> JsValue<'a> {
    /// The value of an attribute.
    pub fn of(attribute: &'a AttributeValue<'a>) -> JsValue<'a> {
        match attribute {
            AttributeValue::Missing => JsValue::Null,
            AttributeValue::Text(text) => JsValue::Text(text),
            AttributeValue::Json(value) => JsValue::from(*value),
        }
    }

    /// About how many bytes a comparison or a conversion has to read.
    pub fn size(self) -> usize {
        match self {
            JsValue::Null | JsValue::Bool(_) | JsValue::Number(_) => 1,
            JsValue::Text(text) => text.len(),
            JsValue::List(elements) => elements.iter().map(|element| 1 + JsValue::from(element).size()).sum(),
            JsValue::Object(members) => {
                members.iter().map(|(name, value)| name.len() + JsValue::from(value).size()).sum()
            }
        }
    }

    /// Whether it is null.
    pub fn is_null(self) -> bool {
        matches!(self, JsValue::Null)
    }

    /// The result of `!!value`.
    pub fn is_true(self) -> bool {
        match self {
            JsValue::Null => false,
            JsValue::Bool(truth) => truth,
            JsValue::Number(number) => number != 0.0 && !number.is_nan(),
            JsValue::Text(text) => !text.is_empty(),
            JsValue::List(_) | JsValue::Object(_) => true,
        }
    }

    /// The result of `typeof`, except that GrowthBook distinguishes null and lists from objects.
    pub fn type_name(self) -> &'static str {
        match self {
            JsValue::Null => "null",
            JsValue::Bool(_) => "boolean",
            JsValue::Number(_) => "number",
            JsValue::Text(_) => "string",
            JsValue::List(_) => "array",
            JsValue::Object(_) => "object",
        }
    }

    /// Its elements, if it is a list.
    pub fn list(self) -> Option<&'a [Value]> {
        match self {
            JsValue::List(elements) => Some(elements),
            _ => None,
        }
    }

    /// The result of `String(value)`. The JSON parser bounds the depth of lists, and with it the recursion.
    pub fn text(self) -> Cow<'a, str> {
        match self {
            JsValue::Null => "null".into(),
            JsValue::Bool(true) => "true".into(),
            JsValue::Bool(false) => "false".into(),
            JsValue::Number(number) => number::javascript(number).into(),
            JsValue::Text(text) => text.into(),
            JsValue::List(elements) => {
                let text = |element: &'a Value| match element {
                    Value::Null => Cow::Borrowed(""),
                    element => JsValue::from(element).text(),
                };
                elements.iter().map(text).collect::<Vec<_>>().join(",").into()
            }
            JsValue::Object(_) => "[object Object]".into(),
        }
    }

    /// The result of `Number(value)`; NaN if it is not a number.
    pub fn number(self) -> f64 {
        match self {
            JsValue::Null => 0.0,
            JsValue::Bool(truth) => f64::from(u8::from(truth)),
            JsValue::Number(number) => number,
            JsValue::Text(text) => text_number(text),
            JsValue::List(_) => text_number(&self.text()),
            JsValue::Object(_) => f64::NAN,
        }
    }

    /// A number, or a text of digits that is one.
    pub fn decimal(self) -> Option<f64> {
        match self {
            JsValue::Number(number) => Some(number),
            JsValue::Text(text) => number::read(text),
            _ => None,
        }
    }

    /// GrowthBook's reading as a version: a text or a number, else `0`.
    pub fn version(self) -> Cow<'a, str> {
        match self {
            JsValue::Number(_) => self.text(),
            JsValue::Text(text) if !text.is_empty() => text.into(),
            _ => "0".into(),
        }
    }

    /// `===`. Lists and objects are themselves only, so one from a config is never one from a request.
    pub fn is_identical(self, value: &Value) -> bool {
        match (self, JsValue::from(value)) {
            (JsValue::Null, JsValue::Null) => true,
            (JsValue::Bool(a), JsValue::Bool(b)) => a == b,
            (JsValue::Number(a), JsValue::Number(b)) => a == b,
            (JsValue::Text(a), JsValue::Text(b)) => a == b,
            _ => false,
        }
    }

    /// Whether both have the same JSON. The members of an object may stand in any order: the parser does not
    /// keep it.
    pub fn is_same(self, value: &Value) -> bool {
        match (self, JsValue::from(value)) {
            (JsValue::List(a), JsValue::List(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| JsValue::from(a).is_same(b))
            }
            (JsValue::Object(a), JsValue::Object(b)) => {
                let same = |(name, a)| b.get(name).is_some_and(|b| JsValue::from(a).is_same(b));
                a.len() == b.len() && a.iter().all(same)
            }
            _ => self.is_identical(value),
        }
    }

    /// The order behind `<` and its like: two texts by their UTF-16 units, all else as numbers. None with a NaN.
    pub fn compare(self, other: JsValue<'_>) -> Option<Ordering> {
        match (self.as_text(), other.as_text()) {
            (Some(a), Some(b)) => Some(a.encode_utf16().cmp(b.encode_utf16())),
            _ => self.number().partial_cmp(&other.number()),
        }
    }

    /// The text of a value that JavaScript converts to a text, not to a number, before a comparison.
    fn as_text(self) -> Option<Cow<'a, str>> {
        matches!(self, JsValue::Text(_) | JsValue::List(_) | JsValue::Object(_)).then(|| self.text())
    }
}

/// A text as JavaScript reads it as a number.
fn text_number(text: &str) -> f64 {
    let text = text.trim_matches(is_space);
    if text.is_empty() {
        return 0.0;
    }
    for (radix, prefixes) in [(16, ["0x", "0X"]), (8, ["0o", "0O"]), (2, ["0b", "0B"])] {
        if let Some(digits) = prefixes.iter().find_map(|prefix| text.strip_prefix(prefix)) {
            let add = |sum: f64, digit: char| Some(sum * f64::from(radix) + f64::from(digit.to_digit(radix)?));
            let number = digits.chars().try_fold(0.0, add).filter(|_| !digits.is_empty());
            return number.unwrap_or(f64::NAN);
        }
    }
    match text {
        "Infinity" | "+Infinity" => f64::INFINITY,
        "-Infinity" => f64::NEG_INFINITY,
        _ => number::read(text).unwrap_or(f64::NAN),
    }
}

/// Whether `ch` is white space to JavaScript, which differs from Unicode in two characters.
pub fn is_space(ch: char) -> bool {
    ch == '\u{FEFF}' || (ch.is_whitespace() && ch != '\u{85}')
}

/// `text` in lower case, borrowed where it is so already.
pub fn lower_case(text: &str) -> Cow<'_, str> {
    if text.bytes().all(|byte| byte.is_ascii() && !byte.is_ascii_uppercase()) {
        text.into()
    } else {
        text.to_lowercase().into()
    }
}

/// A version in a spelling whose UTF-16 units sort as versions do: without a leading `v` and the build after `+`, numbers
/// padded to five places, and `~`, which sorts after any pre-release, where a version of three parts has none.
pub fn padded_version(version: &str) -> impl Iterator<Item = u16> {
    const NUMBER_PLACES: usize = 5;
    let version = version.strip_prefix('v').unwrap_or(version);
    let version = version.split_once('+').map_or(version, |(version, _build)| version);
    let parts = version.split(['-', '.']);
    let release = (parts.clone().count() == 3).then_some("~");
    parts.chain(release).enumerate().flat_map(|(index, part)| {
        let is_number = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        let padding = if is_number { NUMBER_PLACES.saturating_sub(part.len()) } else { 0 };
        let separator = (index > 0).then_some(u16::from(b'-'));
        separator.into_iter().chain(repeat_n(u16::from(b' '), padding)).chain(part.encode_utf16())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn numbers_are_written_as_javascript_does() {
        for (number, expected) in [
            (json!(0), "0"),
            (json!(-0.0), "0"),
            (json!(1.0), "1"),
            (json!(-1.5), "-1.5"),
            (json!(1e-6), "0.000001"),
            (json!(1.5e-7), "1.5e-7"),
            (json!(1e20), "100000000000000000000"),
            (json!(1e21), "1e+21"),
            (json!(-1.25e30), "-1.25e+30"),
            (json!(9007199254740993_u64), "9007199254740992"),
        ] {
            assert_eq!(JsValue::from(&number).text(), expected, "{number}");
        }
        assert_eq!(JsValue::from(&json!([1, null, ["a", true], {}])).text(), "1,,a,true,[object Object]");
    }

    #[test]
    fn texts_are_read_as_numbers_as_javascript_does() {
        for (text, expected) in [
            ("", 0.0),
            (" \u{FEFF}12\n", 12.0),
            ("-1.5e2", -150.0),
            (".5", 0.5),
            ("5.", 5.0),
            ("0x1F", 31.0),
            ("0b101", 5.0),
            ("0O17", 15.0),
            ("-Infinity", f64::NEG_INFINITY),
        ] {
            assert_eq!(text_number(text), expected, "{text:?}");
        }
        for text in ["1_000", "inf", "nan", "infinity", "0x", "-0x1", "1e", ".", "1 2", "12px", "\u{85}1"] {
            assert!(text_number(text).is_nan(), "{text:?}");
        }
    }

    #[test]
    fn versions_sort_as_versions() {
        let ascending =
            ["0.9.9", "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta.2", "1.0.0-beta.11", "v1.0.0"];
        for pair in ascending.windows(2) {
            assert!(padded_version(pair[0]).lt(padded_version(pair[1])), "{pair:?}");
        }
        assert!(padded_version("v1.2.3+build").eq(padded_version("1-2-3+other")));
        let spelled: Vec<u16> = padded_version("1.2.3").collect();
        assert_eq!(String::from_utf16(&spelled).unwrap(), "    1-    2-    3-~");
    }
}
