//! The plugin configuration of `run`: the user's, with the services of this machine.

use edgesplit_formats::FormatRef;
use serde_json::{Value, json};

/// Adapts a plugin configuration, or a default one, to services on loopback and a config of this format.
pub(super) fn adapted(plugin: Option<&Value>, format: FormatRef) -> Value {
    let default = || {
        let id = json!([{"header": "x-user-id"}, {"cookie": "uid"}]);
        json!({"visitor": {"id": id, "mint": {"cookie": "ab_visitor"}}, "events": {}})
    };
    let mut plugin = plugin.cloned().unwrap_or_else(default);
    let source = json!({"format": format.name(), "cluster": "experiments", "path": "/experiments.json", "refresh": "0.5s", "timeout": "1s"});
    let keep = |block: Option<&Value>, names: &[&str], mut into: Value| {
        for name in names {
            if let (Some(value), Some(into)) = (block.and_then(|block| block.get(name)), into.as_object_mut()) {
                into.insert((*name).to_owned(), value.clone());
            }
        }
        into
    };
    let experiments = keep(plugin.get("experiments"), &["max_bytes", "routes"], source);
    let events = plugin.get("events").filter(|events| events.is_object()).map(|events| {
        keep(
            Some(events),
            &["format", "path", "batch", "dedupe", "prefetch", "url_query", "outbox", "retry"],
            json!({"cluster": "collector"}),
        )
    });
    if let Some(members) = plugin.as_object_mut() {
        members.insert("experiments".to_owned(), experiments);
        members.insert("events".to_owned(), events.unwrap_or(Value::Null));
    }
    // This proxy speaks HTTP, and browsers drop secure cookies of it.
    if let Some(mint) = plugin.pointer_mut("/visitor/mint").and_then(Value::as_object_mut) {
        mint.insert("secure".to_owned(), json!(false));
    }
    plugin
}
