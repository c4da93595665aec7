//! The policy for experiments' effects that follows from a plugin configuration.

use super::{IdSource, Request, Response, Visitor};
use edgesplit_formats::effect_policy::{EffectPolicy, EffectRules};

/// The policy. Experiments may not set the filter's own headers, nor those that identify a visitor.
pub(super) fn policy(
    rules: Option<&EffectRules>,
    visitor: &Visitor,
    request: &Request,
    response: &Response,
) -> EffectPolicy {
    let own = [Some(&request.assignments_header), request.cache_key.header.as_ref()].into_iter().flatten();
    let ids = visitor.id.iter().filter_map(IdSource::header);
    EffectPolicy {
        rules: rules.cloned().unwrap_or_default(),
        is_given: rules.is_some(),
        reserved_request_headers: own.chain(ids).cloned().collect(),
        reserved_response_headers: response.debug_header.iter().cloned().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{PluginConfig, default_options};
    use edgesplit_formats::{NATIVE, compile_bytes};
    use serde_json::{Value, json};

    /// The problems of an experiment whose variant sets this request header.
    fn problems(plugin: &Value, name: &str) -> Vec<String> {
        let config = PluginConfig::from_value(plugin).expect("a valid configuration");
        let variants = json!([{"key": "a", "weight": 10000, "set": {"request_headers": {name: "1"}}}]);
        let experiments = json!({"schema": 1, "experiments": [{"key": "e", "state": "running", "variants": variants}]});
        let compiled = compile_bytes(experiments.to_string().as_bytes(), &config.compile_options());
        compiled.problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn own_headers_and_ids_are_reserved() {
        let plugin = json!({
            "experiments": {"cluster": "c"}, "effects": {"request_headers": ["*"]},
            "visitor": {"id": [{"header": "x-user-id"}, {"header": "x-token", "jwt_claim": "sub"}, {"cookie": "x-c"}]},
            "request": {"assignments_header": "x-variants", "cache_key": {"header": "x-key"}},
        });
        for name in ["x-user-id", "X_User_Id", "x-token", "x-variants", "x_key"] {
            let found = problems(&plugin, name);
            assert!(
                found.iter().any(|problem| problem.contains("no variant may set this header")),
                "{name}: {found:?}"
            );
        }
        for name in ["x-c", "x-ab-assignments", "accept"] {
            assert_eq!(problems(&plugin, name), [""; 0], "{name}");
        }
        assert!(default_options(NATIVE).effects.reserved_request_headers.contains(&"x-ab-assignments".to_owned()));
    }

    #[test]
    fn absent_fields_have_their_defaults() {
        let plugin = |effects: Value| json!({"experiments": {"cluster": "c"}, "effects": effects});
        for (effects, is_given) in [(json!(null), false), (json!({}), true), (json!({"paths": false}), true)] {
            let options = PluginConfig::from_value(&plugin(effects.clone())).expect("valid").compile_options();
            assert_eq!(options.effects.is_given, is_given);
            assert_eq!(problems(&plugin(effects.clone()), "x-a"), [""; 0]);
            assert_ne!(problems(&plugin(effects), "accept"), [""; 0]);
        }
    }
}
