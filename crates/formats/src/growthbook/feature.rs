//! Features and their rules, compiled.

use super::experiment::{self, Bandit, DEFAULT_ATTRIBUTE, Experiment, Filter, Parent, UnitName};
use super::hash::{HashVersion, Hasher, Range};
use super::wire::{self, Scope};
use crate::diagnostics::{Node, Severity};
use crate::flags::FLAG_OUTCOMES_MAX;
use crate::shape;
use crate::stepwise::size;
use edgesplit_engine::condition::Condition;
use edgesplit_engine::condition::value::JsValue;
use edgesplit_engine::flag::Outcome;
use serde_json::Value;
use std::sync::Arc;

/// The bandits of a payload, sorted by their ids; none for one that is wrong.
pub(super) type Bandits = Vec<(String, Option<Arc<Bandit>>)>;

/// A feature, ready to be decided.
#[derive(Debug)]
pub struct Feature {
    /// Its key.
    pub key: String,
    /// Its position among the payload's features, including invalid ones.
    pub position: usize,
    pub(super) rules: Vec<Rule>,
    /// Its outcomes.
    pub outcomes: Vec<Outcome>,
}

/// The position of the outcome without a value in every feature's list.
pub const NO_VALUE: usize = 0;
/// The position of the default value in every feature's list.
pub const DEFAULT_VALUE: usize = 1;

/// One rule of a feature: the first one that gives a value decides.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) id: String,
    pub(super) parents: Vec<Parent>,
    pub(super) filters: Option<Vec<Filter>>,
    pub(super) kind: RuleKind,
}

impl Rule {
    /// Its name in checks: its number in the feature, and its id or its experiment's key.
    pub(super) fn label(&self, number: usize) -> String {
        match (&self.kind, self.id.as_str()) {
            (RuleKind::Experiment(experiment, _), "") => format!("rule {number} ({})", experiment.key),
            (_, "") => format!("rule {number}"),
            (_, id) => format!("rule {number} ({id})"),
        }
    }
}

#[derive(Debug)]
pub(super) enum RuleKind {
    /// A value for all visitors that it targets.
    Force(Box<Force>),
    /// An experiment; the number is the position of its first variation among the feature's outcomes.
    Experiment(Box<Experiment>, usize),
    /// No value: the rule only has prerequisites.
    Gate,
}

#[derive(Debug)]
pub(super) struct Force {
    pub(super) condition: Option<Condition>,
    pub(super) rollout: Option<Rollout>,
    pub(super) sticky: bool,
    pub(super) outcome: usize,
    pub(super) tracks: Vec<Track>,
}

/// The visitors that get a forced value.
#[derive(Debug)]
pub(super) struct Rollout {
    pub(super) hasher: Hasher,
    pub(super) unit: UnitName,
    pub(super) share: Share,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Share {
    Range(Range),
    /// The buckets up to and including this one, as in the SDK. A coverage of 0 includes none.
    Coverage(f64),
}

/// An experiment that was decided elsewhere, to be reported when its value is used.
#[derive(Debug)]
pub(super) struct Track {
    pub(super) experiment: String,
    pub(super) variation: String,
    pub(super) attribute: String,
    pub(super) unit: String,
    /// The value with its type, if it is not a text.
    pub(super) typed_unit: Option<Value>,
    /// The variation's number.
    pub(super) number: Option<usize>,
}

/// How many bytes of a feature's rules are compiled at a time.
pub(super) const RULE_BYTES_PER_STEP: usize = 4 << 10;

const RULE_FIELDS: &[&str] = &[
    "id",
    "type",
    "condition",
    "parentConditions",
    "force",
    "variations",
    "contextualVariations",
    "contextualBanditRef",
    "weights",
    "key",
    "hashAttribute",
    "fallbackAttribute",
    "hashVersion",
    "disableStickyBucketing",
    "bucketVersion",
    "minBucketVersion",
    "range",
    "coverage",
    "namespace",
    "ranges",
    "meta",
    "filters",
    "seed",
    "name",
    "phase",
    "tracks",
    "metadata",
];

impl Feature {
    /// Compiles the feature at `node` without its rules. Errors in `scope` make it unusable.
    pub(super) fn compile(scope: &mut Scope<'_>, node: Node<'_>, key: &str, position: usize) -> Option<Feature> {
        node.object(&mut scope.problems)?;
        node.unknown_fields(&["defaultValue", "rules", "metadata"], Severity::Warning, &mut scope.problems);
        scope.member(node, "rules", |scope, node| node.array(&mut scope.problems).map(drop));
        let plain = |value: Value| Outcome { variant: None, experiment: None, value, in_experiment: false };
        let default = node.value.get("defaultValue").cloned().unwrap_or_default();
        let outcomes = vec![plain(Value::Null), plain(default)];
        Some(Feature { key: key.to_owned(), position, rules: Vec::new(), outcomes })
    }

    /// Compiles the next rules of the feature at `node`, from the number `next` on. False if there may be more.
    pub(super) fn compile_rules(
        &mut self,
        scope: &mut Scope<'_>,
        node: Node<'_>,
        next: &mut usize,
        bandits: &Bandits,
    ) -> bool {
        let (list, path) = (shape::list(node.value, "rules"), node.path.field("rules"));
        let mut bytes = 0;
        while let Some(value) = list.get(*next).filter(|_| bytes < RULE_BYTES_PER_STEP) {
            let node = Node { value, path: &path.index(*next) };
            if node.object(&mut scope.problems).is_some() {
                node.unknown_fields(RULE_FIELDS, Severity::Warning, &mut scope.problems);
                self.rules.push(rule(scope, node, &self.key, bandits, &mut self.outcomes));
            }
            bytes += size(value);
            *next += 1;
        }
        bytes < RULE_BYTES_PER_STEP
    }
}

fn rule(scope: &mut Scope<'_>, node: Node<'_>, feature: &str, bandits: &Bandits, outcomes: &mut Vec<Outcome>) -> Rule {
    let id = scope.text(node, "id").unwrap_or_default();
    let first = outcomes.len();
    let kind = if let Some(value) = node.value.get("force") {
        outcomes.push(Outcome { variant: None, experiment: None, value: value.clone(), in_experiment: false });
        RuleKind::Force(Box::new(force(scope, node, feature, first)))
    } else {
        match experiment(scope, node, feature, bandits) {
            Some((experiment, values)) => {
                outcomes.extend(experiment.outcomes(&values));
                RuleKind::Experiment(Box::new(experiment), first)
            }
            None => RuleKind::Gate,
        }
    };
    let mut rule = Rule { id, parents: Vec::new(), filters: None, kind };
    if let RuleKind::Experiment(experiment, _) = &mut rule.kind {
        // The rule checks them before anything else, so its experiment need not check them again.
        rule.parents = std::mem::take(&mut experiment.parents);
        rule.filters = experiment.filters.take();
        if rule.filters.is_some() {
            experiment.namespace = None;
        }
    } else {
        rule.parents = scope.member(node, "parentConditions", experiment::parents).unwrap_or_default();
        rule.filters = scope.member(node, "filters", experiment::filters);
    }
    rule
}

fn force(scope: &mut Scope<'_>, node: Node<'_>, feature: &str, outcome: usize) -> Force {
    let range = scope.member(node, "range", wire::range);
    let coverage = scope.coverage(node);
    let seed = scope.text(node, "seed");
    let version = experiment::hash_version(scope, node, HashVersion::V1);
    let unit = UnitName::compile(scope, node);
    // Null is not 0 here: the SDK includes the first bucket, which is 0 itself.
    let is_null = node.value.get("coverage").is_some_and(Value::is_null);
    let coverage = coverage.map(|share| Share::Coverage(if is_null { f64::MIN_POSITIVE } else { share }));
    let share = range.map(Share::Range).or(coverage);
    let hasher = Hasher::new(seed.as_deref().unwrap_or(feature), version);
    Force {
        condition: scope.condition(node, "condition"),
        rollout: share.map(|share| Rollout { hasher, unit, share }),
        sticky: !scope.flag(node, "disableStickyBucketing"),
        outcome,
        tracks: scope.member(node, "tracks", tracks).unwrap_or_default(),
    }
}

fn tracks(scope: &mut Scope<'_>, node: Node<'_>) -> Option<Vec<Track>> {
    scope.list(node, |scope, node| {
        node.object(&mut scope.problems)?;
        node.unknown_fields(&["experiment", "result"], Severity::Warning, &mut scope.problems);
        let experiment = scope.required(node, "experiment", |scope, node| scope.required(node, "key", wire::text));
        let result = scope.required(node, "result", |scope, node| {
            let variation = scope.required(node, "key", wire::text);
            let attribute = scope.text(node, "hashAttribute");
            let unit = scope.required(node, "hashValue", |scope, node| match node.value {
                Value::String(text) => Some((text.clone(), None)),
                Value::Number(_) => Some((JsValue::from(node.value).text().into_owned(), Some(node.value.clone()))),
                _ => {
                    node.expected(&mut scope.problems, "a text or a number");
                    None
                }
            });
            let number = scope.number(node, "variationId").map(|number| number as usize);
            Some((variation?, attribute.unwrap_or_else(|| DEFAULT_ATTRIBUTE.to_owned()), unit?, number))
        });
        let (variation, attribute, (unit, typed_unit), number) = result?;
        Some(Track { experiment: experiment?, variation, attribute, unit, typed_unit, number })
    })
}

/// The experiment of a rule with the values of its variations, if it has variations.
fn experiment(
    scope: &mut Scope<'_>,
    node: Node<'_>,
    feature: &str,
    bandits: &Bandits,
) -> Option<(Experiment, Vec<Value>)> {
    let list = |scope: &mut Scope<'_>, node: Node<'_>| {
        let variations = node.array(&mut scope.problems)?;
        if variations.len() > FLAG_OUTCOMES_MAX {
            scope.problems.error(node.path, format_args!("more than {FLAG_OUTCOMES_MAX} variations"));
            return None;
        }
        Some(variations.to_vec())
    };
    let contextual = scope.member(node, "contextualVariations", list);
    let values = contextual.or_else(|| scope.member(node, "variations", list))?;
    let reference = scope.text(node, "contextualBanditRef");
    let bandit = reference.and_then(|reference| {
        let path = node.path.field("contextualBanditRef");
        let place = bandits.binary_search_by(|(id, _)| id.cmp(&reference)).ok();
        match place.and_then(|place| bandits.get(place)) {
            Some((_, Some(bandit))) => Some(bandit.clone()),
            Some((_, None)) => {
                scope.problems.error(&path, format_args!("the contextual bandit {reference:?} is invalid"));
                None
            }
            None => {
                let message = format!("there is no contextual bandit {reference:?}: the rule's own weights are used");
                scope.problems.warning(&path, message);
                None
            }
        }
    });
    let experiment = Experiment::compile(scope, node, feature, &values, bandit);
    Some((experiment, values))
}
