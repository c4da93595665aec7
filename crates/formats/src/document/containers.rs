//! Kinds that contain other kinds: lists, maps, objects, and values that are checked or converted further.

use super::kind::{Absent, Document, Kind, MemberReader, read_object};
use super::schema;
use crate::diagnostics::{Node, Problems, Severity};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::marker::PhantomData;

/// How many elements a list may have.
const ELEMENTS_MAX: usize = 10_000;

/// A list.
#[derive(Debug, Clone, Copy)]
pub struct List<K>(pub K);

impl<K: Kind> Kind for List<K> {
    type Value = Vec<K::Value>;

    fn expected(&self) -> String {
        "a list".to_owned()
    }

    fn read(&self, node: Node<'_>, problems: &mut Problems) -> Option<Vec<K::Value>> {
        let list = node.array(problems)?;
        if list.len() > ELEMENTS_MAX {
            problems.error(node.path, format_args!("more than {ELEMENTS_MAX} elements"));
            return None;
        }
        node.read_all(list, |element| self.0.read(element, problems))
    }

    fn schema(&self) -> Value {
        json!({"type": "array", "items": self.0.schema()})
    }

    fn show(&self, value: &Vec<K::Value>) -> Option<Value> {
        value.iter().map(|element| self.0.show(element)).collect::<Option<Vec<Value>>>().map(Value::from)
    }
}

/// An object whose members have names that the document chooses.
#[derive(Debug, Clone, Copy)]
pub struct Map<K> {
    /// The name as it is kept, or the reason why it is refused.
    pub name: fn(&str) -> Result<String, String>,
    /// The allowed names as a pattern, for the schema.
    pub pattern: &'static str,
    /// Names that the pattern allows and `name` refuses, for the schema.
    pub refused: &'static [&'static str],
    /// The values.
    pub value: K,
    /// How many members there may be.
    pub members_max: usize,
}

impl<K: Kind> Kind for Map<K> {
    type Value = Vec<(String, K::Value)>;

    fn expected(&self) -> String {
        "an object".to_owned()
    }

    fn read(&self, node: Node<'_>, problems: &mut Problems) -> Option<Self::Value> {
        let (mut members, mut names): (Self::Value, HashSet<String>) = Default::default();
        let mut is_bad = false;
        let object = node.object(problems)?;
        if object.len() > self.members_max {
            problems.error(node.path, format_args!("more than {} members", self.members_max));
            return None;
        }
        for (name, value) in object {
            let path = node.path.field(name);
            let name = (self.name)(name).map_err(|message| problems.error(&path, message)).ok();
            if let Some(name) = name.as_ref().filter(|name| !names.insert((*name).clone())) {
                problems.error(&path, format_args!("{name} is given twice: its letters may be in any case"));
            }
            let value = self.value.read(Node { value, path: &path }, problems);
            is_bad |= name.is_none() || value.is_none();
            members.extend(name.zip(value));
        }
        (!is_bad).then_some(members)
    }

    fn schema(&self) -> Value {
        let names =
            if self.refused.is_empty() { schema::text(self.pattern) } else { schema::header_name(self.refused) };
        json!({"type": "object", "propertyNames": names, "additionalProperties": self.value.schema()})
    }

    fn show(&self, value: &Self::Value) -> Option<Value> {
        value.is_empty().then(|| json!({}))
    }
}

/// A value that may also be null.
#[derive(Debug, Clone, Copy)]
pub struct Nullable<K>(pub K);

impl<K: Kind> Kind for Nullable<K> {
    type Value = Option<K::Value>;

    fn expected(&self) -> String {
        format!("{} or null", self.0.expected())
    }

    fn read(&self, node: Node<'_>, problems: &mut Problems) -> Option<Option<K::Value>> {
        if node.value.is_null() { Some(None) } else { self.0.read(node, problems).map(Some) }
    }

    fn schema(&self) -> Value {
        schema::nullable(self.0.schema())
    }

    fn show(&self, value: &Option<K::Value>) -> Option<Value> {
        value.as_ref().map_or(Some(Value::Null), |value| self.0.show(value))
    }
}

/// A value that is checked further, or converted. `then` reports why it refuses a value.
#[derive(Debug, Clone, Copy)]
pub struct Then<K: Kind, T> {
    /// The value before.
    pub kind: K,
    /// The check or conversion.
    pub then: fn(K::Value, Node<'_>, &mut Problems) -> Option<T>,
}

impl<K: Kind, T> Kind for Then<K, T> {
    type Value = T;

    fn expected(&self) -> String {
        self.kind.expected()
    }

    fn read(&self, node: Node<'_>, problems: &mut Problems) -> Option<T> {
        let value = self.kind.read(node, problems)?;
        (self.then)(value, node, problems)
    }

    fn schema(&self) -> Value {
        self.kind.schema()
    }
}

/// An object with declared members.
#[derive(Debug, Clone, Copy)]
pub struct Object<T> {
    expected: &'static str,
    /// How bad an unknown field is; none if it is ignored.
    unknown: Option<Severity>,
    document: PhantomData<fn() -> T>,
}

const OBJECT: &str = "an object";

/// An object in which an unknown field is an error.
pub const fn strict<T: Document>() -> Object<T> {
    Object { expected: OBJECT, unknown: Some(Severity::Error), document: PhantomData }
}

/// An object in which an unknown field is a warning.
pub const fn lenient<T: Document>() -> Object<T> {
    Object { expected: OBJECT, unknown: Some(Severity::Warning), document: PhantomData }
}

/// An object in which unknown fields are ignored.
pub const fn open<T: Document>() -> Object<T> {
    Object { expected: OBJECT, unknown: None, document: PhantomData }
}

impl<T> Object<T> {
    /// The same object with another description of it, for a message that it is missing.
    pub const fn expecting(self, expected: &'static str) -> Object<T> {
        Object { expected, unknown: self.unknown, document: PhantomData }
    }
}

fn object<T: Document>() -> Value {
    let mut members = schema::Members::default();
    T::describe(&mut members);
    members.into_object()
}

impl<T: Document> Kind for Object<T> {
    type Value = T;

    fn expected(&self) -> String {
        self.expected.to_owned()
    }

    fn read(&self, node: Node<'_>, problems: &mut Problems) -> Option<T> {
        read_object(node, self.unknown, problems)
    }

    fn schema(&self) -> Value {
        object::<T>()
    }
}

/// Declared members that stand among those of the object around them, and a check or conversion.
#[derive(Debug, Clone, Copy)]
pub struct InPlace<T, R>(pub fn(T, Node<'_>, &mut Problems) -> Option<R>);

/// The members of `T`, in place.
pub const fn in_place<T: Document>() -> InPlace<T, T> {
    InPlace(|members, _, _| Some(members))
}

impl<T: Document, R> Kind for InPlace<T, R> {
    type Value = R;

    fn expected(&self) -> String {
        "an object".to_owned()
    }

    fn read(&self, _: Node<'_>, _: &mut Problems) -> Option<R> {
        None // it is no member itself
    }

    fn member(&self, members: &mut MemberReader<'_>, _: &'static str, _: Absent<R>) -> Option<R> {
        let value = T::read(members)?;
        (self.0)(value, members.node, members.problems)
    }

    fn schema(&self) -> Value {
        object::<T>()
    }

    fn describe(&self, _: &'static str, _: &'static str, _: &Absent<R>, members: &mut schema::Members) {
        T::describe(members);
    }
}

/// An object of any members.
#[derive(Debug, Clone, Copy)]
pub struct AnyObject;

impl Kind for AnyObject {
    type Value = Value;

    fn expected(&self) -> String {
        "an object".to_owned()
    }

    fn read(&self, node: Node<'_>, problems: &mut Problems) -> Option<Value> {
        node.object(problems).map(|_| node.value.clone())
    }

    fn schema(&self) -> Value {
        json!({"type": "object"})
    }
}
