//! Targeting in JSONLogic: JSON to trees.

use crate::diagnostics::{Node, Problems, Severity};
use crate::stepwise::size;
use serde_json::Value;
use std::collections::HashMap;
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

/// An expression that several flags may share. It is walked once, since others may name it often.
#[derive(Debug)]
pub(super) struct Evaluator {
    pub(super) logic: Logic,
    depth: usize,
    has_fractional: bool,
    /// Its size in the definitions.
    pub(super) bytes: usize,
}

/// How many evaluators flags may name.
const EVALUATORS_MAX: usize = 1_000;

/// The evaluators that flags share, as far as flags named them. Each one is read in a step of its own.
#[derive(Debug, Default)]
pub(super) struct Evaluators {
    named: Vec<(String, State)>,
    /// Their positions by their names.
    by_name: HashMap<String, usize>,
    /// Those that are to be read, the next one last.
    waiting: Vec<usize>,
    /// Those that can be used. Each one follows those that it names.
    pub(super) usable: Vec<Arc<Evaluator>>,
}

#[derive(Debug)]
enum State {
    /// It waits at this position.
    Waiting(usize),
    /// Those that it names are read first. If one of them names it, they form a circle.
    Open,
    /// It is read; none if it cannot be used.
    Read(Option<Arc<Evaluator>>),
}

impl Evaluators {
    /// Whether some are to be read before the expression that was read last.
    pub(super) fn are_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Reads the next one, and gives its size in bytes. None if none is waiting.
    pub(super) fn read_next(&mut self, root: Node<'_>, problems: &mut Problems) -> Option<usize> {
        let (count, number) = (self.waiting.len(), *self.waiting.last()?);
        let (name, state) = self.named.get_mut(number)?;
        if matches!(state, State::Read(_)) {
            self.waiting.pop();
            return Some(0);
        }
        *state = State::Open;
        let (name, list, mut own) = (name.clone(), root.path.field("$evaluators"), Problems::new());
        let value = root.value.get("$evaluators").and_then(|evaluators| evaluators.get(&name));
        let bytes = value.map_or(0, size);
        let logic = value.and_then(|value| {
            let mut reader = Reader { evaluators: self, problems: &mut own, waiting: count };
            reader.read_whole(Node { value, path: &list.field(&name) })
        });
        if self.waiting.len() == count {
            self.waiting.pop();
            problems.append(own);
            let evaluator = logic.map(|logic| {
                let (depth, has_fractional) = (logic.depth(), logic.has_fractional());
                Arc::new(Evaluator { logic, depth, has_fractional, bytes })
            });
            self.usable.extend(evaluator.clone());
            if let Some((_, state)) = self.named.get_mut(number) {
                *state = State::Read(evaluator);
            }
        }
        Some(bytes)
    }

    /// The evaluator `name` in an expression before which those from position `from` on are to be read. None if it cannot be
    /// used. Null stands for one that waits.
    fn find(&mut self, name: &str, from: usize) -> Option<Logic> {
        let number = match self.by_name.get(name) {
            Some(number) => *number,
            None if self.named.len() < EVALUATORS_MAX => {
                let number = self.named.len();
                self.by_name.insert(name.to_owned(), number);
                self.named.push((name.to_owned(), State::Read(None)));
                self.wait(number)
            }
            None => return None,
        };
        match &self.named.get(number)?.1 {
            State::Read(evaluator) => return evaluator.clone().map(Logic::Shared),
            State::Open => return None,
            State::Waiting(position) if *position < from => drop(self.wait(number)),
            State::Waiting(_) => {}
        }
        Some(Logic::Value(Value::Null))
    }

    fn wait(&mut self, number: usize) -> usize {
        if let Some((_, state)) = self.named.get_mut(number) {
            *state = State::Waiting(self.waiting.len());
            self.waiting.push(number);
        }
        number
    }

    /// The names, which only reading needed.
    pub(super) fn into_names(self) -> impl Iterator<Item = String> {
        self.named.into_iter().map(|(name, _)| name).chain(self.by_name.into_keys())
    }
}

/// Reads an expression. If evaluators are waiting behind it, it is read again after those.
pub(super) struct Reader<'r> {
    pub(super) evaluators: &'r mut Evaluators,
    pub(super) problems: &'r mut Problems,
    /// How many evaluators wait before it.
    pub(super) waiting: usize,
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
                    let names = OPERATORS.iter().map(|(name, _)| *name).collect::<Vec<_>>();
                    self.problems.unknown(&path, "operator", name, &names, Severity::Error);
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
        let found = self.evaluators.find(name, self.waiting);
        if found.is_none() {
            let message = format!("there is no usable evaluator {name:?}: decisions that need it are errors");
            self.problems.error(node.path, message);
        }
        found
    }
}
