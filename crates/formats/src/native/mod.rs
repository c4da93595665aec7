//! The native experiment format, schema 1: JSON in, problems and a compiled [`Snapshot`] out.
//!
//! What is wrong inside one experiment disables that experiment alone; what is wrong with the document refuses it whole.

pub mod budget;
mod compilation;
pub mod effects;
mod experiment;
mod format;
mod overlap;
pub mod route;
#[cfg(not(target_arch = "wasm32"))]
pub mod schema;

pub use crate::format::Compiled;
use budget::RouteBudget;
pub use compilation::Compilation;
pub use format::Native;

use crate::diagnostics::{Node, Path, Problem, Problems, Severity};
use edgesplit_engine::guardrail::GUARDED_VARIANTS_MAX;
use edgesplit_engine::hash::Salt;
use edgesplit_engine::header_name::NameSet;
use edgesplit_engine::snapshot::{Disabled, Experiment, Goal, Holdout, Layer, Snapshot, State, StatusClass};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap, HashSet};

/// The schema this module reads.
pub const SCHEMA: u64 = 1;

/// Longer keys are refused: they would end in headers, metrics and events.
pub const KEY_BYTES_MAX: usize = 256;

/// Parses and compiles `bytes`. `budget` bounds the cache-key combinations of a route.
pub fn compile_bytes(bytes: &[u8], budget: u64) -> Compiled {
    let mut compilation = Compilation::new(bytes.to_vec(), budget);
    while !compilation.advance(usize::MAX) {}
    compilation.finish().0
}

/// Compiles the document `value`. `budget` bounds the cache-key combinations of a route.
pub fn compile(value: &Value, budget: u64) -> Compiled {
    compile_at(value, &Path::Root, budget)
}

/// Compiles the document `value` that stands at `path` in another one.
pub fn compile_at(value: &Value, path: &Path<'_>, budget: u64) -> Compiled {
    let mut problems = Problems::new();
    let snapshot = document(Node { value, path }, budget, &mut problems);
    Compiled { snapshot, problems }
}

fn document(node: Node<'_>, budget: u64, problems: &mut Problems) -> Option<Snapshot> {
    let snapshot = head(node, problems)?;
    let list_path = node.path.field("experiments");
    let Some(list) = node.value.get("experiments") else {
        problems.error(&list_path, "missing; expected a list of experiments");
        return None;
    };
    let list = Node { value: list, path: &list_path }.array(problems)?;
    let mut experiments = Experiments::new(snapshot, budget);
    for (position, value) in list.iter().enumerate() {
        experiments.add(Node { value, path: &list_path.index(position) }, position, problems);
    }
    Some(experiments.finish(node, problems))
}

/// What stands around the experiments.
fn head(node: Node<'_>, problems: &mut Problems) -> Option<Snapshot> {
    let object = node.object(problems)?;
    let schema_path = node.path.field("schema");
    match object.get("schema") {
        None => problems.warning(&schema_path, format!("missing; read as schema {SCHEMA}")),
        Some(schema) if Node { value: schema, path: &schema_path }.integer(SCHEMA..=SCHEMA, problems).is_none() => {
            return None;
        }
        Some(_) => {}
    }
    node.unknown_fields(
        &["$schema", "schema", "revision", "holdout", "experiments", "goals"],
        Severity::Warning,
        problems,
    );
    let revision = member(node, "revision", problems, |node, problems| node.string(problems).map(str::to_owned))?;
    let holdout = member(node, "holdout", problems, holdout)?;
    Some(Snapshot { revision, holdout, ..Snapshot::default() })
}

/// Reads the member `name` with `read`, if it is there and not null. `None` where it is wrong.
fn member<'a, T>(
    node: Node<'a>,
    name: &'a str,
    problems: &mut Problems,
    read: impl FnOnce(Node<'_>, &mut Problems) -> Option<T>,
) -> Option<Option<T>> {
    match node.value.get(name) {
        None | Some(Value::Null) => Some(None),
        Some(value) => read(Node { value, path: &node.path.field(name) }, problems).map(Some),
    }
}

fn holdout(node: Node<'_>, problems: &mut Problems) -> Option<Holdout> {
    node.object(problems)?;
    node.unknown_fields(&["key", "share"], Severity::Warning, problems);
    let key = required(node, "key", problems, key)?;
    let share = required(node, "share", problems, experiment::share)?;
    Some(Holdout { salt: Salt::new(format!("holdout/{key}/")), share })
}

/// Reads the member `name` with `read`; a problem where it is not there.
fn required<'a, T>(
    node: Node<'a>,
    name: &'a str,
    problems: &mut Problems,
    read: impl FnOnce(Node<'_>, &mut Problems) -> Option<T>,
) -> Option<T> {
    let path = node.path.field(name);
    match node.value.get(name) {
        Some(value) => read(Node { value, path: &path }, problems),
        None => {
            problems.error(&path, "missing");
            None
        }
    }
}

/// A key: a text that is not empty and not too long.
pub fn key(node: Node<'_>, problems: &mut Problems) -> Option<String> {
    let key = node.string(problems)?;
    if (1..=KEY_BYTES_MAX).contains(&key.len()) {
        return Some(key.to_owned());
    }
    node.expected(problems, &format!("a key of 1 to {KEY_BYTES_MAX} bytes"));
    None
}

/// The experiments of a document, as they are compiled one after the other.
#[derive(Debug, Default)]
struct Experiments {
    snapshot: Snapshot,
    budget: RouteBudget,
    /// The positions of all so far by their keys.
    keys: HashMap<String, usize>,
    /// Names of headers that variants set.
    owned: Vec<String>,
    layers: Layers,
    /// How many variants are under guardrails.
    guarded: usize,
}

/// The slots in use by the layers' salts: by the first slot, the slot behind the last and the experiment's position.
type Layers = HashMap<Box<str>, BTreeMap<u32, (u32, usize)>>;

impl Experiments {
    fn new(snapshot: Snapshot, budget: u64) -> Experiments {
        Experiments { snapshot, budget: RouteBudget::new(budget), ..Experiments::default() }
    }

    /// Compiles the next one, and disables it if it is wrong, in itself or beside those before it.
    fn add(&mut self, node: Node<'_>, position: usize, problems: &mut Problems) {
        let Experiments { snapshot, budget, keys, owned, layers, guarded } = self;
        let Node { value, path } = node;
        effects::collect_owned(value, owned);
        let mut own = Problems::new();
        let experiment = experiment::compile(node, position, &mut own);
        let key = value.get("key").and_then(Value::as_str).map(str::to_owned);
        let duplicate = key.as_ref().is_some_and(|key| keys.insert(key.clone(), position).is_some());
        if duplicate {
            own.error(&path.field("key"), format!("duplicate key {:?}", key.as_deref().unwrap_or_default()));
        }
        let experiment = experiment.filter(|_| own.errors() == 0).filter(|experiment| {
            beside_others(experiment, path, layers, &snapshot.experiments, &mut own);
            budget.check(experiment, path, &snapshot.experiments, &mut own);
            guarded_variants(experiment, path, *guarded, &mut own);
            own.errors() == 0
        });
        match experiment {
            Some(experiment) => {
                if let Some(layer) = bucketed_layer(&experiment) {
                    let slots = layers.entry(layer.salt.text().into()).or_default();
                    slots.insert(layer.from, (layer.to, snapshot.experiments.len()));
                }
                *guarded += guarded_count(&experiment);
                snapshot.experiments.push(experiment);
            }
            None => snapshot.disabled.push(Disabled {
                key: key.filter(|_| !duplicate),
                position,
                problem: first_error(&own).map(ToString::to_string).unwrap_or_default(),
            }),
        }
        problems.append(own);
    }

    /// Compiles the goals of the document and makes a snapshot of everything.
    fn finish(mut self, document: Node<'_>, problems: &mut Problems) -> Snapshot {
        let found =
            member(document, "goals", problems, |node, problems| Some(goals(node, Severity::Warning, problems)));
        self.snapshot.goals = found.flatten().unwrap_or_default();
        self.snapshot.owned_request_headers = NameSet::new(self.owned);
        self.snapshot.indexed()
    }
}

fn first_error(problems: &Problems) -> Option<&Problem> {
    problems.iter().find(|problem| problem.severity == Severity::Error)
}

/// Slots of one layer belong to one experiment each; a concluded experiment has given its slots back.
fn beside_others(
    experiment: &Experiment,
    path: &Path<'_>,
    layers: &Layers,
    others: &[Experiment],
    problems: &mut Problems,
) {
    let Some(layer) = bucketed_layer(experiment) else { return };
    let Some(slots) = layers.get(layer.salt.text()) else { return };
    // Slots in use do not overlap each other, so those that overlap these are neighbours.
    let before_end = slots.range(..layer.to).rev();
    let mut taken: Vec<_> = before_end.take_while(|(_, (to, _))| *to > layer.from).collect();
    taken.sort_unstable_by_key(|(_, (_, position))| *position);
    for (from, (to, position)) in taken {
        let key = others.get(*position).map_or("", |other| other.key.as_str());
        let message =
            format!("slots [{}, {}) overlap those of experiment {key:?}, [{from}, {to})", layer.from, layer.to);
        problems.error(&path.field("layer").field("slots"), message);
    }
}

/// The layer's slots that an experiment uses: a concluded one has given them back.
fn bucketed_layer(experiment: &Experiment) -> Option<&Layer> {
    experiment.layer.as_ref().filter(|_| !matches!(experiment.state, State::Concluded(_)))
}

/// Only so many variants can be under guardrails.
fn guarded_variants(experiment: &Experiment, path: &Path<'_>, before: usize, problems: &mut Problems) {
    let own = guarded_count(experiment);
    if own > 0 && before + own > GUARDED_VARIANTS_MAX {
        let message =
            format!("more than {GUARDED_VARIANTS_MAX} variants of running experiments would be under guardrails");
        problems.error(&path.field("guardrail"), message);
    }
}

/// How many of an experiment's variants are under a guardrail.
fn guarded_count(experiment: &Experiment) -> usize {
    let is_guarded = experiment.guardrail.is_some() && experiment.state == State::Running;
    if is_guarded { experiment.variants.len() } else { 0 }
}

/// The goals in the list at `node`: those that are valid. Unknown fields are problems of this severity.
pub fn goals(node: Node<'_>, unknown: Severity, problems: &mut Problems) -> Vec<Goal> {
    let (mut goals, mut keys): (Vec<Goal>, HashSet<String>) = Default::default();
    for (position, value) in node.array(problems).unwrap_or_default().iter().enumerate() {
        let path = node.path.index(position);
        let before = problems.errors();
        let Some(goal) = goal(Node { value, path: &path }, unknown, problems) else { continue };
        if !keys.insert(goal.key.clone()) {
            problems.error(&path.field("key"), format!("duplicate key {:?}", goal.key));
        }
        if problems.errors() == before {
            goals.push(goal);
        }
    }
    goals
}

fn goal(node: Node<'_>, unknown: Severity, problems: &mut Problems) -> Option<Goal> {
    node.object(problems)?;
    node.unknown_fields(&["key", "route", "statuses"], unknown, problems);
    let key = required(node, "key", problems, key);
    let route = member(node, "route", problems, |node, problems| route::compile(node, unknown, problems));
    let statuses = member(node, "statuses", problems, |node, problems| {
        let list = node.array(problems)?;
        list.iter()
            .enumerate()
            .map(|(at, value)| status(Node { value, path: &node.path.index(at) }, problems))
            .collect()
    });
    Some(Goal { key: key?, route: route?.unwrap_or_default(), statuses: statuses?.unwrap_or_default() })
}

/// A status class such as `"2xx"`, or one status such as `"201"`.
fn status(node: Node<'_>, problems: &mut Problems) -> Option<StatusClass> {
    let text = match node.value {
        Value::Number(number) => number.to_string(),
        value => value.as_str().unwrap_or_default().to_owned(),
    };
    let class = match text.as_bytes() {
        [class @ b'1'..=b'5', b'x', b'x'] => {
            let first = u16::from(class - b'0') * 100;
            Some(StatusClass { first, last: first + 99 })
        }
        [b'1'..=b'5', _, _] => text.parse().ok().map(|status| StatusClass { first: status, last: status }),
        _ => None,
    };
    if class.is_none() {
        node.expected(problems, "a status such as \"201\" or a class such as \"2xx\"");
    }
    class
}

#[cfg(test)]
mod tests;
