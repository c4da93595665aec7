//! Warnings about configs that are valid, but probably not as intended.

use crate::args::moment_ms;
use crate::config::Config;
use crate::finding::Finding;
use edgesplit_engine::attribute::AttributeName;
use edgesplit_filter::plugin_config::PluginConfig;
use edgesplit_formats::NATIVE;
use edgesplit_formats::attribute_use::AttributeUse;
use edgesplit_formats::conditions::OPERATORS;
use edgesplit_formats::diagnostics::{Node, Path, found, unknown};
use serde_json::Value;
use std::collections::HashSet;

/// Shares below this one, in 1/10,000, are probably meant as percentages.
const SHARE_MIN: u64 = 100;

/// The combinations of conditions, without their `$`.
const COMBINATIONS: [&str; 4] = ["and", "or", "nor", "not"];

/// The warnings about the config `value`. Invalid experiments get only those about attributes.
pub(crate) fn lint(value: &Value, config: &Config, plugin: Option<&PluginConfig>, now_ms: i64) -> Vec<Finding> {
    let format = config.options.format;
    let mut lint = Lint { plugin, now_ms, unknown: HashSet::new(), findings: Vec::new() };
    format.attribute_uses(Node::root(value), &mut |attribute| lint.attribute(attribute));
    if format == NATIVE {
        let path = Path::Root.field("experiments");
        let experiments = value.get("experiments").and_then(Value::as_array);
        for (index, experiment) in experiments.into_iter().flatten().enumerate() {
            if config.snapshot.disabled.iter().all(|disabled| disabled.position != index) {
                lint.experiment(experiment, &path.index(index));
            }
        }
    }
    lint.findings
}

struct Lint<'a> {
    plugin: Option<&'a PluginConfig>,
    now_ms: i64,
    /// The unknown attributes so far: each is reported once.
    unknown: HashSet<String>,
    findings: Vec<Finding>,
}

impl Lint<'_> {
    fn warn(&mut self, path: &Path<'_>, message: String, effect: &str) {
        self.findings.push(Finding::warning(path, message, effect));
    }

    /// Checks a native experiment. Nothing restricts a concluded one.
    fn experiment(&mut self, experiment: &Value, path: &Path<'_>) {
        let state = experiment.get("state").and_then(Value::as_str);
        if state == Some("concluded") {
            return;
        }
        self.traffic(experiment, path);
        if let Some(ends) = experiment.get("ends").and_then(Value::as_str)
            && state == Some("running")
            && moment_ms(ends).is_ok_and(|ends_ms| ends_ms <= self.now_ms)
        {
            self.warn(&path.field("ends"), format!("the experiment ended at {ends}"), "no visitor is in it any more");
        }
        let is_baseline = |variant: &Value| variant.get("baseline") == Some(&Value::Bool(true));
        if let Some(variants) = experiment.get("variants").and_then(Value::as_array)
            && !variants.is_empty()
            && !variants.iter().any(is_baseline)
        {
            let message = "no variant has `\"baseline\": true`".to_owned();
            let effect =
                "caches keep a copy of each page for every variant, and one more for visitors outside the experiment";
            self.warn(&path.field("variants"), message, effect);
        }
        let keeps_sticky = self.plugin.is_none_or(|plugin| plugin.request.sticky.is_some());
        if experiment.get("sticky") == Some(&Value::Bool(true)) && !keeps_sticky {
            let message = "needs the cookie of `request.sticky`, which the plugin configuration lacks".to_owned();
            self.warn(&path.field("sticky"), message, "visitors do not keep their variant");
        }
    }

    fn traffic(&mut self, experiment: &Value, path: &Path<'_>) {
        let path = path.field("traffic");
        match experiment.get("traffic") {
            Some(Value::Array(steps)) => {
                for (index, step) in steps.iter().enumerate() {
                    self.share(step.get("share"), &path.index(index).field("share"));
                }
            }
            share => self.share(share, &path),
        }
    }

    fn share(&mut self, share: Option<&Value>, path: &Path<'_>) {
        let Some(share) = share.and_then(Value::as_u64).filter(|share| (1..SHARE_MIN).contains(share)) else { return };
        let message = format!("found {share}; shares are in 1/10,000, so {share} % would be {}", share * 100);
        self.warn(path, message, &format!("only {} % of visitors take part", share as f64 / 100.0));
    }

    fn attribute(&mut self, attribute: &AttributeUse<'_>) {
        if attribute.check.is_some_and(|check| self.operators(attribute, check)) {
            return;
        }
        let Some(plugin) = self.plugin else { return };
        let aliases: Vec<&str> = plugin.visitor.attributes.iter().map(|(alias, _)| alias.as_str()).collect();
        let is_known = match &attribute.name {
            AttributeName::Exact(name) => aliases.contains(&name.as_str()),
            AttributeName::Named(name) | AttributeName::Nested(name) => {
                let first = name.split('.').next().unwrap_or_default();
                aliases.iter().any(|alias| *alias == name || *alias == first)
            }
            _ => true,
        };
        let written = attribute.written;
        if is_known || !self.unknown.insert(written.to_owned()) {
            return;
        }
        let message = if aliases.is_empty() {
            format!("unknown attribute {written:?}; `visitor.attributes` of the plugin configuration has none")
        } else {
            unknown(&format!("attribute {written:?}"), written, &aliases)
                + " (`visitor.attributes` of the plugin configuration)"
        };
        let effect = match attribute.check {
            None => "no visitor has it, so no visitor is in the experiment",
            Some(_) => "it counts as missing for every visitor",
        };
        self.warn(attribute.path, message, effect);
    }

    /// Reports operators without their `$`. True if there is one.
    fn operators(&mut self, attribute: &AttributeUse<'_>, check: &Value) -> bool {
        let written = attribute.written;
        if COMBINATIONS.contains(&written) && (check.is_array() || check.is_object()) {
            let message = format!("`{written}` is read as an attribute; the operator is `${written}`");
            self.warn(attribute.path, message, "no visitor has this attribute, so the condition does not hold");
            return true;
        }
        let members = check.as_object().into_iter().flatten();
        let operators: Vec<&str> = OPERATORS.iter().filter_map(|name| name.strip_prefix('$')).collect();
        let bare = members.map(|(name, _)| name.as_str()).filter(|name| operators.contains(name));
        let bare: Vec<&str> = bare.collect();
        for name in &bare {
            let message =
                format!("`{name}` is no operator without its `$`: {written} is compared with {}", found(check));
            self.warn(&attribute.path.field(name), message, "the condition holds for no visitor");
        }
        !bare.is_empty()
    }
}
