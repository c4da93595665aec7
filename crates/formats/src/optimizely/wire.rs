//! Reading the members of a datafile's objects, each with its path.
//!
//! What a member is read with gives none where the member is wrong, and says so; whether that takes the whole object
//! along is for the caller to say.

use crate::diagnostics::{Node, Problems};
use serde_json::Value;

/// Reads the member `name`; a problem where it is not there.
pub(super) fn required<'a, T>(
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

/// Reads the member `name`, if it is there and not null. `None` where it is wrong.
pub(super) fn optional<'a, T>(
    node: Node<'a>,
    name: &'a str,
    problems: &mut Problems,
    read: impl FnOnce(Node<'_>, &mut Problems) -> Option<T>,
) -> Option<Option<T>> {
    match node.value.get(name) {
        None | Some(Value::Null) => Some(None),
        Some(value) => read(Node { value, path: &node.path.field(name) }, problems).map(Some),
    }
}

/// Reads a list whose elements must all be right.
pub(super) fn list<T>(
    node: Node<'_>,
    problems: &mut Problems,
    mut read: impl FnMut(Node<'_>, &mut Problems) -> Option<T>,
) -> Option<Vec<T>> {
    let values = node.array(problems)?;
    let mut elements = Vec::with_capacity(values.len());
    let mut right = true;
    // To the end even if one is wrong: a person wants to see every problem at once.
    for (index, value) in values.iter().enumerate() {
        match read(Node { value, path: &node.path.index(index) }, problems) {
            Some(element) => elements.push(element),
            None => right = false,
        }
    }
    right.then_some(elements)
}

/// Calls `each` with every element of the list `name` of the document. A list that is missing is empty, and a problem
/// where it is `expected`.
pub(super) fn each_element<'a>(
    document: Node<'a>,
    name: &'a str,
    expected: bool,
    problems: &mut Problems,
    mut each: impl FnMut(Node<'_>, &mut Problems),
) {
    let path = document.path.field(name);
    let value = match document.value.get(name) {
        Some(value) if expected || !value.is_null() => value,
        _ if expected => return problems.error(&path, "missing; expected a list"),
        _ => return,
    };
    let Some(values) = (Node { value, path: &path }).array(problems) else { return };
    for (index, value) in values.iter().enumerate() {
        each(Node { value, path: &path.index(index) }, problems);
    }
}

/// The string here.
pub(super) fn string(node: Node<'_>, problems: &mut Problems) -> Option<String> {
    node.string(problems).map(str::to_owned)
}

/// The boolean here.
pub(super) fn boolean(node: Node<'_>, problems: &mut Problems) -> Option<bool> {
    node.boolean(problems)
}
