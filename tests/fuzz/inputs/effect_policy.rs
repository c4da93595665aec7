//! Effect policies: the first line is the block `effects` of a plugin configuration, the rest is the `set` of a variant. No
//! policy lets a variant set the headers that nothing overrides.

use edgesplit_engine::snapshot::Effects;
use edgesplit_filter::plugin_config::PluginConfig;
use edgesplit_formats::compile_bytes;
use serde_json::{Value, json};

/// Headers of requests and responses that no variant may set, or the starts of their names.
const REFUSED: [&[&str]; 2] = [
    &["connection", "content-", "cookie", "host", "x-envoy-", "x-forwarded-", "x-ab-assignments", "x-user-id"],
    &["connection", "content-", "location", "set-cookie", "strict-transport-security", "x-ab-debug"],
];

/// Takes one input.
pub(crate) fn run(data: &[u8]) {
    let end = data.iter().position(|&byte| byte == b'\n').unwrap_or(data.len());
    let (policy, set) = data.split_at_checked(end).unwrap_or_default();
    let (Ok(policy), Ok(set)) = (serde_json::from_slice::<Value>(policy), serde_json::from_slice::<Value>(set)) else {
        return;
    };
    let plugin = json!({"experiments": {"cluster": "c"}, "visitor": {"id": [{"header": "x-user-id"}]}, "effects": policy,
        "response": {"debug_header": "x-ab-debug"}});
    let Ok(config) = PluginConfig::from_value(&plugin) else { return };
    let variants = json!([{"key": "a", "weight": 5000, "baseline": true}, {"key": "b", "weight": 5000, "set": set}]);
    let experiments = json!({"schema": 1, "experiments": [{"key": "e", "state": "running", "variants": variants}]});
    let compiled = compile_bytes(experiments.to_string().as_bytes(), &config.compile_options());
    let Some(snapshot) = compiled.snapshot else { return };
    for variant in snapshot.experiments.iter().flat_map(|experiment| &experiment.variants) {
        let Effects { request_headers, response_headers, path, .. } = &variant.effects;
        for (headers, refused) in [request_headers, response_headers].into_iter().zip(REFUSED) {
            for (name, value) in headers {
                let spelling = name.to_ascii_lowercase().replace('_', "-");
                let is_refused =
                    |known: &&str| spelling == **known || known.ends_with('-') && spelling.starts_with(known);
                assert!(!refused.iter().any(is_refused), "{name}");
                assert!(!value.contains(['\r', '\n', '\0']), "{name}: {value:?}");
            }
        }
        assert!(request_headers.iter().all(|(name, _)| snapshot.owned_request_headers.contains(name.as_bytes())));
        assert!(path.as_ref().is_none_or(|path| path.with.starts_with('/') && !path.is_escaping()), "{path:?}");
    }
}
