//! Parts of GrowthBook's payload that several elements have.

use super::hash::Range;
use crate::conditions;
use crate::diagnostics::Node;
pub(super) use crate::scope::{Scope, number, text};
use edgesplit_engine::condition::Condition;
use serde_json::Value;

impl Scope<'_> {
    /// The text of the member `name`; none if it is empty, as the SDK has it.
    pub(super) fn text(&mut self, node: Node<'_>, name: &str) -> Option<String> {
        let text = self.member(node, name, |scope, node| node.string(&mut scope.problems).map(str::to_owned))?;
        Some(text).filter(|text| !text.is_empty())
    }

    /// The `coverage` here. To the SDK, null is a number: 0.
    pub(super) fn coverage(&mut self, node: Node<'_>) -> Option<f64> {
        if node.value.get("coverage").is_some_and(Value::is_null) { Some(0.0) } else { self.number(node, "coverage") }
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
