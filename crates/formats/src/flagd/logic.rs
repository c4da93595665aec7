//! Targeting in JSONLogic: JSON to trees.

use crate::diagnostics::{Node, Problems, unknown};
use crate::stepwise::size;
use serde_json::Value;
use std::sync::Arc;

/// An expression.
#[derive(Debug)]
pub(super) enum Logic {
    Value(Value),
    List(Vec<Logic>),
    /// An operator with its arguments.
    Apply(Operator, Vec<Logic>),
    Shared(Arc<Evaluator>),
}

impl Logic {
    fn depth(&self) -> usize {
        match self {
            Logic::Value(_) => 1,
            Logic::Shared(evaluator) => 1 + evaluator.depth,
            Logic::List(list) | Logic::Apply(_, list) => 1 + list.iter().map(Logic::depth).max().unwrap_or(0),
        }
    }

    /// Whether its result can come from a `fractional`.
    pub(super) fn has_fractional(&self) -> bool {
        match self {
            Logic::Value(_) => false,
            Logic::Shared(evaluator) => evaluator.has_fractional,
            Logic::Apply(Operator::Fractional, _) => true,
            Logic::List(list) | Logic::Apply(_, list) => list.iter().any(Logic::has_fractional),
        }
    }
}

/// How deep expressions may be nested, with the evaluators in them. It bounds the stack that evaluating one takes.
const DEPTH_MAX: usize = 128;

/// Declares the operators once: the enum, and the list of all with their names.
macro_rules! operators {
    ($($variant:ident = $($name:literal)|+,)*) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(super) enum Operator {
            $($variant,)*
        }

        const OPERATORS: &[(&str, Operator)] = &[$($(($name, Operator::$variant),)+)*];
    };
}

operators! {
    Var = "var",
    Missing = "missing",
    MissingSome = "missing_some",
    If = "if" | "?:",
    Equal = "==",
    Unequal = "!=",
    Identical = "===",
    Different = "!==",
    Not = "!",
    Truth = "!!",
    Or = "or",
    And = "and",
    Greater = ">",
    GreaterOrEqual = ">=",
    Less = "<",
    LessOrEqual = "<=",
    Max = "max",
    Min = "min",
    Add = "+",
    Subtract = "-",
    Multiply = "*",
    Divide = "/",
    Remainder = "%",
    Map = "map",
    Filter = "filter",
    Reduce = "reduce",
    All = "all",
    None = "none",
    Some = "some",
    Merge = "merge",
    In = "in",
    Cat = "cat",
    Substr = "substr",
    Log = "log",
    Fractional = "fractional",
    SemVer = "sem_ver",
    StartsWith = "starts_with",
    EndsWith = "ends_with",
}

/// The evaluators that flags share, as far as flags named them. None for one that cannot be read, or is being read.
pub(super) type Evaluators = Vec<(String, Option<Arc<Evaluator>>)>;

/// An expression that several flags may share. It is walked once, since others may name it often.
#[derive(Debug)]
pub(super) struct Evaluator {
    pub(super) logic: Logic,
    depth: usize,
    has_fractional: bool,
}

/// How many evaluators flags may name.
const EVALUATORS_MAX: usize = 1_000;

/// How deep evaluators may name others. It bounds the work of reading one flag.
const EVALUATOR_DEPTH_MAX: usize = 8;

/// Reads expressions.
pub(super) struct Reader<'r> {
    /// The definitions, which contain the evaluators.
    pub(super) root: Node<'r>,
    pub(super) evaluators: &'r mut Evaluators,
    pub(super) problems: &'r mut Problems,
    /// The bytes of the evaluators that were read.
    pub(super) bytes: usize,
    pub(super) depth: usize,
}

impl Reader<'_> {
    /// Reads the expression at `node`; none, and a problem, if the SDK would refuse it, or if it is too deep.
    pub(super) fn read_whole(&mut self, node: Node<'_>) -> Option<Logic> {
        let logic = self.read(node)?;
        if logic.depth() > DEPTH_MAX {
            let message = format!("expressions may be nested at most {DEPTH_MAX} deep, with their evaluators");
            self.problems.error(node.path, message);
            return None;
        }
        Some(logic)
    }

    fn read(&mut self, node: Node<'_>) -> Option<Logic> {
        match node.value {
            Value::Array(list) => self.list(node, list).map(Logic::List),
            Value::Object(members) if !members.is_empty() => {
                let only = members.iter().next().filter(|_| members.len() == 1);
                let Some((name, value)) = only else {
                    node.expected(self.problems, "an object with one member, the operator");
                    return None;
                };
                let path = node.path.field(name);
                let arguments = Node { value, path: &path };
                if name == "$ref" {
                    return self.evaluator(arguments);
                }
                let Some((_, operator)) = OPERATORS.iter().find(|(known, _)| known == name) else {
                    let names: Vec<&str> = OPERATORS.iter().map(|(name, _)| *name).collect();
                    self.problems.error(&path, unknown("operator", name, &names));
                    return None;
                };
                let arguments = match value {
                    Value::Array(list) => self.list(arguments, list)?,
                    _ => vec![self.read(arguments)?],
                };
                Some(Logic::Apply(*operator, arguments))
            }
            value => Some(Logic::Value(value.clone())),
        }
    }

    fn list(&mut self, node: Node<'_>, list: &[Value]) -> Option<Vec<Logic>> {
        node.read_all(list, |element| self.read(element))
    }

    /// The evaluator that is named here.
    fn evaluator(&mut self, node: Node<'_>) -> Option<Logic> {
        let name = node.string(self.problems)?;
        let known = self.evaluators.iter().position(|(known, _)| known == name);
        let number = known.unwrap_or(self.evaluators.len());
        if known.is_none() && number < EVALUATORS_MAX {
            self.evaluators.push((name.to_owned(), None));
            let list = self.root.path.field("$evaluators");
            let value = self.root.value.get("$evaluators").and_then(|evaluators| evaluators.get(name));
            if let Some(value) = value.filter(|_| self.depth < EVALUATOR_DEPTH_MAX) {
                self.bytes += size(value);
                self.depth += 1;
                let read = self.read_whole(Node { value, path: &list.field(name) });
                self.depth -= 1;
                let read = read.map(|logic| {
                    Arc::new(Evaluator { depth: logic.depth(), has_fractional: logic.has_fractional(), logic })
                });
                if let Some((_, evaluator)) = self.evaluators.get_mut(number) {
                    *evaluator = read;
                }
            }
        }
        let found = self.evaluators.get(number).and_then(|(_, evaluator)| evaluator.clone());
        if found.is_none() {
            let message = format!("there is no usable evaluator {name:?}: decisions that need it are errors");
            self.problems.error(node.path, message);
        }
        found.map(Logic::Shared)
    }
}
