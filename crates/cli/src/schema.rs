//! `edgesplit schema`: JSON Schemas for completion and checks in editors, and the same as tables for people.

use edgesplit_filter::plugin_config;
use edgesplit_formats::native;
use serde_json::Value;
use std::fmt::Write;

/// A document that has a schema.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(super) enum Document {
    /// The plugin configuration.
    Plugin,
    /// The experiments in the native format.
    Experiments,
}

impl Document {
    /// Its schema, as JSON.
    pub(super) fn schema(self) -> serde_json::Value {
        match self {
            Document::Plugin => plugin_config::schema(),
            Document::Experiments => native::schema(),
        }
    }

    /// Its fields as a table in Markdown: path, default, allowed values, description.
    pub(super) fn table(self) -> String {
        let schema = self.schema();
        let mut rows = String::from("| field | default | allowed | description |\n|---|---|---|---|\n");
        fields(&schema, "", &mut rows);
        rows
    }
}

/// Writes a row for every field of the object that `schema` describes, and for those below it.
fn fields(schema: &Value, path: &str, rows: &mut String) {
    let required = schema.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
    for (name, field) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let default = match field.get("default") {
            _ if required.contains(&Value::from(name.as_str())) => "required".to_owned(),
            Some(Value::Null) | None => "–".to_owned(),
            Some(default) => format!("`{default}`"),
        };
        let description = field.get("description").and_then(Value::as_str).unwrap_or_default();
        // Writing to a string cannot fail.
        let _ = writeln!(rows, "| `{path}` | {default} | {} | {description} |", allowed(field));
        if let Some((below, is_list)) = nested(field) {
            fields(below, &if is_list { format!("{path}[]") } else { path }, rows);
        }
    }
}

/// The object below a field, and whether the field is a list of objects. Conditions, which contain each other, stay
/// references: a chapter of their own describes them.
fn nested(field: &Value) -> Option<(&Value, bool)> {
    if field.get("properties").is_some() {
        return Some((field, false));
    }
    if let Some(items) = field.get("items").filter(|items| items.get("properties").is_some()) {
        return Some((items, true));
    }
    field.get("anyOf").and_then(Value::as_array)?.iter().find_map(nested)
}

/// The allowed values in a few words.
fn allowed(field: &Value) -> String {
    if let Some(choices) = field.get("anyOf").and_then(Value::as_array) {
        return choices.iter().map(allowed).collect::<Vec<_>>().join(" or ");
    }
    if let Some(choices) = field.get("enum").and_then(Value::as_array) {
        return choices.iter().map(|choice| format!("`{choice}`")).collect::<Vec<_>>().join(", ");
    }
    let kind = |kind: &str| match kind {
        "integer" => match field.get("minimum").filter(|min| field.get("maximum") == Some(min)) {
            Some(one) => format!("the number {one}"),
            None => format!("a whole number{}", range(field)),
        },
        "number" => format!("a number{}", range(field)),
        "boolean" => "`true` or `false`".to_owned(),
        "string" => "a string".to_owned(),
        "array" => "a list".to_owned(),
        "object" => "an object".to_owned(),
        other => format!("`{other}`"),
    };
    match field.get("type") {
        Some(Value::String(one)) => kind(one),
        Some(Value::Array(all)) => all.iter().filter_map(Value::as_str).map(kind).collect::<Vec<_>>().join(" or "),
        _ if field.get("$ref").is_some() => "a condition".to_owned(),
        _ => "any value".to_owned(),
    }
}

fn range(field: &Value) -> String {
    match (field.get("minimum"), field.get("maximum")) {
        (Some(min), Some(max)) => format!(" from {min} to {max}"),
        _ => String::new(),
    }
}
