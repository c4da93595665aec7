//! Reads the elements of a vendor's payload member by member. Absent members, nulls and invalid values are none; invalid
//! ones are reported.

use crate::conditions::SavedGroups;
use crate::diagnostics::{Node, Problems};
use serde_json::Value;

/// The state of compiling an element.
pub(crate) struct Scope<'a> {
    pub(crate) problems: Problems,
    /// The number of errors that are reported, but disable nothing, since the SDK has a meaning for them.
    pub(crate) tolerated: usize,
    pub(crate) groups: &'a mut SavedGroups,
}

impl<'a> Scope<'a> {
    pub(crate) fn new(groups: &'a mut SavedGroups) -> Scope<'a> {
        groups.begin_element();
        Scope { problems: Problems::new(), tolerated: 0, groups }
    }

    /// Whether there is an error that the SDK has no meaning for.
    pub(crate) fn is_disabled(&self) -> bool {
        self.problems.errors() > self.tolerated
    }

    /// Reads the member `name`, if it is there and not null.
    pub(crate) fn member<'n, T>(
        &mut self,
        node: Node<'n>,
        name: &'n str,
        read: impl FnOnce(&mut Self, Node<'_>) -> Option<T>,
    ) -> Option<T> {
        let value = node.value.get(name).filter(|value| !value.is_null())?;
        read(self, Node { value, path: &node.path.field(name) })
    }

    /// Reads the member `name`, which must be there.
    pub(crate) fn required<'n, T>(
        &mut self,
        node: Node<'n>,
        name: &'n str,
        read: impl FnOnce(&mut Self, Node<'_>) -> Option<T>,
    ) -> Option<T> {
        let value = self.find(node, name)?;
        read(self, Node { value, path: &node.path.field(name) })
    }

    /// The member `name`; an error if it is not there. Not a part of `required`, of which there are many copies.
    #[inline(never)]
    fn find<'n>(&mut self, node: Node<'n>, name: &str) -> Option<&'n Value> {
        let value = node.value.get(name).filter(|value| !value.is_null());
        if value.is_none() {
            self.problems.error(&node.path.field(name), "missing");
        }
        value
    }

    /// The text of the member `name`, which must be there.
    #[inline(never)]
    pub(crate) fn required_text(&mut self, node: Node<'_>, name: &str) -> Option<String> {
        self.required(node, name, text)
    }

    /// The list here, each element read by `read`; none if one of them is wrong.
    pub(crate) fn list<T>(
        &mut self,
        node: Node<'_>,
        mut read: impl FnMut(&mut Self, Node<'_>) -> Option<T>,
    ) -> Option<Vec<T>> {
        let list = node.array(&mut self.problems)?;
        node.read_all(list, |element| read(self, element))
    }

    /// The number of the member `name`.
    pub(crate) fn number(&mut self, node: Node<'_>, name: &str) -> Option<f64> {
        self.member(node, name, number)
    }

    /// The boolean of the member `name`, false where there is none.
    pub(crate) fn flag(&mut self, node: Node<'_>, name: &str) -> bool {
        self.member(node, name, |scope, node| node.boolean(&mut scope.problems)).unwrap_or(false)
    }
}

/// The number here.
pub(crate) fn number(scope: &mut Scope<'_>, node: Node<'_>) -> Option<f64> {
    let number = node.value.as_f64();
    if number.is_none() {
        node.expected(&mut scope.problems, "a number");
    }
    number
}

/// The text here.
pub(crate) fn text(scope: &mut Scope<'_>, node: Node<'_>) -> Option<String> {
    node.string(&mut scope.problems).map(str::to_owned)
}
