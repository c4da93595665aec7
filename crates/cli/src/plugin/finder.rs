//! Finds plugin configurations in Envoy configurations and in the manifests of Istio and Envoy Gateway.

use edgesplit_formats::diagnostics::Path;
use serde_json::{Map, Value};

/// A plugin configuration in a document.
#[derive(Debug)]
pub(super) struct Found {
    /// The name of the plugin.
    pub(super) name: String,
    /// The path in the document.
    pub(super) path: String,
    /// The plugin configuration, or the problem of its encoding.
    pub(super) value: Result<Value, String>,
}

/// Every plugin configuration in `document`.
pub(super) fn search(document: &Value) -> Vec<Found> {
    let mut found = Vec::new();
    visit(document, &Path::Root, "", &mut found);
    found
}

/// Whether `document` is an Envoy configuration or a Kubernetes manifest.
pub(super) fn is_manifest(document: &Value) -> bool {
    const MEMBERS: [&str; 8] = [
        "apiVersion",
        "kind",
        "static_resources",
        "dynamic_resources",
        "admin",
        "resources",
        "filter_chains",
        "http_filters",
    ];
    let elements = document.as_array();
    elements.is_some_and(|elements| elements.iter().any(is_manifest))
        || MEMBERS.into_iter().any(|name| document.get(name).is_some())
}

/// Adds the plugin configurations in `value`, which stands in the manifest called `resource`.
fn visit(value: &Value, path: &Path<'_>, resource: &str, found: &mut Vec<Found>) {
    match value {
        Value::Array(elements) => {
            for (index, element) in elements.iter().enumerate() {
                visit(element, &path.index(index), resource, found);
            }
        }
        Value::Object(members) => {
            let resource = value.pointer("/metadata/name").and_then(Value::as_str).unwrap_or(resource);
            let of_gateway = value.get("kind").is_some_and(|kind| kind == "EnvoyExtensionPolicy");
            if of_gateway && let Some(filters) = value.pointer("/spec/wasm").and_then(Value::as_array) {
                let (spec, list) = (path.field("spec"), "wasm");
                let list = spec.field(list);
                for (index, filter) in filters.iter().enumerate() {
                    add(filter.as_object(), "config", &list.index(index), resource, found);
                }
                return;
            }
            let has = |names: [&str; 2]| names.into_iter().any(|name| members.contains_key(name));
            // A field of Istio's resources, of Envoy's `PluginConfig`, and of a dynamic module's filter.
            let field = if members.contains_key("pluginConfig") {
                "pluginConfig"
            } else if has(["vm_config", "vmConfig"]) {
                "configuration"
            } else if members.contains_key("dynamic_module_config") {
                "filter_config"
            } else if members.contains_key("dynamicModuleConfig") {
                "filterConfig"
            } else {
                for (name, member) in members {
                    visit(member, &path.field(name), resource, found);
                }
                return;
            };
            add(Some(members), field, path, resource, found);
        }
        _ => {}
    }
}

/// Adds the plugin configuration in the field `field` of the plugin `members`, if it has one.
fn add(members: Option<&Map<String, Value>>, field: &str, path: &Path<'_>, resource: &str, found: &mut Vec<Found>) {
    let Some((members, value)) = members.and_then(|members| Some((members, members.get(field)?))) else { return };
    let names = ["pluginName", "name", "filter_name", "filterName", "root_id", "rootId"];
    let name = names.into_iter().find_map(|name| members.get(name)?.as_str()).unwrap_or(resource);
    let path = path.field(field);
    let (value, path) = decoded(value, &path);
    found.push(Found { name: name.to_owned(), path, value });
}

/// The plugin configuration in `value`, which may be a `google.protobuf.Any`, and its path.
fn decoded(value: &Value, path: &Path<'_>) -> (Result<Value, String>, String) {
    let Some(kind) = value.get("@type").and_then(Value::as_str) else { return (Ok(value.clone()), path.to_string()) };
    let Some(inner) = value.get("value") else {
        return (Err(format!("expected the plugin configuration in `value` beside the type {kind}")), path.to_string());
    };
    let read = match inner {
        Value::String(text) if kind.ends_with("google.protobuf.StringValue") => {
            serde_json::from_str(text).map_err(|error| {
                format!("expected JSON in this text (YAML needs a google.protobuf.Struct instead): {error}")
            })
        }
        Value::Object(_) if kind.ends_with("google.protobuf.Struct") => Ok(inner.clone()),
        _ => Err(format!(
            "expected a type.googleapis.com/google.protobuf.StringValue with JSON, or a google.protobuf.Struct; found {kind}"
        )),
    };
    (read, path.field("value").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn plugin_configurations_are_found_in_every_kind_of_file() {
        let ours = json!({"experiments": {"cluster": "c"}});
        let text = json!({"@type": "type.googleapis.com/google.protobuf.StringValue", "value": ours.to_string()});
        let structure = json!({"@type": "type.googleapis.com/google.protobuf.Struct", "value": ours});
        for (document, name, path) in [
            (
                json!({"http_filters": [{"typed_config": {"config": {"name": "shop", "vm_config": {}, "configuration": text}}}]}),
                "shop",
                "http_filters[0].typed_config.config.configuration.value",
            ),
            (
                json!({"typed_config": {"value": {"config": {"rootId": "r", "vmConfig": {}, "configuration": structure}}}}),
                "r",
                "typed_config.value.config.configuration.value",
            ),
            (
                json!({"dynamic_module_config": {"name": "m"}, "filter_name": "shop", "filter_config": structure}),
                "shop",
                "filter_config.value",
            ),
            (
                json!({"kind": "WasmPlugin", "metadata": {"name": "m"}, "spec": {"pluginName": "shop", "pluginConfig": ours}}),
                "shop",
                "spec.pluginConfig",
            ),
            (
                json!([{"kind": "Service"}, {"kind": "TrafficExtension", "metadata": {"name": "m"},
                    "spec": {"wasm": {"pluginConfig": ours}}}]),
                "m",
                "[1].spec.wasm.pluginConfig",
            ),
            (
                json!({"kind": "EnvoyExtensionPolicy", "spec": {"wasm": [{"name": "shop", "config": ours}]}}),
                "shop",
                "spec.wasm[0].config",
            ),
        ] {
            let found = search(&document);
            let found: Vec<_> = found.iter().map(|one| (one.name.as_str(), one.path.as_str(), &one.value)).collect();
            assert_eq!(found, [(name, path, &Ok(ours.clone()))], "{document}");
        }
    }
}
