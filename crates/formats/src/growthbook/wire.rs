//! Reads the payload's JSON. Absent members, nulls and invalid values are none; invalid ones are reported.

use super::hash::Range;
use crate::conditions::{self, SavedGroups};
use crate::diagnostics::{Node, Problems};
use edgesplit_engine::condition::Condition;
use serde_json::Value;

/// The state of compiling a part of the payload.
pub(super) struct Scope<'a> {
    pub(super) problems: Problems,
    /// The number of errors that are reported, but disable nothing, since the SDK has a meaning for them.
    pub(super) tolerated: usize,
    pub(super) groups: &'a mut SavedGroups,
}

impl<'a> Scope<'a> {
    pub(super) fn new(groups: &'a mut SavedGroups) -> Scope<'a> {
        groups.begin_element();
        Scope { problems: Problems::new(), tolerated: 0, groups }
    }

    /// Whether there is an error that the SDK has no meaning for.
    pub(super) fn is_disabled(&self) -> bool {
        self.problems.errors() > self.tolerated
    }

    /// Reads the member `name`, if it is there and not null.
    pub(super) fn member<'n, T>(
        &mut self,
        node: Node<'n>,
        name: &'n str,
        read: impl FnOnce(&mut Self, Node<'_>) -> Option<T>,
    ) -> Option<T> {
        let value = node.value.get(name).filter(|value| !value.is_null())?;
        read(self, Node { value, path: &node.path.field(name) })
    }

    /// Reads the member `name`, which must be there.
    pub(super) fn required<'n, T>(
        &mut self,
        node: Node<'n>,
        name: &'n str,
        read: impl FnOnce(&mut Self, Node<'_>) -> Option<T>,
    ) -> Option<T> {
        if node.value.get(name).is_none_or(Value::is_null) {
            self.problems.error(&node.path.field(name), "missing");
            return None;
        }
        self.member(node, name, read)
    }

    /// The list here, each element read by `read`; none if one of them is wrong.
    pub(super) fn list<T>(
        &mut self,
        node: Node<'_>,
        mut read: impl FnMut(&mut Self, Node<'_>) -> Option<T>,
    ) -> Option<Vec<T>> {
        let list = node.array(&mut self.problems)?;
        node.read_all(list, |element| read(self, element))
    }

    /// The text of the member `name`; none if it is empty, as the SDK has it.
    pub(super) fn text(&mut self, node: Node<'_>, name: &str) -> Option<String> {
        let text = self.member(node, name, |scope, node| node.string(&mut scope.problems).map(str::to_owned))?;
        Some(text).filter(|text| !text.is_empty())
    }

    /// The number of the member `name`.
    pub(super) fn number(&mut self, node: Node<'_>, name: &str) -> Option<f64> {
        self.member(node, name, number)
    }

    /// The `coverage` here. To the SDK, null is a number: 0.
    pub(super) fn coverage(&mut self, node: Node<'_>) -> Option<f64> {
        if node.value.get("coverage").is_some_and(Value::is_null) { Some(0.0) } else { self.number(node, "coverage") }
    }

    /// The boolean of the member `name`, false where there is none.
    pub(super) fn flag(&mut self, node: Node<'_>, name: &str) -> bool {
        self.member(node, name, |scope, node| node.boolean(&mut scope.problems)).unwrap_or(false)
    }

    /// The version in the member `name`, 0 where there is none.
    pub(super) fn version(&mut self, node: Node<'_>, name: &str) -> u64 {
        let whole = |scope: &mut Self, node: Node<'_>| node.integer(0..=u64::from(u32::MAX), &mut scope.problems);
        self.member(node, name, whole).unwrap_or(0)
    }

    /// The condition of the member `name`. Errors that the SDK has a meaning for are tolerated.
    pub(super) fn condition(&mut self, node: Node<'_>, name: &str) -> Option<Condition> {
        self.member(node, name, |scope, node| {
            node.object(&mut scope.problems)?;
            let before = scope.problems.errors();
            let condition = conditions::compile_as_sdk(&node, scope.groups, &mut scope.problems);
            if condition.is_some() {
                scope.tolerated += scope.problems.errors() - before;
            }
            condition
        })
    }
}

/// The number here.
pub(super) fn number(scope: &mut Scope<'_>, node: Node<'_>) -> Option<f64> {
    let number = node.value.as_f64();
    if number.is_none() {
        node.expected(&mut scope.problems, "a number");
    }
    number
}

/// The text here.
pub(super) fn text(scope: &mut Scope<'_>, node: Node<'_>) -> Option<String> {
    node.string(&mut scope.problems).map(str::to_owned)
}

/// The list of numbers here.
pub(super) fn numbers(scope: &mut Scope<'_>, node: Node<'_>) -> Option<Vec<f64>> {
    scope.list(node, number)
}

/// The range here: two numbers.
pub(super) fn range(scope: &mut Scope<'_>, node: Node<'_>) -> Option<Range> {
    match numbers(scope, node)?.as_slice() {
        &[from, to] => Some((from, to)),
        _ => {
            node.expected(&mut scope.problems, "a range, which is a list of two numbers");
            None
        }
    }
}

/// The list of ranges here.
pub(super) fn ranges(scope: &mut Scope<'_>, node: Node<'_>) -> Option<Vec<Range>> {
    scope.list(node, range)
}
