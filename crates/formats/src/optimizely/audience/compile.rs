//! Audience conditions: JSON to trees.
//!
//! Conditions come as nested lists, `["and", …]`, `["or", …]`, `["not", …]`; a list without an operator means `or`. The
//! leaves are ids of audiences in an experiment, and objects about one attribute in an audience. `audiences` hold them
//! as JSON in a text, `typedAudiences` as they are.

use super::{AUDIENCE_DEPTH_MAX, Check, Tree, exact, version};
use crate::conditions::order;
use crate::diagnostics::{Node, Problems};
use crate::document::{Nullable, TEXT};
use crate::element::{read, required};
use edgesplit_engine::attribute::AttributeName;
use edgesplit_engine::json;
use serde_json::Value;
use std::collections::HashMap;

/// Conditions that are not understood are unknown for all visitors.
const UNKNOWN: Tree = Tree::Always(None);

/// The context of compiling conditions.
pub(in crate::optimizely) struct Compiler<'a> {
    /// The audiences' positions by their ids.
    pub(in crate::optimizely) ids: &'a HashMap<String, usize>,
    pub(in crate::optimizely) problems: &'a mut Problems,
}

/// The kind of the leaves of a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leaves {
    AudienceIds,
    Conditions,
}

crate::document! {
    struct ConditionWire {
        /// The kind of data that the condition checks.
        kind as "type": String => TEXT,
        /// How the value is compared.
        operator as "match": Option<String> = None => Nullable(TEXT),
    }
}

impl Compiler<'_> {
    /// The audience of an experiment: `audienceConditions` or `audienceIds`. An empty list includes every visitor.
    pub(in crate::optimizely) fn targeting(&mut self, node: &Node<'_>) -> Option<Tree> {
        if node.value.as_array().is_some_and(Vec::is_empty) {
            return None;
        }
        Some(self.tree(node, Leaves::AudienceIds, 1))
    }

    /// The conditions of an audience.
    pub(in crate::optimizely) fn conditions(&mut self, node: &Node<'_>) -> Tree {
        let Value::String(text) = node.value else { return self.tree(node, Leaves::Conditions, 1) };
        match json::read(text.as_bytes()) {
            Ok(value) => self.tree(&Node { value: &value, path: node.path }, Leaves::Conditions, 1),
            Err(error) => {
                self.problems.error(node.path, format_args!("not JSON in a string: {error}"));
                UNKNOWN
            }
        }
    }

    fn tree(&mut self, node: &Node<'_>, leaves: Leaves, depth: usize) -> Tree {
        if depth > AUDIENCE_DEPTH_MAX {
            let message = format!("conditions may be nested at most {AUDIENCE_DEPTH_MAX} deep");
            self.problems.error(node.path, message);
            return UNKNOWN;
        }
        let Value::Array(list) = node.value else {
            return match leaves {
                Leaves::AudienceIds => self.audience(node),
                Leaves::Conditions => self.condition(node),
            };
        };
        let operator = list.first().and_then(Value::as_str).filter(|word| matches!(*word, "and" | "or" | "not"));
        let mut trees = Vec::with_capacity(list.len());
        for (index, value) in list.iter().enumerate().skip(usize::from(operator.is_some())) {
            trees.push(self.tree(&Node { value, path: &node.path.index(index) }, leaves, depth + 1));
        }
        match operator {
            Some("and") => Tree::And(trees),
            Some("not") => {
                if trees.len() != 1 {
                    self.problems.error(node.path, "`not` takes one condition; the first one counts");
                }
                trees.into_iter().next().map_or(UNKNOWN, |tree| Tree::Not(Box::new(tree)))
            }
            _ => Tree::Or(trees),
        }
    }

    fn audience(&mut self, node: &Node<'_>) -> Tree {
        let Some(id) = node.string(self.problems) else { return UNKNOWN };
        match self.ids.get(id) {
            Some(&position) => Tree::Audience(position),
            None => {
                self.problems
                    .error(node.path, format_args!("there is no audience {id:?}: whether it matches is unknown"));
                UNKNOWN
            }
        }
    }

    fn condition(&mut self, node: &Node<'_>) -> Tree {
        let Some(wire) = read::<ConditionWire>(*node, self.problems) else { return UNKNOWN };
        let operator = match (wire.kind.as_str(), wire.operator.as_deref()) {
            ("custom_attribute", operator) => operator.unwrap_or("exact"),
            ("third_party_dimension", None | Some("qualified")) => return self.segment(node),
            ("third_party_dimension", Some(operator)) => return self.unknown_match(node, operator),
            _ => {
                let path = node.path.field("type");
                self.problems.error(&path, "unknown type; known are custom_attribute, third_party_dimension");
                return UNKNOWN;
            }
        };
        let name = required(*node, "name", self.problems, |node, problems| node.string(problems).map(str::to_owned));
        // No visitor has an attribute without a name.
        let Some(name) = name else { return Tree::Always((operator == "exists").then_some(false)) };
        match self.check(node, operator) {
            Some(check) => Tree::Attribute(attribute_name(&name), check),
            None => UNKNOWN,
        }
    }

    /// SDKs look segments up at Optimizely's data platform if configured. Without that, no visitor is in one.
    fn segment(&mut self, node: &Node<'_>) -> Tree {
        self.problems
            .warning(node.path, "segments of Optimizely's data platform are not looked up: no visitor is in one");
        Tree::Always(Some(false))
    }

    fn unknown_match(&mut self, node: &Node<'_>, operator: &str) -> Tree {
        let message = format!("unknown match {operator:?}: whether it holds is unknown");
        self.problems.error(&node.path.field("match"), message);
        UNKNOWN
    }

    /// The check of `match` and `value`; none, and a problem, if they are invalid.
    fn check(&mut self, node: &Node<'_>, operator: &str) -> Option<Check> {
        if operator == "exists" {
            return Some(Check::Exists);
        }
        let path = node.path.field("value");
        let value = Node { value: node.value.get("value").unwrap_or(&Value::Null), path: &path };
        let number = || value.value.as_number().and_then(exact);
        let text = || value.value.as_str().map(str::to_owned);
        let (check, expected) = match operator {
            "exact" => {
                let check = match value.value {
                    Value::String(text) => Some(Check::Text(text.clone())),
                    Value::Bool(truth) => Some(Check::Truth(*truth)),
                    _ => number().map(Check::Number),
                };
                (check, "a string, true, false or a number of at most 2^53")
            }
            "substring" => (text().map(Check::Substring), "a string"),
            _ => {
                let of_versions = ["semver_gt", "semver_ge", "semver_lt", "semver_le", "semver_eq"];
                match (order(&["gt", "ge", "lt", "le"], operator), order(&of_versions, operator)) {
                    (Some(accepts), _) => {
                        (number().map(|bound| Check::Order(accepts, bound)), "a number of at most 2^53")
                    }
                    (None, Some(accepts)) => {
                        let target = text().filter(|text| version::is_version(text));
                        (target.map(|target| Check::Version(accepts, target)), "a version, such as \"1.2.3\"")
                    }
                    (None, None) => {
                        self.unknown_match(node, operator);
                        return None;
                    }
                }
            }
        };
        if check.is_none() {
            value.expected(self.problems, expected);
        }
        check
    }
}

/// The name of an attribute, as in the plugin configuration, with two exceptions: the SDKs distinguish a user's id from an
/// attribute of that name, and know no paths.
pub(in crate::optimizely) fn attribute_name(name: &str) -> AttributeName {
    match AttributeName::parse_exact(name) {
        AttributeName::Id => AttributeName::Named(name.to_owned()),
        name => name,
    }
}
