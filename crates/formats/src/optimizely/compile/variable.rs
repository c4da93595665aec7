//! Variables of flags: their types, and their values out of the texts that a datafile holds.

use crate::diagnostics::{Node, Path, Problems};
use crate::document::{KEY, Nullable, TEXT};
use edgesplit_engine::json;
use edgesplit_engine::number;
use serde_json::{Number, Value};
use std::collections::HashMap;

/// How a variable's text is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum VariableType {
    Boolean,
    Integer,
    Double,
    Json,
    /// Strings, and types that are unknown here: the text as it is.
    Text,
}

impl VariableType {
    fn parse(name: &str, sub_type: Option<&str>) -> VariableType {
        match (name, sub_type) {
            ("boolean", _) => VariableType::Boolean,
            ("integer", _) => VariableType::Integer,
            ("double", _) => VariableType::Double,
            // Datafiles write the type `json` as `string` with a subtype.
            ("json", _) | ("string", Some("json")) => VariableType::Json,
            _ => VariableType::Text,
        }
    }

    /// The value; null, and a problem, if `text` is not of this type.
    pub(super) fn cast(self, text: &str, node: &Node<'_>, problems: &mut Problems) -> Value {
        let number = text.trim();
        let (value, expected) = match self {
            VariableType::Boolean => (text.parse().ok().map(Value::Bool), "true or false"),
            VariableType::Text => (Some(Value::from(text)), "a text"),
            VariableType::Json => (json::read(text.as_bytes()).ok(), "JSON in a string"),
            VariableType::Integer => (integer(number).map(Value::Number), "an integer in a string"),
            VariableType::Double => {
                let double = number::read(number);
                (double.and_then(Number::from_f64).map(Value::Number), "a number in a string")
            }
        };
        value.unwrap_or_else(|| {
            node.expected(problems, &format!("{expected}; the value is null"));
            Value::Null
        })
    }
}

/// The integer that `text` begins with, as JavaScript reads it.
fn integer(text: &str) -> Option<Number> {
    let number = number::leading_integer(text.split(['x', 'X']).next()?)?;
    if number.abs() < i64::MAX as f64 { Some(Number::from(number as i64)) } else { Number::from_f64(number) }
}

/// The types of all variables, by their ids: the values in variations name only the id.
#[derive(Debug, Default)]
pub(super) struct VariableTypes(HashMap<String, VariableType>);

impl VariableTypes {
    /// Adds the type of a variable. An unreadable one is reported with its flag.
    pub(super) fn add(&mut self, variable: &Value) {
        let text = |name: &str| variable.get(name).and_then(Value::as_str);
        if let (Some(id), Some(name)) = (text("id"), text("type")) {
            self.0.insert(id.to_owned(), VariableType::parse(name, text("subType")));
        }
    }

    /// The entries, each dropped as it is iterated over.
    pub(super) fn into_entries(self) -> impl Iterator<Item = ()> {
        self.0.into_iter().map(drop)
    }

    /// The type of the variable `id`, which stands at `path`.
    pub(super) fn get(&self, id: &str, path: &Path<'_>, problems: &mut Problems) -> Option<VariableType> {
        let found = self.0.get(id).copied();
        if found.is_none() {
            problems.error(path, format_args!("there is no variable {id:?}: this value is not read"));
        }
        found
    }
}

/// A variable of a flag.
#[derive(Debug)]
pub(super) struct Variable {
    pub(super) id: String,
    pub(super) key: String,
    pub(super) default: Value,
}

crate::document! {
    pub(super) struct VariableWire {
        /// Its id.
        id: String => TEXT,
        /// Its key.
        key: String => KEY,
        /// The type of its values.
        kind as "type": String => TEXT,
        /// More about the type.
        sub_type as "subType": Option<String> = None => Nullable(TEXT),
        /// The value where no variation gives another.
        default_value as "defaultValue": String => TEXT,
    }
}

impl VariableWire {
    /// The variable, which stands at `path`.
    pub(super) fn compile(self, path: &Path<'_>, problems: &mut Problems) -> Variable {
        let text = Value::from(self.default_value.as_str());
        let node = Node { value: &text, path: &path.field("defaultValue") };
        let default =
            VariableType::parse(&self.kind, self.sub_type.as_deref()).cast(&self.default_value, &node, problems);
        Variable { id: self.id, key: self.key, default }
    }
}
