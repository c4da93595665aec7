//! Compiles flags and cohorts, element by element.

use super::filter::Filter;
use super::rules::{Aggregation, Condition, Flag, Group, Holdout, Tree};
use super::wire::{FiltersWire, FlagWire, GroupWire, HoldoutWire};
use crate::diagnostics::{Node, Path, Problems};
use crate::element::read;
use edgesplit_engine::condition::{CONDITION_DEPTH_MAX, CONFIG_INSTRUCTIONS_MAX};
use edgesplit_engine::flag::Outcome;
use edgesplit_engine::json;
use serde_json::{Map, Value};
use std::collections::{HashMap, HashSet};

/// Compiles the flags and cohorts of one payload.
#[derive(Default)]
pub(super) struct Compiler {
    /// The positions of the cohorts by their ids.
    pub(super) cohort_ids: HashMap<String, usize>,
    /// The keys of all flags.
    pub(super) keys: HashSet<String>,
    /// The version of comparisons.
    pub(super) matching_version: u64,
    /// The types of groups by their numbers.
    pub(super) group_types: Map<String, Value>,
    /// How many instructions the patterns have together.
    instructions: usize,
}

impl Compiler {
    /// Compiles the flag at `node`. None if it has another shape.
    pub(super) fn flag(&mut self, node: Node<'_>, position: usize, problems: &mut Problems) -> Option<Flag> {
        let FlagWire { key, active, filters, continuity, bucketing, has_experiment } = read(node, problems)?;
        let FiltersWire {
            groups,
            multivariate,
            payloads,
            aggregation,
            early_exit,
            holdout,
            feature_enrollment,
            bucketing: older,
        } = filters;
        let outcome = |variant: Option<String>, result: Value| {
            let name = variant.as_deref().map_or_else(|| result.to_string(), str::to_owned);
            let value = payloads.get(&name).map_or(result, payload);
            Outcome { in_experiment: variant.is_some() && has_experiment, variant, experiment: None, value }
        };
        let of_text = |text: String| outcome(Some(text.clone()), text.into());
        let off = Outcome { variant: None, experiment: None, value: Value::Bool(false), in_experiment: false };
        let mut outcomes = vec![off, outcome(None, Value::Bool(true))];
        let (mut end, mut variants, mut by_name) = (0.0, Vec::new(), HashMap::new());
        for variant in multivariate.variants {
            end += variant.share / 100.0;
            // A payload may be long, so two variants of one name share it.
            let outcome = *by_name.entry(variant.key).or_insert_with_key(|name| {
                outcomes.push(of_text(name.clone()));
                outcomes.len() - 1
            });
            variants.push((end, outcome));
        }
        let flag_type = aggregation.map(Value::from);
        let path = node.path.field("filters");
        let path = path.field("groups");
        let compile = |(index, group)| self.group(group, flag_type.as_ref(), &by_name, &path.index(index), problems);
        let groups = groups.into_iter().enumerate().map(compile).collect::<Option<Vec<Group>>>()?;
        let aggregation = self.aggregation(flag_type.as_ref().unwrap_or(&Value::Null));
        if matches!(aggregation, Aggregation::Unknown) {
            let path = node.path.field("filters");
            problems
                .error(&path.field("aggregation_group_type_index"), "an unknown type of groups: the flag is undecided");
        }
        let holdout = holdout.and_then(|HoldoutWire { id, share }| {
            let id =
                id.filter(|id| !id.is_null()).map(|id| id.as_str().map_or_else(|| id.to_string(), str::to_owned))?;
            let share = share?.clamp(0.0, 100.0) / 100.0;
            outcomes.push(of_text(format!("holdout-{id}")));
            Some(Holdout { share, outcome: outcomes.len() - 1 })
        });
        let bucketing = bucketing.filter(|name| !name.is_empty()).or(older);
        let (by_device, enrolls) = (bucketing.as_deref() == Some("device_id"), feature_enrollment);
        Some(Flag {
            key,
            position,
            active,
            continuity,
            by_device,
            enrolls,
            early_exit,
            aggregation,
            groups,
            variants,
            holdout,
            outcomes,
        })
    }

    fn group(
        &mut self,
        wire: GroupWire,
        flag_type: Option<&Value>,
        variants: &HashMap<String, usize>,
        path: &Path<'_>,
        problems: &mut Problems,
    ) -> Option<Group> {
        let list = path.field("properties");
        let mut conditions = Vec::new();
        for (index, value) in wire.properties.iter().enumerate() {
            conditions.push(self.condition(Node { value, path: &list.index(index) }, problems)?);
        }
        let variant = wire.variant.and_then(|name| variants.get(&name).copied());
        let aggregation = wire.aggregation.filter(|own| own != flag_type.unwrap_or(&Value::Null));
        let aggregation = aggregation.map(|own| self.aggregation(&own));
        Some(Group { conditions, share: wire.share.map(|share| share / 100.0), variant, aggregation })
    }

    fn aggregation(&self, group_type: &Value) -> Aggregation {
        if group_type.is_null() {
            return Aggregation::Persons;
        }
        match self.group_types.get(&group_type.to_string()).and_then(Value::as_str).filter(|name| !name.is_empty()) {
            Some(name) => Aggregation::Groups(name.to_owned()),
            None => Aggregation::Unknown,
        }
    }

    /// Compiles the condition at `node`. None if it has another shape.
    fn condition(&mut self, node: Node<'_>, problems: &mut Problems) -> Option<Condition> {
        node.object(problems)?;
        let text = |name: &str| node.value.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        match text("type") {
            Some("cohort") => {
                let value = node.value.get("value").unwrap_or(&Value::Null);
                let id = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                let position = self.cohort_ids.get(&id).copied();
                if position.is_none() {
                    let message = format!("there is no cohort {id}: the flag is undecided");
                    problems.error(&node.path.field("value"), message);
                }
                let is_in = match text("operator").unwrap_or("exact") {
                    "exact" | "in" => Some(true),
                    "not_in" => Some(false),
                    operator => {
                        let message = format!("unknown operator {operator:?} of a cohort: the flag may be undecided");
                        problems.error(&node.path.field("operator"), message);
                        None
                    }
                };
                Some(Condition::Cohort { position, is_in })
            }
            Some("flag") => Some(self.dependency(node, problems)),
            _ => {
                let filter = Filter::compile(node, self.matching_version, problems)?;
                self.instructions += filter.instructions();
                if self.instructions > CONFIG_INSTRUCTIONS_MAX {
                    let message = "the patterns of the payload are too large together";
                    problems.error(&node.path.field("value"), message);
                    return None;
                }
                Some(Condition::Property(filter))
            }
        }
    }

    fn dependency(&self, node: Node<'_>, problems: &mut Problems) -> Condition {
        let key = node.value.get("key").and_then(Value::as_str).filter(|key| !key.is_empty());
        let value = node.value.get("value").filter(|value| !value.is_null());
        let operator = node.value.get("operator").and_then(Value::as_str);
        let (Some(key), Some(value), Some("flag_evaluates_to")) = (key, value, operator) else {
            problems.error(node.path, "expected a key, a value and the operator flag_evaluates_to: no visitor matches");
            return Condition::Never;
        };
        let path = node.path.field("dependency_chain");
        let list = node.value.get("dependency_chain").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        if list.is_empty() {
            problems.error(&path, "expected a list of flags: the flag is undecided");
        }
        let mut chain = Vec::new();
        for (index, element) in list.iter().enumerate() {
            let known = element.as_str().filter(|key| self.keys.contains(*key));
            if known.is_none() {
                problems.error(&path.index(index), format!("there is no flag {element}: the flag is undecided"));
            }
            chain.push(element.as_str().unwrap_or_default().to_owned());
        }
        Condition::Flag { key: key.to_owned(), value: value.clone(), chain }
    }

    /// Compiles the tree of a cohort.
    pub(super) fn tree(&mut self, node: Node<'_>, depth: usize, problems: &mut Problems) -> Tree {
        if node.value.as_object().is_some_and(Map::is_empty) {
            return Tree::Entries { all: true, entries: Vec::new() };
        }
        let group_type = node.value.get("type").and_then(Value::as_str);
        let values = node.value.get("values");
        let (all, list) = match (group_type, values.and_then(Value::as_array)) {
            (Some(name @ ("AND" | "OR")), Some(list)) if depth < CONDITION_DEPTH_MAX => (name == "AND", list),
            _ => {
                node.expected(problems, "an object with the type AND or OR, and a list of values");
                return Tree::Malformed;
            }
        };
        let path = node.path.field("values");
        let mut entries = Vec::new();
        for (index, value) in list.iter().enumerate() {
            let path = path.index(index);
            let node = Node { value, path: &path };
            let is_group = value.get("values").is_some()
                || matches!(value.get("type").and_then(Value::as_str), Some("AND" | "OR"));
            entries.push(if is_group || value.as_object().is_some_and(Map::is_empty) {
                self.tree(node, depth + 1, problems)
            } else {
                let negated = value.get("negation").and_then(Value::as_bool).unwrap_or(false);
                self.condition(node, problems).map_or(Tree::Malformed, |condition| Tree::Condition(condition, negated))
            });
        }
        Tree::Entries { all, entries }
    }
}

/// The value of a payload: the JSON in its text.
fn payload(payload: &Value) -> Value {
    payload.as_str().and_then(|text| json::read(text.as_bytes()).ok()).unwrap_or_else(|| payload.clone())
}
