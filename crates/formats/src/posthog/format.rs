//! PostHog in the table of formats.

use super::compile::{Compiler, Names};
use super::rules::Rules;
#[cfg(not(target_arch = "wasm32"))]
use crate::attribute_use::{self, AttributeUse};
use crate::diagnostics::{Node, Problems};
use crate::events::EventWire;
use crate::flag_steps::{Element, FlagReader, FlagSteps, Unread};
use crate::format::{Format, Options};
use crate::scope::Scope;
use crate::shape::{self, Shape, text};
use crate::stepwise::{KEYS_PER_STEP, Leftovers, Steps, size};
use edgesplit_engine::flag::{FlagEvaluator, Outcome};
use serde_json::Value;

/// PostHog's definitions for local evaluation.
#[derive(Debug)]
pub struct PostHog;

impl Format for PostHog {
    fn name(&self) -> &'static str {
        "posthog"
    }

    fn recognises(&self, document: &Value) -> bool {
        document.get("flags").is_some_and(Value::is_array)
    }

    fn steps(&self, options: &Options) -> Box<dyn Steps> {
        let token = options.events_path.as_deref().and_then(token);
        let reader = PayloadReader { rules: Rules { token, ..Rules::default() }, ..PayloadReader::default() };
        FlagSteps::begin(Box::new(reader), options)
    }

    #[cfg(not(target_arch = "wasm32"))]
    fn attribute_uses(&self, config: Node<'_>, each: &mut dyn FnMut(&AttributeUse<'_>)) {
        attribute_use::elements(config, "flags", |flag| {
            let filters = flag.path.field("filters");
            let node = Node { value: flag.value.get("filters").unwrap_or(&Value::Null), path: &filters };
            if node.value.get("aggregation_group_type_index").is_some_and(|group| !group.is_null()) {
                return;
            }
            attribute_use::elements(node, "groups", |group| {
                attribute_use::elements(group, "properties", |node| {
                    let is_of_person = text(node.value, "type").is_none_or(|name| name == "person");
                    if is_of_person && text(node.value, "key") != Some("distinct_id") {
                        attribute_use::of_member(node, "key", each);
                    }
                });
            });
        });
    }

    /// 402 means that the project's quota is exceeded.
    fn config_of_status(&self, status: u16) -> Option<&'static str> {
        (status == 402).then_some(r#"{"flags": [], "quota_limited": ["feature_flags"]}"#)
    }

    fn event_wire(&self) -> Option<&dyn EventWire> {
        Some(self)
    }
}

/// A payload that is being compiled.
#[derive(Default)]
struct PayloadReader {
    rules: Rules,
    names: Names,
}

const PAYLOAD: Shape =
    Shape::Object(&[("group_type_mapping", false, Shape::Object(&[])), ("cohorts", false, Shape::Object(&[]))]);

impl FlagReader for PayloadReader {
    fn has_list(&self) -> bool {
        true
    }

    fn head(&mut self, config: Node<'_>, count: usize, problems: &mut Problems) -> bool {
        self.rules.flags.reserve_exact(count);
        shape::check(config, &PAYLOAD, problems);
        if config.value.get("quota_limited").is_some() {
            let path = config.path.field("quota_limited");
            problems.warning(&path, "the project's quota is exceeded: PostHog evaluates no flag");
        }
        true
    }

    fn see(&mut self, flag: &Value) {
        self.names.flags.extend(text(flag, "key").map(str::to_owned));
    }

    fn read_part(&mut self, scope: &mut Scope<'_>, config: Node<'_>) -> Option<usize> {
        let cohorts = config.value.get("cohorts")?.as_object()?;
        let listed = self.names.cohorts.len();
        if listed < cohorts.len() {
            self.names.cohorts.extend(cohorts.keys().skip(listed).take(KEYS_PER_STEP).cloned());
            // The earlier ones are stepped over.
            return Some(listed / 8 + KEYS_PER_STEP);
        }
        let id = self.names.cohorts.get(self.rules.cohorts.len())?;
        let (value, list) = (cohorts.get(id)?, config.path.field("cohorts"));
        let mut compiler = Compiler { payload: config.value, names: &self.names, scope };
        let cohort = compiler.tree(Node { value, path: &list.field(id) }, 0);
        self.rules.cohorts.push(cohort);
        Some(size(value))
    }

    fn read(&mut self, element: &mut Element<'_, '_>) -> Result<&[Outcome], Unread> {
        let Element { scope, config, node, .. } = element;
        let mut compiler = Compiler { payload: config.value, names: &self.names, scope };
        let flag = compiler.flag(*node).ok_or(Unread::Disabled)?;
        self.rules.by_key.insert(flag.key.clone(), self.rules.flags.len());
        self.rules.flags.push(flag);
        Ok(self.rules.flags.last().map_or(&[], |flag| &flag.outcomes))
    }

    fn finish(self: Box<Self>) -> (Option<String>, Box<dyn FlagEvaluator>, Leftovers) {
        let texts = self.names.flags.into_iter().chain(self.names.cohorts);
        (None, Box::new(self.rules), Leftovers::new(texts.map(drop)))
    }
}

/// The project's key in the query of the path that events are sent to.
fn token(path: &str) -> Option<String> {
    let (_, query) = path.split_once('?')?;
    let mut parameters = query.split('&').filter_map(|parameter| parameter.split_once('='));
    parameters.find(|(name, _)| ["token", "api_key"].contains(name)).map(|(_, token)| token.to_owned())
}
