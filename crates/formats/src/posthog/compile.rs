//! Compiles flags and cohorts, element by element.

use super::evaluation::{DEVICE, GROUPS as GROUP_KEYS};
use super::filter::{Filter, plain_text};
use super::rules::{Condition, Flag, Group, GroupType};
use super::verdict::{Cause, Undecided};
use crate::diagnostics::Node;
use crate::scope::Scope;
use crate::shape::{self, Shape, is_true, list, number, text};
use edgesplit_engine::condition::CONDITION_DEPTH_MAX;
use edgesplit_engine::flag::Outcome;
use edgesplit_engine::json;
use serde_json::{Map, Value};
use std::collections::{HashMap, HashSet};

/// Compiles a flag or a cohort.
pub(super) struct Compiler<'a, 'g> {
    pub(super) payload: &'a Value,
    pub(super) names: &'a Names,
    pub(super) scope: &'a mut Scope<'g>,
}

/// The names that conditions refer to.
#[derive(Default)]
pub(super) struct Names {
    /// The keys of the flags.
    pub(super) flags: HashSet<String>,
    /// The ids of the cohorts, in order.
    pub(super) cohorts: Vec<String>,
}

const FLAG: Shape = Shape::Object(&[
    ("key", true, Shape::Key),
    ("active", false, Shape::Flag),
    ("ensure_experience_continuity", false, Shape::Flag),
    ("bucketing_identifier", false, Shape::Text),
    ("has_experiment", false, Shape::Flag),
    ("filters", false, FILTERS),
]);

const FILTERS: Shape = Shape::Object(&[
    ("groups", false, GROUPS),
    ("multivariate", false, Shape::Object(&[("variants", false, VARIANTS)])),
    ("payloads", false, Shape::Object(&[])),
    (GROUP_TYPE, false, Shape::Whole),
    ("early_exit", false, Shape::Flag),
    ("holdout", false, Shape::Object(&[("exclusion_percentage", false, Shape::Number)])),
    ("feature_enrollment", false, Shape::Flag),
    ("bucketing_identifier", false, Shape::Text),
]);

const GROUPS: Shape = Shape::List(&Shape::Object(&[
    ("properties", false, Shape::List(&CONDITION)),
    ("rollout_percentage", false, Shape::Number),
    ("variant", false, Shape::Text),
    (GROUP_TYPE, false, Shape::Whole),
]));

const VARIANTS: Shape =
    Shape::List(&Shape::Object(&[("key", true, Shape::Key), ("rollout_percentage", true, Shape::Number)]));

const CONDITION: Shape = Shape::Object(&[("key", false, Shape::Text), ("operator", false, Shape::Text)]);

const GROUP_TYPE: &str = "aggregation_group_type_index";

impl Compiler<'_, '_> {
    /// Compiles the flag at `node`. None if it has another shape.
    pub(super) fn flag(&mut self, node: Node<'_>) -> Option<Flag> {
        if !shape::check(node, &FLAG, &mut self.scope.problems) {
            return None;
        }
        let (path, filters) = (node.path.field("filters"), node.value.get("filters").unwrap_or(&Value::Null));
        let key = text(node.value, "key").unwrap_or_default().to_owned();
        let has_experiment = node.value.get("has_experiment").and_then(Value::as_bool).unwrap_or(true);
        let outcome = |variant: Option<&str>, value| {
            let in_experiment = variant.is_some() && has_experiment;
            Outcome { variant: variant.map(str::to_owned), experiment: None, value, in_experiment }
        };
        let on = |variant: Option<&str>| {
            let payload = filters.get("payloads").and_then(|payloads| payloads.get(variant.unwrap_or("true")));
            outcome(variant, payload.map_or_else(|| variant.map_or(true.into(), Value::from), read_payload))
        };
        let mut outcomes = vec![outcome(None, false.into()), on(None)];
        let (mut end, mut variants, mut by_name) = (0.0, Vec::new(), HashMap::new());
        for variant in filters.get("multivariate").map(|all| list(all, "variants")).unwrap_or_default() {
            let name = text(variant, "key").unwrap_or_default();
            end += number(variant, "rollout_percentage").unwrap_or_default() / 100.0;
            // A payload may be long, so two variants of one name share it.
            let outcome = *by_name.entry(name.to_owned()).or_insert_with(|| {
                outcomes.push(on(Some(name)));
                outcomes.len() - 1
            });
            variants.push((end, outcome));
        }
        let groups = Node { value: filters, path: &path.field("groups") }
            .read_all(list(filters, "groups"), |group| self.group(group, filters, &by_name))?;
        let group_type = self.group_type(filters.get(GROUP_TYPE));
        if group_type.is_err() {
            let path = path.field(GROUP_TYPE);
            self.scope.problems.error(&path, "an unknown type of groups: the flag is undecided");
        }
        let holdout = filters.get("holdout").and_then(|holdout| {
            let id = holdout.get("id").filter(|id| !id.is_null())?;
            let share = number(holdout, "exclusion_percentage")?.clamp(0.0, 100.0) / 100.0;
            outcomes.push(on(Some(&format!("holdout-{}", plain_text(id)))));
            Some((share, outcomes.len() - 1))
        });
        let bucketing = text(node.value, "bucketing_identifier").filter(|name| !name.is_empty());
        let is_by_device = bucketing.or(text(filters, "bucketing_identifier")) == Some("device_id");
        Some(Flag {
            active: is_true(node.value, "active"),
            continuity: is_true(node.value, "ensure_experience_continuity"),
            enrolls: is_true(filters, "feature_enrollment"),
            early_exit: is_true(filters, "early_exit"),
            attribute: match &group_type {
                Ok(Some(name)) => format!("{GROUP_KEYS}{name}"),
                _ => if is_by_device { DEVICE } else { "id" }.to_owned(),
            },
            key,
            group_type,
            groups,
            variants,
            holdout,
            outcomes,
        })
    }

    fn group(&mut self, node: Node<'_>, filters: &Value, variants: &HashMap<String, usize>) -> Option<Group> {
        let path = node.path.field("properties");
        let conditions = Node { path: &path, ..node }
            .read_all(list(node.value, "properties"), |condition| self.condition(condition))?;
        let share = number(node.value, "rollout_percentage").map(|share| share / 100.0);
        let variant = text(node.value, "variant").and_then(|name| variants.get(name).copied());
        // Null is a type of its own: persons.
        let own = node.value.get(GROUP_TYPE).filter(|own| *own != filters.get(GROUP_TYPE).unwrap_or(&Value::Null));
        Some(Group { conditions, share, variant, group_type: self.group_type(own) })
    }

    fn group_type(&self, index: Option<&Value>) -> GroupType {
        let Some(index) = index.filter(|index| !index.is_null()) else { return Ok(None) };
        let names = self.payload.get("group_type_mapping");
        let name = names.and_then(|names| text(names, &index.to_string())).filter(|name| !name.is_empty());
        name.map(|name| Some(name.to_owned())).ok_or(Cause::Definition.into())
    }

    /// Compiles the condition at `node`. None if it has another shape.
    fn condition(&mut self, node: Node<'_>) -> Option<Condition> {
        if !shape::check(node, &CONDITION, &mut self.scope.problems) {
            return None;
        }
        match text(node.value, "type") {
            Some("cohort") => Some(self.cohort(node)),
            Some("flag") => Some(self.dependency(node)),
            _ => {
                let version = self.payload.get("property_matching_version").and_then(Value::as_u64).unwrap_or(1);
                Filter::compile(node, version, self.scope).map(Condition::Property)
            }
        }
    }

    fn cohort(&mut self, node: Node<'_>) -> Condition {
        let problems = &mut self.scope.problems;
        let value = node.value.get("value").unwrap_or(&Value::Null);
        let position = self.names.cohorts.binary_search_by(|id| id.as_str().cmp(&plain_text(value)));
        if position.is_err() {
            problems
                .error(&node.path.field("value"), format_args!("there is no cohort {value}: the flag is undecided"));
        }
        let cohort = position.map_or(Condition::Fixed(Err(Undecided::AT_ONCE)), Condition::Cohort);
        match text(node.value, "operator") {
            None | Some("" | "exact" | "in") => cohort,
            Some("not_in") => Condition::Not(Box::new(cohort)),
            Some(_) => {
                problems.error(&node.path.field("operator"), "unknown for cohorts: the flag may be undecided");
                if position.is_ok() { Condition::Fixed(Err(Cause::Definition.into())) } else { cohort }
            }
        }
    }

    fn dependency(&mut self, node: Node<'_>) -> Condition {
        let problems = &mut self.scope.problems;
        let key = text(node.value, "key").filter(|key| !key.is_empty());
        let value = node.value.get("value").filter(|value| !value.is_null());
        let (Some(key), Some(value), Some("flag_evaluates_to")) = (key, value, text(node.value, "operator")) else {
            problems.error(node.path, "expected a key, a value and the operator flag_evaluates_to: no visitor matches");
            return Condition::Fixed(Ok(false));
        };
        let path = node.path.field("dependency_chain");
        let chain: Vec<String> =
            list(node.value, "dependency_chain").iter().map(|key| plain_text(key).into_owned()).collect();
        if chain.is_empty() {
            problems.error(&path, "expected a list of flags: the flag is undecided");
        }
        for (index, key) in chain.iter().enumerate().filter(|(_, key)| !self.names.flags.contains(*key)) {
            problems.error(&path.index(index), format_args!("there is no flag {key:?}: the flag is undecided"));
        }
        Condition::Flag { key: key.to_owned(), value: value.clone(), chain }
    }

    /// Compiles the tree of a cohort.
    pub(super) fn tree(&mut self, node: Node<'_>, depth: usize) -> Condition {
        if node.value.as_object().is_some_and(Map::is_empty) {
            return Condition::Fixed(Ok(true));
        }
        let values = node.value.get("values").and_then(Value::as_array);
        let (all, list) = match (text(node.value, "type"), values) {
            (Some(name @ ("AND" | "OR")), Some(list)) if depth < CONDITION_DEPTH_MAX => (name == "AND", list),
            _ => {
                node.expected(&mut self.scope.problems, "an object with the type AND or OR, and a list of values");
                return Condition::Fixed(Err(Undecided::AT_ONCE));
            }
        };
        let node = Node { path: &node.path.field("values"), ..node };
        let entries = node.read_all(list, |node| Some(self.entry(node, depth + 1))).unwrap_or_default();
        Condition::Entries { all: all || entries.is_empty(), entries }
    }

    fn entry(&mut self, node: Node<'_>, depth: usize) -> Condition {
        let is_group = node.value.get("values").is_some() || matches!(text(node.value, "type"), Some("AND" | "OR"));
        if is_group || node.value.as_object().is_some_and(Map::is_empty) {
            return self.tree(node, depth);
        }
        let condition = self.condition(node).unwrap_or(Condition::Fixed(Err(Undecided::AT_ONCE)));
        if is_true(node.value, "negation") { Condition::Not(Box::new(condition)) } else { condition }
    }
}

/// The value of a payload: the JSON in its text.
fn read_payload(payload: &Value) -> Value {
    payload.as_str().and_then(|text| json::read(text.as_bytes()).ok()).unwrap_or_else(|| payload.clone())
}
