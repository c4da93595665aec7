//! Reading the members of an object one by one, each with its default and its path.
//!
//! All readers share one convention: `None` means that a problem was reported, so that a block can read all its members
//! first and give up only then, when every problem has been found.

use super::duration;
use edgesplit_formats::diagnostics::{Node, Path, Problems, Severity, found};
use serde_json::{Map, Value};
use std::ops::RangeInclusive;

/// An object of the configuration.
pub(super) struct Block<'a> {
    members: &'a Map<String, Value>,
    path: &'a Path<'a>,
}

impl<'a> Block<'a> {
    /// The object at `node`; members that are not `known` are problems.
    pub(super) fn open(node: Node<'a>, known: &[&str], problems: &mut Problems) -> Option<Block<'a>> {
        let members = node.object(problems)?;
        node.unknown_fields(known, Severity::Error, problems);
        Some(Block { members, path: node.path })
    }

    /// Where the object stands.
    pub(super) fn path(&self) -> &'a Path<'a> {
        self.path
    }

    /// Whether there is a member `name`, be it null.
    pub(super) fn has(&self, name: &str) -> bool {
        self.members.contains_key(name)
    }

    fn read<T>(
        &self,
        name: &str,
        problems: &mut Problems,
        read: impl FnOnce(Node<'_>, &mut Problems) -> Option<T>,
    ) -> Option<Option<T>> {
        let value = self.members.get(name)?;
        Some(read(Node { value, path: &self.path.field(name) }, problems))
    }

    /// The member `name`, which is `default` when it is absent.
    pub(super) fn or<T>(
        &self,
        name: &str,
        default: T,
        problems: &mut Problems,
        read: impl FnOnce(Node<'_>, &mut Problems) -> Option<T>,
    ) -> Option<T> {
        self.read(name, problems, read).unwrap_or(Some(default))
    }

    /// The member `name`, which must be there: `expected` says what it is.
    pub(super) fn required<T>(
        &self,
        name: &str,
        expected: &str,
        problems: &mut Problems,
        read: impl FnOnce(Node<'_>, &mut Problems) -> Option<T>,
    ) -> Option<T> {
        self.read(name, problems, read).unwrap_or_else(|| {
            problems.error(&self.path.field(name), format!("missing; expected {expected}"));
            None
        })
    }

    /// The member `name`, which may be absent or null: both are `Some(None)`.
    pub(super) fn nullable<T>(
        &self,
        name: &str,
        problems: &mut Problems,
        read: impl FnOnce(Node<'_>, &mut Problems) -> Option<T>,
    ) -> Option<Option<T>> {
        match self.members.get(name) {
            None | Some(Value::Null) => Some(None),
            Some(_) => self.read(name, problems, read).flatten().map(Some),
        }
    }

    /// The duration `name` in milliseconds.
    pub(super) fn duration_ms(
        &self,
        name: &str,
        default_ms: u64,
        bounds_ms: RangeInclusive<u64>,
        problems: &mut Problems,
    ) -> Option<u64> {
        self.or(name, default_ms, problems, |node, problems| duration::read_ms(node, &bounds_ms, problems))
    }

    /// The number of bytes or of things `name`.
    pub(super) fn size(
        &self,
        name: &str,
        default: usize,
        bounds: RangeInclusive<u32>,
        problems: &mut Problems,
    ) -> Option<usize> {
        self.or(name, default, problems, |node, problems| {
            let size = node.integer(u64::from(*bounds.start())..=u64::from(*bounds.end()), problems)?;
            usize::try_from(size).ok() // bounds of 32 bits fit everywhere
        })
    }
}

/// One of the `choices`, by its name.
pub(super) fn choice<T: Copy>(node: Node<'_>, choices: &[(&str, T)], problems: &mut Problems) -> Option<T> {
    let chosen = node.value.as_str().and_then(|text| choices.iter().find(|(name, _)| *name == text));
    if chosen.is_none() {
        node.expected(problems, &format!("one of {}", names(choices)));
    }
    chosen.map(|(_, choice)| *choice)
}

/// One of the formats that are `built`, by its name; those that are only `planned` get their own message.
pub(super) fn format<T: Copy>(node: Node<'_>, built: &[(&str, T)], problems: &mut Problems) -> Option<T> {
    let text = node.string(problems)?;
    let chosen = built.iter().find(|(name, _)| *name == text);
    if chosen.is_none() {
        let message = format!("no such format: {}; formats that exist: {}", found(node.value), names(built));
        problems.error(node.path, message);
    }
    chosen.map(|(_, choice)| *choice)
}

fn names<T>(choices: &[(&str, T)]) -> String {
    choices.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}

/// Every element of the list at `node`, each read by `read`; all of them are read before the first bad one counts.
pub(super) fn list<T>(
    node: Node<'_>,
    problems: &mut Problems,
    mut read: impl FnMut(Node<'_>, &mut Problems) -> Option<T>,
) -> Option<Vec<T>> {
    let elements = node.array(problems)?.iter().enumerate();
    let read: Vec<Option<T>> =
        elements.map(|(index, value)| read(Node { value, path: &node.path.index(index) }, problems)).collect();
    read.into_iter().collect()
}

/// Every member of the object at `node`, each made of its name and value by `read`, in the order of the names.
pub(super) fn map<T>(
    node: Node<'_>,
    problems: &mut Problems,
    mut read: impl FnMut(&str, Node<'_>, &mut Problems) -> Option<T>,
) -> Option<Vec<T>> {
    let members = node.object(problems)?.iter();
    let read: Vec<Option<T>> =
        members.map(|(name, value)| read(name, Node { value, path: &node.path.field(name) }, problems)).collect();
    read.into_iter().collect()
}
