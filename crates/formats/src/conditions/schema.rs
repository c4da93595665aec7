//! The JSON Schema of conditions.

use serde_json::{Map, Value, json};

/// The definitions of a condition and its parts, which contain each other.
pub(crate) fn definitions() -> Value {
    json!({"condition": condition(), "check": check(), "operators": operators()})
}

/// A condition: attributes with their checks, and combined conditions.
fn condition() -> Value {
    let conditions = |description: &str| json!({"type": "array", "description": description, "items": {"$ref": "#/definitions/condition"}});
    json!({
        "type": "object",
        "description": "Checks of attributes. Each name is an attribute, such as country, id, path, header.x-plan or cookie.plan.",
        "properties": {
            "$and": conditions("All of these hold."),
            "$or": conditions("One of these holds."),
            "$nor": conditions("None of these holds."),
            "$not": {"$ref": "#/definitions/condition"},
        },
        "propertyNames": {"anyOf": [{"enum": ["$and", "$or", "$nor", "$not", "$groups"]}, {"not": {"pattern": "^\\$"}}]},
        "additionalProperties": {"$ref": "#/definitions/check"},
    })
}

/// The check of one attribute: a value, or operators.
fn check() -> Value {
    json!({"anyOf": [
        {"$ref": "#/definitions/operators"},
        {"type": ["string", "number", "boolean", "array", "null"]},
        {"type": "object", "propertyNames": {"not": {"pattern": "^\\$"}}},
    ]})
}

fn operators() -> Value {
    let check = json!({"$ref": "#/definitions/check"});
    let scalar = json!({"type": ["string", "number", "boolean", "null"]});
    let ordered = json!({"type": ["string", "number"]});
    let pattern = json!({"type": "string", "description": "A regular expression, as JavaScript has them."});
    let scalars = json!({"type": "array", "items": scalar});
    let checks = json!({"type": "array", "items": check});
    let kinds = [
        (&["$eq", "$ne"][..], scalar),
        (&["$lt", "$lte", "$gt", "$gte", "$veq", "$vne", "$vlt", "$vlte", "$vgt", "$vgte"], ordered),
        (&["$in", "$nin", "$ini", "$nini"], scalars),
        (&["$regex", "$regexi"], pattern),
        (&["$all", "$alli"], checks),
        (&["$not", "$size"], check),
        (&["$exists"], json!({"type": "boolean"})),
        (&["$type"], json!({"enum": ["string", "number", "boolean", "array", "object", "null"]})),
        (&["$elemMatch"], json!({"anyOf": [{"$ref": "#/definitions/operators"}, {"$ref": "#/definitions/condition"}]})),
    ];
    let properties: Map<String, Value> =
        kinds.iter().flat_map(|(names, kind)| names.iter().map(|name| ((*name).to_owned(), kind.clone()))).collect();
    json!({
        "type": "object", "description": "Operators. All of them have to hold.", "properties": properties,
        "minProperties": 1, "additionalProperties": false,
    })
}
