//! Words for JSON Schemas (draft 7, which editors know best), so that a document's schema can stand beside its parser and
//! take bounds, choices and defaults from it. Only natively.

use serde_json::{Map, Value, json};
use std::fmt::Display;
use std::ops::RangeInclusive;

/// A `token` of RFC 9110: the names of headers and cookies.
pub const TOKEN: &str = "^[A-Za-z0-9!#$%&'*+.^_`|~-]+$";

/// The schema of a whole document, which is the object `root`.
pub fn document(title: &str, root: Value, definitions: Value) -> Value {
    let head = json!({"$schema": "http://json-schema.org/draft-07/schema#", "title": title});
    with(with(head, root), json!({"definitions": definitions}))
}

/// `schema` with the members of `more` on top of it.
pub fn with(mut schema: Value, more: Value) -> Value {
    if let (Some(members), Value::Object(more)) = (schema.as_object_mut(), more) {
        members.extend(more);
    }
    schema
}

/// An object of these fields and no others.
pub fn object(says: &str, required: &[&str], fields: &[(&str, Value)]) -> Value {
    let properties: Map<String, Value> =
        fields.iter().map(|(name, schema)| ((*name).to_owned(), schema.clone())).collect();
    json!({
        "type": "object", "description": says, "properties": properties, "required": required,
        "additionalProperties": false,
    })
}

/// A text that matches `pattern`.
pub fn text(says: &str, pattern: &str) -> Value {
    json!({"type": "string", "description": says, "pattern": pattern})
}

/// A whole number.
pub fn integer<N: Display + Copy + Into<u64>>(says: &str, bounds: &RangeInclusive<N>) -> Value {
    let (min, max): (u64, u64) = ((*bounds.start()).into(), (*bounds.end()).into());
    json!({"type": "integer", "description": says, "minimum": min, "maximum": max})
}

/// Any number.
pub fn number(says: &str, bounds: &RangeInclusive<f64>) -> Value {
    json!({"type": "number", "description": says, "minimum": bounds.start(), "maximum": bounds.end()})
}

/// True or false.
pub fn boolean(says: &str, default: bool) -> Value {
    json!({"type": "boolean", "description": says, "default": default})
}

/// One of these texts.
pub fn choice(says: &str, choices: &[&str]) -> Value {
    json!({"type": "string", "description": says, "enum": choices})
}

/// A list.
pub fn list(says: &str, items: Value) -> Value {
    json!({"type": "array", "description": says, "items": items})
}

/// An object whose members have any name, a header's for one, and values alike.
pub fn map(says: &str, names: Value, values: Value) -> Value {
    json!({"type": "object", "description": says, "propertyNames": names, "additionalProperties": values})
}

/// The name of a header that is none of `taken`, in lower case or with capitals, as most people write them.
pub fn header_name(taken: &[&str]) -> Value {
    let capitals = |name: &&str| {
        let word = |word: &str| {
            let mut letters = word.chars();
            letters
                .next()
                .map_or_else(String::new, |first| format!("{}{}", first.to_ascii_uppercase(), letters.as_str()))
        };
        name.split('-').map(word).collect::<Vec<_>>().join("-")
    };
    let spelled: Vec<String> = taken.iter().flat_map(|name| [(*name).to_owned(), capitals(name)]).collect();
    json!({"type": "string", "pattern": TOKEN, "not": {"enum": spelled}})
}

/// `schema`, with what stands there if it is left out.
pub fn or(schema: Value, default: impl Into<Value>) -> Value {
    with(schema, json!({"default": default.into()}))
}

/// `schema`, or null.
pub fn nullable(mut schema: Value) -> Value {
    if let Some(members) = schema.as_object_mut() {
        if let Some(kind) = members.get("type").filter(|kind| kind.is_string()).cloned() {
            members.insert("type".to_owned(), json!([kind, "null"]));
        }
        if let Some(choices) = members.get_mut("enum").and_then(Value::as_array_mut) {
            choices.push(Value::Null);
        }
        members.entry("default").or_insert(Value::Null);
    }
    schema
}
