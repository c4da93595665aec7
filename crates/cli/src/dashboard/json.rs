//! JSON objects that are put together from parts.

use serde_json::Value;

/// Puts the members of the object `from` into the object `into`.
pub(super) fn merge(into: &mut Value, from: Value) {
    if let (Some(into), Value::Object(from)) = (into.as_object_mut(), from) {
        into.extend(from);
    }
}
