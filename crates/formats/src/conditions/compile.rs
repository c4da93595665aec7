//! JSON to a compiled condition, with the problems in it.

use super::SavedGroups;
use super::groups::{CONFIG_TESTS_MAX, ELEMENT_TESTS_MAX, Group, PatternError};
use super::operators::OPERATORS;
use super::scope::Scope;
use crate::diagnostics::{Node, Problems, Severity, found};
use edgesplit_engine::condition::value::{JsValue, lower_case, padded_version};
use edgesplit_engine::condition::value_set::ValueSet;
use edgesplit_engine::condition::{
    Accepts, CONDITION_DEPTH_MAX, CONDITION_TESTS_MAX, Check, Condition, Operator, Test,
};
use edgesplit_engine::observer::IS_OBSERVABLE;
use js_regex::CompileError;
use serde_json::Value;
use std::cmp::Ordering;
use std::sync::Arc;

/// The one attribute that GrowthBook names like an operator.
const GROUPS_ATTRIBUTE: &str = "$groups";

/// The types that `$type` distinguishes.
const TYPES: [&str; 6] = ["string", "number", "boolean", "array", "object", "null"];

const COMBINATIONS: [&str; 5] = ["$and", "$or", "$nor", "$not", "$savedGroup"];

/// The state of a compilation.
pub(super) struct Compiler<'a> {
    groups: &'a mut SavedGroups,
    problems: &'a mut Problems,
    /// The ids of the groups whose conditions are being compiled, from the outermost on.
    within: Vec<String>,
    /// How many tests there are so far.
    tests: usize,
    has_reported_limit: bool,
    /// Whether a limit of this module cut something off that the SDK would evaluate.
    pub(super) limited: bool,
}

impl<'a> Compiler<'a> {
    pub(super) fn new(groups: &'a mut SavedGroups, problems: &'a mut Problems) -> Compiler<'a> {
        Compiler { groups, problems, within: Vec::new(), tests: 0, has_reported_limit: false, limited: false }
    }

    /// The condition at `node`, which is the `depth`-th around itself.
    pub(super) fn condition(&mut self, node: &Node<'_>, scope: Scope, depth: usize) -> Condition {
        if self.too_deep(node, depth) {
            return Condition::of(Test::Never);
        }
        let Some(members) = node.value.as_object() else {
            node.expected(self.problems, "a condition, which is an object");
            return has_no_members(node.value);
        };
        let tests = members.iter().map(|(name, value)| {
            let path = node.path.field(name);
            self.test(name, &Node { value, path: &path }, scope, depth)
        });
        Condition { tests: tests.collect() }
    }

    fn test(&mut self, name: &str, node: &Node<'_>, scope: Scope, depth: usize) -> Test {
        self.tests += 1;
        let is_counted = self.groups.count_test();
        if self.tests > CONDITION_TESTS_MAX || !is_counted {
            if !std::mem::replace(&mut self.has_reported_limit, true) {
                let message = format!(
                    "a condition may come to at most {CONDITION_TESTS_MAX} tests, those of an experiment or flag to \
                     {ELEMENT_TESTS_MAX}, and those of a config to {CONFIG_TESTS_MAX}"
                );
                self.problems.error(node.path, message);
            }
            self.limited = true;
            return Test::Never;
        }
        match name {
            "$savedGroup" => self.saved_group(node, scope, depth),
            "$or" => self.any(node, scope, depth),
            "$nor" => Test::Not(Condition::of(self.any(node, scope, depth))),
            "$and" => match self.conditions(node, scope, depth) {
                Ok(conditions) => Test::All(conditions),
                Err(test) => test,
            },
            "$not" => Test::Not(self.condition(node, scope, depth + 1)),
            _ => {
                if name.starts_with('$') && name != GROUPS_ATTRIBUTE {
                    // The SDK looks for an attribute of this name and finds none.
                    let kind = "operator where an attribute is expected";
                    self.problems.unknown(node.path, kind, name, &COMBINATIONS, Severity::Error);
                }
                Test::Attribute(scope.attribute(name), self.check(node, false, depth))
            }
        }
    }

    /// A reference to a saved group with its own attribute or condition. An unresolved reference matches no visitor.
    fn saved_group(&mut self, node: &Node<'_>, scope: Scope, depth: usize) -> Test {
        let Some(members) = node.object(self.problems) else { return Test::Never };
        let id_path = node.path.field("id");
        let Some(id) = members.get("id").and_then(Value::as_str) else {
            self.problems.error(&id_path, "missing; expected the id of a saved group");
            return Test::Never;
        };
        let attribute = members.get("attributeKey");
        if attribute.is_some_and(|attribute| !attribute.is_string()) {
            self.problems.error(&node.path.field("attributeKey"), "expected the name of an attribute");
            return Test::Never;
        }
        if self.within.iter().any(|other| other == id) {
            self.problems.error(&id_path, format_args!("the saved group {id:?} refers to itself"));
            return Test::Never;
        }
        match self.groups.get(id) {
            Group::List(members, own) => match attribute.and_then(Value::as_str).or(own.as_deref()) {
                Some(name) => {
                    let check = Check::Operators(vec![Operator::In(members, true)]);
                    Test::Attribute(scope.attribute(name), check)
                }
                None => {
                    self.problems
                        .error(node.path, format_args!("neither this nor the saved group {id:?} names an attribute"));
                    Test::Never
                }
            },
            Group::Condition(condition) => {
                self.within.push(id.to_owned());
                let condition = self.condition(&Node { value: &condition, path: node.path }, scope, depth + 1);
                self.within.pop();
                Test::All(vec![condition])
            }
            Group::Absent => {
                self.problems.warning(&id_path, format_args!("there is no saved group {id:?}"));
                Test::Never
            }
            Group::Malformed | Group::Plain(_) => {
                self.problems.error(
                    &id_path,
                    format_args!("the saved group {id:?} is neither a list with a type nor a condition"),
                );
                Test::Never
            }
        }
    }

    fn any(&mut self, node: &Node<'_>, scope: Scope, depth: usize) -> Test {
        match self.conditions(node, scope, depth) {
            Ok(conditions) => Test::Any(conditions),
            Err(test) => test,
        }
    }

    /// The conditions of a list. Any other value is compiled to the SDK's interpretation of it.
    fn conditions(&mut self, node: &Node<'_>, scope: Scope, depth: usize) -> Result<Vec<Condition>, Test> {
        let Some(values) = node.value.as_array() else {
            node.expected(self.problems, "a list of conditions");
            // The SDK reads a value without a length as an empty list, which holds.
            let holds = match node.value {
                Value::Null => false,
                Value::String(text) => text.is_empty(),
                _ => true,
            };
            return Err(if holds { Test::All(Vec::new()) } else { Test::Never });
        };
        let conditions = values.iter().enumerate().map(|(index, value)| {
            let path = node.path.index(index);
            self.condition(&Node { value, path: &path }, scope, depth + 1)
        });
        Ok(conditions.collect())
    }

    /// The check of a value. `folded` ignores the case of a plain text.
    fn check(&mut self, node: &Node<'_>, folded: bool, depth: usize) -> Check {
        let members = match node.value {
            Value::Null => return Check::Null,
            Value::Bool(truth) => return Check::Truth(*truth),
            Value::Number(_) => return Check::Number(JsValue::from(node.value).number()),
            Value::String(text) if folded => return Check::FoldedText(lower_case(text).into()),
            Value::String(text) => return Check::Text(text.as_str().into()),
            Value::Array(_) => return self.same(node, depth),
            Value::Object(members) => members,
        };
        let operators = members.keys().filter(|name| name.starts_with('$')).count();
        if operators == 0 || operators < members.len() {
            if operators > 0 {
                // The SDK then compares the whole object, which is hardly intended.
                self.problems.error(node.path, "operators and plain members may not be mixed");
            }
            return self.same(node, depth);
        }
        if self.too_deep(node, depth) {
            return Check::Operators(vec![Operator::Never]);
        }
        let operators = members.iter().map(|(name, value)| {
            let path = node.path.field(name);
            self.operator(name, &Node { value, path: &path }, depth)
        });
        Check::Operators(operators.collect())
    }

    /// A list or an object to compare with as a whole.
    fn same(&mut self, node: &Node<'_>, depth: usize) -> Check {
        if is_deeper(node.value, CONDITION_DEPTH_MAX.saturating_sub(depth)) {
            self.too_deep(node, CONDITION_DEPTH_MAX + 1);
            return Check::Operators(vec![Operator::Never]);
        }
        Check::Same(node.value.clone())
    }

    fn operator(&mut self, name: &str, node: &Node<'_>, depth: usize) -> Operator {
        match name {
            "$eq" => self.identical(node, true),
            "$ne" => self.identical(node, false),
            "$lt" => self.order(node, Ordering::is_lt),
            "$lte" => self.order(node, Ordering::is_le),
            "$gt" => self.order(node, Ordering::is_gt),
            "$gte" => self.order(node, Ordering::is_ge),
            "$veq" => self.version(node, Ordering::is_eq),
            "$vne" => self.version(node, Ordering::is_ne),
            "$vlt" => self.version(node, Ordering::is_lt),
            "$vlte" => self.version(node, Ordering::is_le),
            "$vgt" => self.version(node, Ordering::is_gt),
            "$vgte" => self.version(node, Ordering::is_ge),
            "$in" => self.members(node, false, true),
            "$nin" => self.members(node, false, false),
            "$ini" => self.members(node, true, true),
            "$nini" => self.members(node, true, false),
            "$inGroup" => self.group(node, true),
            "$notInGroup" => self.group(node, false),
            "$regex" => self.regex(node, false),
            "$regexi" => self.regex(node, true),
            "$all" => self.every(node, false, depth),
            "$alli" => self.every(node, true, depth),
            "$not" => Operator::Not(Box::new(self.check(node, false, depth + 1))),
            "$size" => Operator::Size(Box::new(self.check(node, false, depth + 1))),
            "$elemMatch" => self.element(node, depth),
            "$exists" => {
                node.boolean(self.problems);
                Operator::Exists(JsValue::from(node.value).is_true())
            }
            "$type" => match node.value.as_str().filter(|name| TYPES.contains(name)) {
                Some(name) => Operator::Type(name.into()),
                None => {
                    node.expected(self.problems, &format!("one of {}", TYPES.join(", ")));
                    Operator::Never
                }
            },
            _ => {
                self.problems.unknown(node.path, "operator", name, &OPERATORS, Severity::Error);
                Operator::Never
            }
        }
    }

    fn identical(&mut self, node: &Node<'_>, expected: bool) -> Operator {
        if node.value.is_array() || node.value.is_object() {
            // Such a value is identical to itself only; to compare its content it stands there without the operator.
            node.expected(self.problems, "a text, a number, true, false or null");
        }
        Operator::Identical(node.value.clone(), expected)
    }

    fn order(&mut self, node: &Node<'_>, accepts: Accepts) -> Operator {
        if !node.value.is_number() && !node.value.is_string() {
            node.expected(self.problems, "a number or a text");
        }
        if is_deeper(node.value, CONDITION_DEPTH_MAX) {
            self.limited = true;
            return Operator::Never; // reported above
        }
        Operator::Order(accepts, node.value.clone())
    }

    fn version(&mut self, node: &Node<'_>, accepts: Accepts) -> Operator {
        if !node.value.is_number() && !node.value.is_string() {
            node.expected(self.problems, "a version, such as \"1.2.3\"");
        }
        Operator::Version(accepts, padded_version(&JsValue::from(node.value).version()).collect())
    }

    fn members(&mut self, node: &Node<'_>, folded: bool, expected: bool) -> Operator {
        let Some(values) = node.array(self.problems) else { return Operator::Never };
        for (index, value) in values.iter().enumerate().filter(|(_, value)| value.is_array() || value.is_object()) {
            self.problems.warning(&node.path.index(index), format_args!("{} equals no value", found(value)));
        }
        Operator::In(Arc::new(ValueSet::new(values, folded)), expected)
    }

    fn group(&mut self, node: &Node<'_>, expected: bool) -> Operator {
        let Some(id) = node.string(self.problems) else {
            // The SDK looks for a group of that text, which no vendor's payload has.
            return Operator::In(Arc::new(ValueSet::new(&[], false)), expected);
        };
        match self.groups.get(id) {
            Group::List(members, _) | Group::Plain(members) => Operator::In(members, expected),
            // An unreadable group matches no visitor, in either direction.
            Group::Condition(_) | Group::Malformed => {
                self.problems.error(node.path, format_args!("the saved group {id:?} is not a list"));
                Operator::Never
            }
            Group::Absent => {
                let message = format!("there is no saved group {id:?}");
                if self.groups.are_missing {
                    self.problems.error(node.path, message);
                } else {
                    // A payload may lack a group that was emptied: to the SDK it has no members.
                    self.problems.warning(node.path, message);
                }
                Operator::In(Arc::new(ValueSet::new(&[], false)), expected)
            }
        }
    }

    fn regex(&mut self, node: &Node<'_>, folded: bool) -> Operator {
        let Some(pattern) = node.string(self.problems) else { return Operator::Never };
        match self.groups.pattern(pattern, folded) {
            Ok(regex) => Operator::Regex(regex, IS_OBSERVABLE.then(|| pattern.into())),
            Err(PatternError::TooMany(message)) => {
                self.limited = true;
                if !std::mem::replace(&mut self.has_reported_limit, true) {
                    self.problems.error(node.path, message);
                }
                Operator::Never
            }
            Err(PatternError::Compile(error)) => {
                // JavaScript would run it: the condition differs from its author's intention.
                self.limited |= !matches!(error, CompileError::Invalid(_));
                self.problems.error(node.path, format_args!("as a pattern, {} {error}", found(node.value)));
                Operator::Never
            }
        }
    }

    fn every(&mut self, node: &Node<'_>, folded: bool, depth: usize) -> Operator {
        let Some(values) = node.array(self.problems) else { return Operator::Never };
        let checks = values.iter().enumerate().map(|(index, value)| {
            let path = node.path.index(index);
            self.check(&Node { value, path: &path }, folded, depth + 1)
        });
        Operator::Every(checks.collect())
    }

    fn element(&mut self, node: &Node<'_>, depth: usize) -> Operator {
        let names = node.value.as_object().map(|members| members.keys());
        if names.is_some_and(|mut names| names.len() > 0 && names.all(|name| name.starts_with('$'))) {
            return Operator::Element(Box::new(self.check(node, false, depth + 1)));
        }
        Operator::ElementMembers(self.condition(node, Scope::Element, depth + 1))
    }

    /// Whether `depth` is over the limit, which is reported.
    fn too_deep(&mut self, node: &Node<'_>, depth: usize) -> bool {
        let over = depth > CONDITION_DEPTH_MAX;
        if over {
            self.limited = true;
            self.problems.error(node.path, format_args!("conditions may be nested at most {CONDITION_DEPTH_MAX} deep"));
        }
        over
    }
}

/// The SDK's interpretation of a condition that is no object: it looks for members, and holds if there are none.
fn has_no_members(value: &Value) -> Condition {
    let holds = match value {
        Value::Bool(_) | Value::Number(_) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(elements) => elements.is_empty(),
        Value::Null | Value::Object(_) => false,
    };
    if holds { Condition { tests: Vec::new() } } else { Condition::of(Test::Never) }
}

/// Whether lists and objects stand inside each other more than `levels` deep.
fn is_deeper(value: &Value, levels: usize) -> bool {
    let below = |value: &Value| levels == 0 || is_deeper(value, levels - 1);
    match value {
        Value::Array(elements) => elements.iter().any(below),
        Value::Object(members) => members.values().any(below),
        _ => false,
    }
}
