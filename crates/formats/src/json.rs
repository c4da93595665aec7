//! JSON values made and written in little code: `json!` turns whatever stands in it into values by way of a second serializer, and
//! the `Display` of values can also lay them out over many lines.

use serde_json::Value;

/// An object with these members.
pub fn object<'a>(members: impl IntoIterator<Item = (&'a str, Value)>) -> Value {
    let mut object = serde_json::Map::new();
    for (name, value) in members {
        object.insert(name.to_owned(), value);
    }
    Value::Object(object)
}

/// Appends `value` on one line.
pub fn write(out: &mut Vec<u8>, value: &Value) {
    // Writing to memory cannot fail, and neither can turning a value into JSON.
    let _ = serde_json::to_writer(out, value);
}

/// `value` on one line.
pub fn text(value: &Value) -> String {
    serde_json::to_string(value).unwrap_or_default() // it never fails: there is room, and every name is a text
}
