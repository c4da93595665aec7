//! A compiled experiment: of a feature's rule, of the payload's list, or standalone.

use super::hash::{HashVersion, Hasher, Range, are_weights_usable, bucket_ranges, equal_weights};
use super::target::UrlTargets;
use super::wire::{self, Scope};
use crate::diagnostics::{Node, Severity};
use edgesplit_engine::attribute::AttributeName;
use edgesplit_engine::condition::Condition;
use edgesplit_engine::flag::Outcome;
use edgesplit_engine::number;
use serde_json::Value;
use std::borrow::Cow;
use std::sync::Arc;

/// The attribute that is hashed by default.
pub(super) const DEFAULT_ATTRIBUTE: &str = "id";

/// The leaf of visitors outside all contexts of a bandit.
pub const FALLBACK_LEAF: i64 = -1;

/// An experiment, ready to be run.
#[derive(Debug)]
pub struct Experiment {
    /// Its key.
    pub key: String,
    pub(super) variations: Vec<Variation>,
    pub(super) ranges: Vec<Range>,
    /// The share that its variations cover, by which the contexts of its bandit have ranges; none if the payload gives the
    /// ranges.
    pub(super) coverage: Option<f64>,
    pub(super) weights: Vec<f64>,
    pub(super) hasher: Hasher,
    pub(super) unit: UnitName,
    pub(super) filters: Option<Vec<Filter>>,
    pub(super) namespace: Option<(Hasher, Range)>,
    pub(super) condition: Option<Condition>,
    pub(super) parents: Vec<Parent>,
    pub(super) targets: Option<UrlTargets>,
    pub(super) sticky: Option<Sticky>,
    pub(super) bandit: Option<Arc<Bandit>>,
    /// Whether it is a draft or switched off.
    pub(super) inactive: bool,
    pub(super) stopped: bool,
    /// The number of the variation that all of its visitors get.
    pub(super) force: Option<Option<usize>>,
}

/// A variation of an experiment, without its value.
#[derive(Debug, Clone)]
pub(super) struct Variation {
    /// Its key, else its number.
    pub(super) key: String,
    /// Its name, for people.
    pub(super) name: Option<String>,
    /// Whether the payload gives it a key, by which sticky buckets name it.
    pub(super) has_key: bool,
    /// Whether its visitors go on to the next rule, like visitors who are not held out.
    pub(super) passthrough: bool,
}

/// The attribute that is bucketed, and its fallback.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct UnitName {
    pub(super) attribute: Attribute,
    pub(super) fallback: Option<Attribute>,
}

/// An attribute under the name that the payload uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Attribute {
    pub(super) written: String,
    pub(super) name: AttributeName,
}

/// How an experiment uses sticky buckets.
#[derive(Debug, Clone)]
pub(super) struct Sticky {
    /// The key of its current version in sticky buckets.
    pub(super) key: String,
    /// Visitors with a bucket of a version before this one are out.
    pub(super) version_min: u64,
    /// The fallback attribute of sticky buckets: in the SDK, `id` by default.
    pub(super) fallback: Attribute,
}

/// A filter, which excludes visitors outside its ranges.
#[derive(Debug)]
pub(super) struct Filter {
    pub(super) attribute: Attribute,
    pub(super) hasher: Hasher,
    pub(super) ranges: Vec<Range>,
}

/// A prerequisite: another feature that must have certain outcomes.
#[derive(Debug)]
pub(super) struct Parent {
    pub(super) id: String,
    pub(super) condition: Option<Condition>,
    /// Whether a visitor who does not pass gets no value at all, instead of the next rule.
    pub(super) gate: bool,
    /// The position of the parent; none if there is no such feature.
    pub(super) feature: Option<usize>,
    /// Whether the parent passes, for each of its outcomes. A missing feature has one outcome, null.
    pub(super) passes: Vec<bool>,
}

/// The contexts of a contextual bandit. The payload defines it once for all experiments, which share it: there may be
/// thousands of both.
#[derive(Debug)]
pub(super) struct Bandit {
    pub(super) version: Option<Value>,
    pub(super) leaves: Vec<Leaf>,
}

/// A context of a bandit, with its own weights.
#[derive(Debug)]
pub(super) struct Leaf {
    pub(super) id: i64,
    pub(super) condition: Option<Condition>,
    pub(super) weights: Vec<f64>,
}

impl Attribute {
    pub(super) fn new(written: String) -> Attribute {
        Attribute { name: AttributeName::parse_exact(&written), written }
    }

    fn of(written: Option<String>) -> Attribute {
        Attribute::new(written.unwrap_or_else(|| DEFAULT_ATTRIBUTE.to_owned()))
    }
}

impl UnitName {
    /// The attributes that `hashAttribute` and `fallbackAttribute` name.
    pub(super) fn compile(scope: &mut Scope<'_>, node: Node<'_>) -> UnitName {
        let attribute = Attribute::of(scope.text(node, "hashAttribute"));
        UnitName { attribute, fallback: scope.text(node, "fallbackAttribute").map(Attribute::new) }
    }
}

impl Experiment {
    /// Compiles the experiment at `node`. Without a key of its own, its key is `default_key`. Errors in `scope` make it
    /// unusable.
    pub(super) fn compile(
        scope: &mut Scope<'_>,
        node: Node<'_>,
        default_key: &str,
        values: &[Value],
        bandit: Option<Arc<Bandit>>,
    ) -> Experiment {
        let count = values.len();
        let key = scope.text(node, "key").unwrap_or_else(|| default_key.to_owned());
        let coverage = scope.coverage(node).unwrap_or(1.0);
        let weights = scope.member(node, "weights", |scope, node| {
            let weights = wire::numbers(scope, node)?;
            if !are_weights_usable(&weights, count) {
                let message = format!("not {count} weights that add up to 1: equal ones are used");
                scope.problems.warning(node.path, message);
            }
            Some(weights)
        });
        let own_ranges = scope.member(node, "ranges", wire::ranges);
        let unit = UnitName::compile(scope, node);
        let fallback = unit.fallback.clone().unwrap_or_else(|| Attribute::of(None));
        let bucket_version = scope.version(node, "bucketVersion");
        let sticky = Sticky {
            key: format!("{key}__{bucket_version}"),
            version_min: scope.version(node, "minBucketVersion"),
            fallback,
        };
        let seed = scope.text(node, "seed");
        let version = hash_version(scope, node, HashVersion::V1);
        Experiment {
            hasher: Hasher::new(seed.as_deref().unwrap_or(&key), version),
            variations: variations(scope, node, count),
            coverage: own_ranges.is_none().then_some(coverage),
            ranges: own_ranges.unwrap_or_else(|| bucket_ranges(count, coverage, weights.as_deref())),
            weights: weights.unwrap_or_else(|| equal_weights(count)),
            unit,
            filters: scope.member(node, "filters", filters),
            namespace: scope.member(node, "namespace", namespace),
            condition: scope.condition(node, "condition"),
            parents: scope.member(node, "parentConditions", parents).unwrap_or_default(),
            targets: None,
            sticky: (!scope.flag(node, "disableStickyBucketing")).then_some(sticky),
            bandit,
            inactive: false,
            stopped: false,
            force: None,
            key,
        }
    }

    /// Compiles a standalone experiment, with the members that a feature's rule does not have.
    pub(super) fn compile_whole(scope: &mut Scope<'_>, node: Node<'_>, values: &[Value]) -> Option<Experiment> {
        let key = scope.required(node, "key", wire::text)?;
        let mut experiment = Experiment::compile(scope, node, &key, values, None);
        experiment.targets = scope.member(node, "urlPatterns", UrlTargets::compile);
        let status = scope.text(node, "status");
        let active = scope.member(node, "active", |scope, node| node.boolean(&mut scope.problems)).unwrap_or(true);
        experiment.inactive = !active || status.as_deref() == Some("draft");
        experiment.stopped = status.as_deref() == Some("stopped");
        experiment.force = scope.member(node, "force", |scope, node| {
            let number = wire::number(scope, node)?;
            Some((0..values.len()).find(|&variation| variation as f64 == number))
        });
        Some(experiment)
    }

    /// The key of the variation of this number.
    pub fn variation_key(&self, variation: usize) -> &str {
        self.variations.get(variation).map_or("", |variation| &variation.key)
    }

    /// The name of the variation of this number, if it has one.
    pub fn variation_name(&self, variation: usize) -> Option<&str> {
        self.variations.get(variation)?.name.as_deref()
    }

    /// The ranges of its variations with these weights of a bandit's context.
    pub(super) fn ranges_with(&self, weights: &[f64]) -> Cow<'_, [Range]> {
        match self.coverage {
            Some(coverage) => bucket_ranges(self.variations.len(), coverage, Some(weights)).into(),
            None => (&self.ranges).into(),
        }
    }

    /// Its outcomes for visitors who are in it.
    pub(super) fn outcomes(&self, values: &[Value]) -> impl Iterator<Item = Outcome> {
        self.variations.iter().zip(values).map(|(variation, value)| Outcome {
            variant: Some(variation.key.clone()),
            experiment: Some(self.key.clone()),
            value: value.clone(),
            in_experiment: true,
        })
    }
}

/// The version that `hashVersion` names, or `default`.
pub(super) fn hash_version(scope: &mut Scope<'_>, node: Node<'_>, default: HashVersion) -> HashVersion {
    scope
        .member(node, "hashVersion", |scope, node| {
            let number = wire::number(scope, node)?;
            let version = if number == 0.0 { default } else { HashVersion::of(number) };
            if version == HashVersion::Unknown {
                let number = number::javascript(number);
                let message = format!("the hash version {number} is unknown: no visitor is in it");
                scope.problems.warning(node.path, message);
            }
            Some(version)
        })
        .unwrap_or(default)
}

fn variations(scope: &mut Scope<'_>, node: Node<'_>, count: usize) -> Vec<Variation> {
    let mut variations: Vec<Variation> = (0..count)
        .map(|number| Variation { key: number.to_string(), name: None, has_key: false, passthrough: false })
        .collect();
    scope.member(node, "meta", |scope, node| {
        let metas = scope.list(node, |scope, node| {
            node.object(&mut scope.problems)?;
            node.unknown_fields(&["key", "name", "passthrough"], Severity::Warning, &mut scope.problems);
            Some((scope.text(node, "key"), scope.text(node, "name"), scope.flag(node, "passthrough")))
        })?;
        if metas.len() < count {
            node.expected(&mut scope.problems, &format!("one entry for each of the {count} variations"));
        }
        for (variation, (key, name, passthrough)) in variations.iter_mut().zip(metas) {
            let has_key = key.is_some();
            let key = key.unwrap_or_else(|| std::mem::take(&mut variation.key));
            *variation = Variation { key, name, has_key, passthrough };
        }
        Some(())
    });
    variations
}

/// Reads the list of filters at `node`.
pub(super) fn filters(scope: &mut Scope<'_>, node: Node<'_>) -> Option<Vec<Filter>> {
    scope.list(node, |scope, node| {
        node.object(&mut scope.problems)?;
        node.unknown_fields(&["seed", "ranges", "attribute", "hashVersion"], Severity::Warning, &mut scope.problems);
        let seed = scope.required(node, "seed", wire::text);
        let version = hash_version(scope, node, HashVersion::V2);
        let ranges = scope.required(node, "ranges", wire::ranges);
        let attribute = Attribute::of(scope.text(node, "attribute"));
        Some(Filter { attribute, hasher: Hasher::new(&seed?, version), ranges: ranges? })
    })
}

fn namespace(scope: &mut Scope<'_>, node: Node<'_>) -> Option<(Hasher, Range)> {
    let list = node.array(&mut scope.problems)?;
    let parts = match list {
        [name, from, to] => name.as_str().zip(from.as_f64().zip(to.as_f64())),
        _ => None,
    };
    if parts.is_none() {
        node.expected(&mut scope.problems, "a namespace, which is a list of its name and two numbers");
    }
    parts.map(|(name, range)| (Hasher::namespace(name), range))
}

/// Reads the list of prerequisites at `node`. They are linked to their features once all of those are read.
pub(super) fn parents(scope: &mut Scope<'_>, node: Node<'_>) -> Option<Vec<Parent>> {
    scope.list(node, |scope, node| {
        node.object(&mut scope.problems)?;
        node.unknown_fields(&["id", "condition", "gate"], Severity::Warning, &mut scope.problems);
        let id = scope.required(node, "id", wire::text);
        let condition = scope.condition(node, "condition");
        let gate = scope.flag(node, "gate");
        Some(Parent { id: id?, condition, gate, feature: None, passes: Vec::new() })
    })
}

/// Reads the definition of a bandit at `node`.
pub(super) fn bandit(scope: &mut Scope<'_>, node: Node<'_>) -> Option<Bandit> {
    node.object(&mut scope.problems)?;
    node.unknown_fields(&["banditVersion", "contexts", "attributesRequired"], Severity::Warning, &mut scope.problems);
    let version = scope.member(node, "banditVersion", |scope, node| {
        wire::number(scope, node)?;
        Some(node.value.clone())
    });
    let leaves = scope.member(node, "contexts", |scope, node| {
        scope.list(node, |scope, node| {
            node.object(&mut scope.problems)?;
            node.unknown_fields(&["leafId", "condition", "weights"], Severity::Warning, &mut scope.problems);
            let id = scope.required(node, "leafId", wire::number);
            let condition = scope.condition(node, "condition");
            let weights = scope.required(node, "weights", wire::numbers);
            Some(Leaf { id: id? as i64, condition, weights: weights? })
        })
    });
    Some(Bandit { version, leaves: leaves.unwrap_or_default() })
}
