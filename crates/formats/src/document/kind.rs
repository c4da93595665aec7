//! The traits of fields and of declared objects.

use super::schema;
use crate::diagnostics::{Node, Problems, Severity};
use serde_json::Value;
use std::fmt;

/// The values that a field may have.
pub trait Kind {
    /// The type of a value that has been read.
    type Value;

    /// The allowed values in a few words, such as `a whole number from 1 to 10`.
    fn expected(&self) -> String;

    /// Reads the value at `node`.
    fn read(&self, node: Node<'_>, problems: &mut Problems) -> Option<Self::Value>;

    /// Reads the member `name`, or the members that this field stands for, if it is read in place.
    fn member(
        &self,
        members: &mut MemberReader<'_>,
        name: &'static str,
        absent: Absent<Self::Value>,
    ) -> Option<Self::Value> {
        let path = members.node.path.field(name);
        match (members.find(name, matches!(absent, Absent::OrNull(_))), absent) {
            (Some(value), _) => self.read(Node { value, path: &path }, members.problems),
            (None, Absent::Default(default) | Absent::OrNull(default)) => Some(default()),
            (None, Absent::Required) => {
                let expected = fmt::from_fn(|f| f.write_str(&self.expected()));
                members.problems.error(&path, format_args!("missing; expected {expected}"));
                None
            }
        }
    }

    /// The JSON Schema of the values.
    fn schema(&self) -> Value;

    /// A value as it is written in a document, to show it as the default.
    fn show(&self, _value: &Self::Value) -> Option<Value> {
        None
    }

    /// Adds the schema of the member `name`, which `doc` describes.
    fn describe(
        &self,
        name: &'static str,
        doc: &'static str,
        absent: &Absent<Self::Value>,
        members: &mut schema::Members,
    ) {
        let default = match absent {
            Absent::Required => None,
            Absent::Default(default) | Absent::OrNull(default) => Some(self.show(&default())),
        };
        members.add(name, doc, self.schema(), default, matches!(absent, Absent::OrNull(_)));
    }
}

/// A kind whose values are a `T`: lets the compiler infer the rest of its type.
pub const fn of<T, K: Kind<Value = T>>(kind: K) -> K {
    kind
}

/// The meaning of an absent member.
#[derive(Debug)]
pub enum Absent<T> {
    /// The member is required.
    Required,
    /// The member has this default.
    Default(fn() -> T),
    /// The member has this default, which null stands for too.
    OrNull(fn() -> T),
}

/// Reads the members of an object, and notes their names.
#[derive(Debug)]
pub struct MemberReader<'a> {
    /// The object.
    pub node: Node<'a>,
    /// The problems of its members.
    pub problems: &'a mut Problems,
    names: Vec<&'static str>,
}

impl<'a> MemberReader<'a> {
    /// The member `name`. Null may count as absent.
    pub fn find(&mut self, name: &'static str, is_null_absent: bool) -> Option<&'a Value> {
        self.names.push(name);
        self.node.value.get(name).filter(|value| !is_null_absent || !value.is_null())
    }
}

/// Reads the object at `node`. Members that are not declared are problems of the severity `unknown`, if there is one.
pub(super) fn read_object<T: Document>(
    node: Node<'_>,
    unknown: Option<Severity>,
    problems: &mut Problems,
) -> Option<T> {
    node.object(problems)?;
    // Unknown fields come first. Where errors are not listed any more, their order does not matter, nor do their texts.
    let mut own = Problems::new();
    let own_or_all = if problems.is_full() { &mut *problems } else { &mut own };
    let mut members = MemberReader { node, problems: own_or_all, names: Vec::new() };
    let (object, names) = (T::read(&mut members), members.names);
    if let Some(unknown) = unknown {
        node.unknown_fields(&names, unknown, problems);
    }
    problems.append(own);
    object
}

/// An object that [`document!`](crate::document!) declares.
pub trait Document: Sized {
    /// Reads the members.
    fn read(members: &mut MemberReader<'_>) -> Option<Self>;

    /// Adds the schemas of the members.
    fn describe(members: &mut schema::Members);
}
