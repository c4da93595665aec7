//! Reads an element of a vendor's payload into a struct that derives `Deserialize`. If the element has another shape, the
//! first problem is reported with its path, and only that element is left out. Unknown fields are ignored, because a newer
//! payload may meet an older module.

use crate::diagnostics::{Node, Problems};
use serde::Deserialize;
use serde::de::{Deserializer, Error};
use serde_json::Value;
use serde_path_to_error::Segment;

/// Keys are part of headers, metrics and events, so longer ones are refused.
pub(crate) const KEY_BYTES_MAX: usize = 256;

/// Reads the element at `node`.
pub(crate) fn read<'a, T: Deserialize<'a>>(node: Node<'a>, problems: &mut Problems) -> Option<T> {
    match serde_path_to_error::deserialize(node.value) {
        Ok(element) => Some(element),
        Err(error) => {
            let segments: Vec<&Segment> = error.path().iter().collect();
            report(node, &segments, &error.inner().to_string(), problems);
            None
        }
    }
}

/// Reports `message` at the end of the path `segments`, which begins at `node`.
fn report(node: Node<'_>, segments: &[&Segment], message: &str, problems: &mut Problems) {
    let Node { value, path } = node;
    match segments {
        [Segment::Map { key }, rest @ ..] => {
            let value = value.get(key).unwrap_or(&Value::Null);
            report(Node { value, path: &path.field(key) }, rest, message, problems);
        }
        [Segment::Seq { index }, rest @ ..] => {
            let value = value.get(*index).unwrap_or(&Value::Null);
            report(Node { value, path: &path.index(*index) }, rest, message, problems);
        }
        [_, rest @ ..] => report(node, rest, message, problems),
        [] => {
            if let Some(name) = message.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`')) {
                return problems.error(&path.field(name), "missing");
            }
            let expected =
                message.strip_prefix("expected ").or(message.split_once(", expected ").map(|(_, text)| text));
            match expected {
                Some("a borrowed string") => node.expected(problems, "a string"),
                Some("a sequence") => node.expected(problems, "a list"),
                Some("a boolean") => node.expected(problems, "true or false"),
                Some(expected) => node.expected(problems, expected),
                None => problems.error(path, message),
            }
        }
    }
}

/// Reads a key: a text that is neither empty nor too long.
pub(crate) fn key<'de, D: Deserializer<'de>>(deserializer: D) -> Result<&'de str, D::Error> {
    let key = <&str>::deserialize(deserializer)?;
    match key.len() {
        1..=KEY_BYTES_MAX => Ok(key),
        _ => Err(Error::custom(format_args!("expected a key of 1 to {KEY_BYTES_MAX} bytes"))),
    }
}

/// Reads a whole number, which may be written as a double.
pub(crate) fn whole<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let number = f64::deserialize(deserializer).unwrap_or(f64::NAN);
    if number.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(&number) {
        return Ok(number as u32);
    }
    Err(Error::custom(format_args!("expected a whole number from 0 to {}", u32::MAX)))
}

/// Reads a member that must be there but may be null.
pub(crate) fn nullable<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de str>, D::Error> {
    Option::deserialize(deserializer)
}

/// Calls `each` with every element of the list at `node`, and collects the results. None if one of them is none.
pub(crate) fn list<T>(
    node: Node<'_>,
    problems: &mut Problems,
    mut each: impl FnMut(Node<'_>, &mut Problems) -> Option<T>,
) -> Option<Vec<T>> {
    let mut elements = Some(Vec::new());
    for (index, value) in node.array(problems)?.iter().enumerate() {
        let element = each(Node { value, path: &node.path.index(index) }, problems);
        elements = elements.zip(element).map(|(mut elements, element)| {
            elements.push(element);
            elements
        });
    }
    elements
}

/// Calls `read` with the member `name`; an error if it is missing.
pub(crate) fn required<'a, T>(
    node: Node<'a>,
    name: &'a str,
    problems: &mut Problems,
    read: impl FnOnce(Node<'_>, &mut Problems) -> Option<T>,
) -> Option<T> {
    let path = node.path.field(name);
    match node.value.get(name) {
        Some(value) => read(Node { value, path: &path }, problems),
        None => {
            problems.error(&path, "missing");
            None
        }
    }
}

/// The elements of the list `name`. A list that `is_required` is an error if it is missing.
pub(crate) fn elements<'a>(node: Node<'a>, name: &str, is_required: bool, problems: &mut Problems) -> &'a [Value] {
    let path = node.path.field(name);
    match node.value.get(name) {
        Some(value) if is_required || !value.is_null() => value.as_array().map(Vec::as_slice).unwrap_or_else(|| {
            Node { value, path: &path }.expected(problems, "a list");
            &[]
        }),
        _ => {
            if is_required {
                problems.error(&path, "missing; expected a list");
            }
            &[]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostics::Path;
    use serde_json::json;

    #[derive(Debug, Deserialize)]
    #[serde(expecting = "an object")]
    struct Rule<'a> {
        #[serde(borrow, deserialize_with = "key")]
        _key: &'a str,
        #[serde(borrow)]
        _ranges: Vec<Range<'a>>,
        _on: Option<bool>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(expecting = "an object")]
    struct Range<'a> {
        _id: &'a str,
        #[serde(deserialize_with = "whole")]
        _end: u32,
    }

    #[test]
    fn first_problem_is_reported_with_its_path() {
        let root = Path::Root;
        let path = root.field("rules");
        let report = |value: Value| {
            let mut problems = Problems::new();
            let path = path.index(1);
            let is_read = read::<Rule<'_>>(Node { value: &value, path: &path }, &mut problems).is_some();
            assert_eq!(is_read, problems.errors() == 0);
            problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
        };
        let rule = |ranges: Value| json!({"_key": "k", "_ranges": ranges, "_on": null, "news": {}});
        for (value, expected) in [
            (rule(json!([{"_id": "a", "_end": 7.0}])), ""),
            (json!([]), "rules[1]: expected an object, found the list []"),
            (json!({"_key": "k"}), "rules[1]._ranges: missing"),
            (json!({"_key": ""}), "rules[1]._key: expected a key of 1 to 256 bytes, found the string \"\""),
            (json!({"_key": 7}), "rules[1]._key: expected a string, found the number 7"),
            (rule(json!({})), "rules[1]._ranges: expected a list, found the object {}"),
            (rule(json!([{"_id": "a"}])), "rules[1]._ranges[0]._end: missing"),
            (
                rule(json!([{"_id": "a", "_end": -1}])),
                "rules[1]._ranges[0]._end: expected a whole number from 0 to 4294967295, found the number -1",
            ),
            (json!({"_on": 1}), "rules[1]._on: expected true or false, found the number 1"),
        ] {
            assert_eq!(report(value.clone()), expected, "{value}");
        }
    }
}
