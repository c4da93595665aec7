//! `edgesplit schema`: the JSON Schemas that editors complete and check with, and the same as tables for people.

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
            Document::Plugin => plugin_config::schema::schema(),
            Document::Experiments => native::schema::schema(),
        }
    }

    /// Its fields as a table in Markdown: where each stands, what stands there by default, what is allowed, what it is.
    pub(super) fn table(self) -> String {
        let schema = self.schema();
        let mut rows = String::from("| field | default | allowed | what it is |\n|---|---|---|---|\n");
        fields(&schema, &schema, "", &mut rows);
        rows
    }
}

/// Writes a row for every field of the object that `schema` describes, and for those below it.
fn fields(root: &Value, schema: &Value, path: &str, rows: &mut String) {
    let required = schema.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
    for (name, field) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let default = match field.get("default") {
            _ if required.contains(&Value::from(name.as_str())) => "must be there".to_owned(),
            Some(Value::Null) | None => "–".to_owned(),
            Some(default) => format!("`{default}`"),
        };
        let says = field.get("description").and_then(Value::as_str).unwrap_or_default();
        let row = format!("| `{path}` | {default} | {} | {says} |", allowed(root, field));
        // Writing to a string cannot fail.
        let _ = writeln!(rows, "{}", row.replace("  ", " "));
        match nested(root, field) {
            Some((below, true)) => fields(root, below, &format!("{path}[]"), rows),
            Some((below, false)) => fields(root, below, &path, rows),
            None => {}
        }
    }
}

/// The object below a field, and whether the field is a list of such.
fn nested<'a>(root: &'a Value, field: &'a Value) -> Option<(&'a Value, bool)> {
    let field = resolved(root, field);
    if field.get("properties").is_some() {
        return Some((field, false));
    }
    if let Some(items) = field.get("items").map(|items| resolved(root, items)).filter(|items| has_fields(items)) {
        return Some((items, true));
    }
    let choices = field.get("anyOf").and_then(Value::as_array)?;
    choices.iter().find_map(|choice| nested(root, choice))
}

fn has_fields(schema: &Value) -> bool {
    schema.get("properties").is_some() || schema.get("anyOf").is_some()
}

/// What a reference leads to. A condition's own language has no end, and a chapter of its own.
fn resolved<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    let name = schema.get("$ref").and_then(Value::as_str).and_then(|name| name.strip_prefix("#/definitions/"));
    let name = name.filter(|name| !matches!(*name, "condition" | "check" | "operators"));
    name.and_then(|name| root.get("definitions")?.get(name)).unwrap_or(schema)
}

/// What may stand there, in a few words.
fn allowed(root: &Value, field: &Value) -> String {
    if let Some(choices) = field.get("anyOf").and_then(Value::as_array) {
        let mut kinds: Vec<String> = choices.iter().map(|choice| allowed(root, choice)).collect();
        kinds.dedup();
        return kinds.join(" or ");
    }
    if let Some(choices) = field.get("enum").and_then(Value::as_array) {
        return choices.iter().map(|choice| format!("`{choice}`")).collect::<Vec<_>>().join(", ");
    }
    if field.get("$ref").is_some() {
        let below = resolved(root, field);
        return if below == field { "a condition".to_owned() } else { allowed(root, below) };
    }
    let bound = |name: &str| field.get(name).map(Value::to_string);
    let range = match (bound("minimum"), bound("maximum")) {
        (Some(min), Some(max)) => format!(" from {min} to {max}"),
        _ => String::new(),
    };
    let kind = |kind: &str| match kind {
        "integer" => format!("a whole number{range}"),
        "number" => format!("a number{range}"),
        "boolean" => "`true` or `false`".to_owned(),
        "string" => "a text".to_owned(),
        "array" => "a list".to_owned(),
        "object" => "an object".to_owned(),
        other => format!("`{other}`"),
    };
    match field.get("type") {
        Some(Value::String(one)) => kind(one),
        Some(Value::Array(all)) => all.iter().filter_map(Value::as_str).map(kind).collect::<Vec<_>>().join(" or "),
        _ => String::new(),
    }
}
