//! JSON Schemas of documents (draft 7, which editors know best). The module calls none of it, so it has no code for it.

use super::pattern::TOKEN;
use serde_json::{Map, Value, json};

/// The members of an object.
#[derive(Debug, Default)]
pub struct Members {
    properties: Map<String, Value>,
    required: Vec<&'static str>,
}

impl Members {
    /// Adds a member. It is required if it has no `default`; a default that cannot be shown is `Some(None)`.
    pub fn add(
        &mut self,
        name: &'static str,
        doc: &str,
        schema: Value,
        default: Option<Option<Value>>,
        is_nullable: bool,
    ) {
        let mut schema = if is_nullable { nullable(schema) } else { schema };
        if default.is_none() {
            self.required.push(name);
        }
        if let Some(members) = schema.as_object_mut() {
            let more = members.get("description").and_then(Value::as_str).map(|more| format!(" {more}"));
            let doc = doc.trim().to_owned() + &more.unwrap_or_default();
            members.insert("description".to_owned(), Value::from(doc));
            if let Some(default) = default.flatten() {
                members.insert("default".to_owned(), default);
            }
        }
        self.properties.insert(name.to_owned(), schema);
    }

    /// Changes the default of a member.
    pub fn set_default(&mut self, name: &str, default: Value) {
        if let Some(members) = self.properties.get_mut(name).and_then(Value::as_object_mut) {
            members.insert("default".to_owned(), default);
        }
    }

    /// The schema of an object with these members and no others.
    pub fn into_object(self) -> Value {
        let Members { properties, required } = self;
        json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
    }
}

/// The schema of a whole document, whose schema as an object is `root`.
pub fn document(title: &str, description: &str, root: Value, definitions: Value) -> Value {
    let head = json!({
        "$schema": "http://json-schema.org/draft-07/schema#", "title": title, "description": description,
        "definitions": definitions,
    });
    with(head, root)
}

/// `schema` with the members of `more` on top of it.
pub fn with(mut schema: Value, more: Value) -> Value {
    if let (Some(members), Value::Object(more)) = (schema.as_object_mut(), more) {
        members.extend(more);
    }
    schema
}

/// A text that matches `pattern`.
pub fn text(pattern: &str) -> Value {
    json!({"type": "string", "pattern": pattern})
}

/// `schema`, or null.
pub fn nullable(mut schema: Value) -> Value {
    let Some(members) = schema.as_object_mut() else { return schema };
    if let Some(choices) = members.get_mut("enum").and_then(Value::as_array_mut) {
        choices.push(Value::Null);
    }
    if let Some(choices) = members.get_mut("anyOf").and_then(Value::as_array_mut) {
        choices.push(json!({"type": "null"}));
        return schema;
    }
    match members.get("type").cloned() {
        Some(kind) if kind.is_string() => {
            members.insert("type".to_owned(), json!([kind, "null"]));
            schema
        }
        _ => json!({"anyOf": [schema, {"type": "null"}]}),
    }
}

/// The name of a header that is none of `taken`, in which `*` stands for any ending. The schema refuses `taken` in lower case
/// and with capitals, as most people write them.
pub fn header_name(taken: &[&str]) -> Value {
    let capitals = |name: &&str| {
        let word = |word: &str| {
            let (first, rest) = word.split_at_checked(1).unwrap_or_default();
            first.to_ascii_uppercase() + rest
        };
        name.split('-').map(word).collect::<Vec<_>>().join("-")
    };
    let spellings = |name: &&str| [(*name).to_owned(), capitals(name)];
    let is_prefix = |name: &&&str| name.ends_with('*');
    let exact: Vec<String> = taken.iter().filter(|name| !is_prefix(name)).flat_map(spellings).collect();
    let prefixes: Vec<String> = taken.iter().filter(is_prefix).flat_map(spellings).collect();
    let mut refused = json!({"enum": exact});
    if !prefixes.is_empty() {
        let pattern = format!("^({})", prefixes.join("|").replace('*', ""));
        refused = json!({"anyOf": [refused, {"pattern": pattern}]});
    }
    json!({"type": "string", "pattern": TOKEN, "not": refused})
}
