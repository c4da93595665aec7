//! The native module in the place of the wasm module: `demo`, `run` and the tests have one Envoy configuration for both.

use crate::document::Document;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

const WASM_FILTER: &str = "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm";
const NATIVE_FILTER: &str = "type.googleapis.com/envoy.extensions.filters.http.dynamic_modules.v3.DynamicModuleFilter";

const STRIP_PREFIX: &str = "envoy.reloadable_features.dynamic_modules_strip_custom_stat_prefix";

/// Whether `module` is a native one, by its name.
pub(crate) fn is_native(module: &Path) -> bool {
    module.extension().is_some_and(|extension| extension == "so")
}

/// The Envoy configuration `bootstrap` with the native `module`, as JSON.
pub(crate) fn native_bootstrap(bootstrap: String, module: &Path) -> Result<String, String> {
    let mut document = Document::parse("the Envoy configuration", bootstrap.into_bytes());
    if let Some(problem) = document.problems.iter().next() {
        return Err(format!("{}: {problem}", document.name));
    }
    use_native(&mut document.value, &|_| module.to_owned());
    Ok(document.value.to_string())
}

/// Puts the native filter into the place of every wasm filter, with the same configuration and the same names of metrics.
/// `native` gives the native module for a wasm module.
pub fn use_native(bootstrap: &mut Value, native: &dyn Fn(&Path) -> PathBuf) {
    replace_filters(bootstrap, native);
    if let Some(bootstrap) = bootstrap.as_object_mut() {
        // Prometheus then gets the metrics without `envoy_wasmcustom_` before their names, as it does from wasm filters.
        let layer = json!({"name": "native", "static_layer": {STRIP_PREFIX: true}});
        bootstrap.entry("layered_runtime").or_insert_with(|| json!({"layers": [layer]}));
    }
}

fn replace_filters(part: &mut Value, native: &dyn Fn(&Path) -> PathBuf) {
    match part {
        Value::Object(members) if members.get("@type").is_some_and(|kind| kind == WASM_FILTER) => {
            let config = members.remove("config").unwrap_or_default();
            let module = config.pointer("/vm_config/code/local/filename").and_then(Value::as_str).unwrap_or_default();
            let mut filter = json!({
                "@type": NATIVE_FILTER,
                "dynamic_module_config": {
                    "module": {"local": {"filename": native(Path::new(module))}},
                    "metrics_namespace": "wasmcustom",
                },
                "filter_name": config.get("name"),
            });
            if let (Some(configuration), Some(filter)) = (config.get("configuration"), filter.as_object_mut()) {
                filter.insert("filter_config".to_owned(), configuration.clone());
            }
            *part = filter;
        }
        Value::Object(members) => members.values_mut().for_each(|member| replace_filters(member, native)),
        Value::Array(elements) => elements.iter_mut().for_each(|element| replace_filters(element, native)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn native_filter_has_the_configuration_of_the_wasm_filter() {
        let bootstrap = format!(
            "http_filters:
- name: edgesplit
  typed_config:
    \"@type\": {WASM_FILTER}
    config:
      name: shop
      vm_config: {{code: {{local: {{filename: edgesplit.wasm}}}}}}
      configuration: {{\"@type\": type.googleapis.com/google.protobuf.Struct, value: {{visitor: {{}}}}}}
"
        );
        let native = native_bootstrap(bootstrap, Path::new("/lib/libedgesplit.so")).unwrap();
        let mut native: Value = serde_json::from_str(&native).unwrap();
        assert_eq!(native["layered_runtime"]["layers"][0]["static_layer"], json!({STRIP_PREFIX: true}));
        native.as_object_mut().unwrap().remove("layered_runtime");
        let expected = json!({"http_filters": [{"name": "edgesplit", "typed_config": {
            "@type": NATIVE_FILTER,
            "dynamic_module_config": {
                "module": {"local": {"filename": "/lib/libedgesplit.so"}}, "metrics_namespace": "wasmcustom"},
            "filter_name": "shop",
            "filter_config": {"@type": "type.googleapis.com/google.protobuf.Struct", "value": {"visitor": {}}},
        }}]});
        assert_eq!(native, expected);
        assert!(native_bootstrap("{".to_owned(), Path::new("a.so")).unwrap_err().contains("Envoy configuration"));
    }
}
