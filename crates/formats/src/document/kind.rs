//! The traits of fields and of declared objects.

use crate::diagnostics::{Node, Problems};
#[cfg(not(target_arch = "wasm32"))]
use {super::schema, serde_json::Value};

/// The values that a field may have.
pub trait Kind {
    /// The type of a value that has been read.
    type Value;

    /// The allowed values in a few words, such as `a whole number from 1 to 10`.
    fn expected(&self) -> String;

    /// Reads the value at `node`.
    fn read(&self, node: Node<'_>, problems: &mut Problems) -> Option<Self::Value>;

    /// Reads the member `name` of the object at `parent`.
    fn member(
        &self,
        parent: Node<'_>,
        name: &'static str,
        absent: Absent<Self::Value>,
        problems: &mut Problems,
    ) -> Option<Self::Value> {
        let path = parent.path.field(name);
        match (parent.value.get(name), absent) {
            (Some(value), Absent::OrNull(default)) if value.is_null() => Some(default),
            (Some(value), _) => self.read(Node { value, path: &path }, problems),
            (None, Absent::Default(default) | Absent::OrNull(default)) => Some(default),
            (None, Absent::Required) => {
                problems.error(&path, format!("missing; expected {}", self.expected()));
                None
            }
        }
    }

    /// Adds the members that this field stands for: one, unless it is read in place.
    fn names(&self, name: &'static str, names: &mut Vec<&'static str>) {
        names.push(name);
    }

    /// The JSON Schema of the values.
    #[cfg(not(target_arch = "wasm32"))]
    fn schema(&self) -> Value;

    /// A value as it is written in a document, to show it as the default.
    #[cfg(not(target_arch = "wasm32"))]
    fn show(&self, _value: &Self::Value) -> Option<Value> {
        None
    }

    /// Adds the schema of the member `name`, which `doc` describes.
    #[cfg(not(target_arch = "wasm32"))]
    fn describe(
        &self,
        name: &'static str,
        doc: &'static str,
        absent: &Absent<Self::Value>,
        members: &mut schema::Members,
    ) {
        let default = match absent {
            Absent::Required => None,
            Absent::Default(default) | Absent::OrNull(default) => Some(self.show(default)),
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
    Default(T),
    /// The member has this default, which null stands for too.
    OrNull(T),
}

/// An object that [`document!`](crate::document!) declares.
pub trait Document: Sized {
    /// Reads the members of the object at `node`.
    fn read(node: Node<'_>, problems: &mut Problems) -> Option<Self>;

    /// Adds the names of the members.
    fn names(names: &mut Vec<&'static str>);

    /// Adds the schemas of the members.
    #[cfg(not(target_arch = "wasm32"))]
    fn describe(members: &mut schema::Members);
}
