//! The shape of a vendor's elements, as a table. One check reports every value of another type; compiling then reads the values
//! where they are. Unknown members are ignored.

use crate::diagnostics::{Node, Problems};
use crate::document::KEY_BYTES_MAX;
use serde_json::Value;

/// The values that are allowed.
pub(crate) enum Shape {
    Text,
    /// A text of 1 to 256 bytes, which ends in headers and metrics.
    Key,
    Flag,
    /// A whole number of 31 bits.
    Whole,
    Number,
    List(&'static Shape),
    /// An object with these members.
    Object(&'static [Member]),
}

/// The name of a member, whether it is required, and its shape. Null is no value.
pub(crate) type Member = (&'static str, bool, Shape);

/// How large a number may be.
const NUMBER_MAX: f64 = 1e9;

/// Whether the value at `node` has this shape.
pub(crate) fn check(node: Node<'_>, shape: &Shape, problems: &mut Problems) -> bool {
    match shape {
        Shape::Text => node.string(problems).is_some(),
        Shape::Key => {
            let is_key = node.value.as_str().is_some_and(|text| (1..=KEY_BYTES_MAX).contains(&text.len()));
            if !is_key {
                node.expected(problems, "a text of 1 to 256 bytes");
            }
            is_key
        }
        Shape::Flag => node.boolean(problems).is_some(),
        Shape::Whole => node.integer(0..=i32::MAX as u64, problems).is_some(),
        Shape::Number => node.number(-NUMBER_MAX..=NUMBER_MAX, problems).is_some(),
        Shape::List(element) => {
            let elements = node.array(problems);
            let check = |(index, value)| check(Node { value, path: &node.path.index(index) }, element, problems);
            elements.is_some_and(|list| list.iter().enumerate().map(check).fold(true, |all, one| all & one))
        }
        Shape::Object(members) => {
            let mut is_right = node.object(problems).is_some();
            for (name, is_required, shape) in members.iter().filter(|_| node.value.is_object()) {
                let path = node.path.field(name);
                match node.value.get(name).filter(|value| !value.is_null()) {
                    Some(value) => is_right &= check(Node { value, path: &path }, shape, problems),
                    None if *is_required => {
                        problems.error(&path, "missing");
                        is_right = false;
                    }
                    None => {}
                }
            }
            is_right
        }
    }
}

/// The text of a member, if it is there.
pub(crate) fn text<'a>(value: &'a Value, name: &str) -> Option<&'a str> {
    value.get(name).and_then(Value::as_str)
}

/// Whether a member is true.
pub(crate) fn is_true(value: &Value, name: &str) -> bool {
    value.get(name).and_then(Value::as_bool).unwrap_or(false)
}

/// The number of a member, if it is there.
pub(crate) fn number(value: &Value, name: &str) -> Option<f64> {
    value.get(name).and_then(Value::as_f64)
}

/// The elements of a member.
pub(crate) fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value.get(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}
