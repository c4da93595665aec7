//! Reads the elements of a vendor's payload: declared objects, one by one. If an element has another shape, only that one is
//! left out. Unknown fields are ignored, because a newer payload may meet an older module.

use crate::diagnostics::{Node, Problems};
use crate::document::{Document, Kind, open};
use serde_json::Value;

/// Reads the element at `node`.
pub(crate) fn read<T: Document>(node: Node<'_>, problems: &mut Problems) -> Option<T> {
    open().read(node, problems)
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
