//! A document of the native format: its experiments one after the other, and everything around them.

use super::budget::RouteBudget;
use super::experiment;
use super::kinds::SHARE;
use super::route::Goals;
use crate::conditions;
use crate::diagnostics::{Node, Path, Problems};
use crate::document::{Absent, Anything, KEY, Kind, List, MemberReader, Nullable, TEXT, lenient, schema, whole};
use crate::effect_policy::EffectPolicy;
use crate::format::{Compiled, Options};
use crate::request_headers::RequestHeaders;
use crate::splitter::ELEMENT_BYTES_MAX;
use crate::stepwise::{Leftovers, Steps};
use edgesplit_engine::condition::{CONFIG_INSTRUCTIONS_MAX, Condition};
use edgesplit_engine::guardrail::GUARDED_VARIANTS_MAX;
use edgesplit_engine::hash::Salt;
use edgesplit_engine::snapshot::{self, Disabled, Experiment, Goal, Layer, Snapshot, State};
use edgesplit_engine::sort::sort_by;
use serde_json::Value;
use std::collections::HashMap;

/// The schema this module reads.
pub const SCHEMA: u64 = 1;

crate::document! {
    /// A document, whose experiments are compiled one by one.
    #[derive(Debug)]
    struct Document {
        /// The location of this schema, for editors.
        editor as "$schema": () = () => Anything,
        /// The version of the format. Without it, the document is read as this version.
        schema: Option<u64> = None => Nullable(whole(SCHEMA, SCHEMA)),
        /// Your name for this state of the document; it stands in events.
        revision: Option<String> = None => Nullable(TEXT),
        /// Visitors who are in no running experiment.
        holdout: Option<Holdout> = None => Nullable(lenient()),
        /// The experiments, in the order in which they are decided and their effects applied.
        experiments: () => ExperimentList,
        /// Successes to count, for every identified visitor.
        goals: Vec<Goal> | null = Vec::new() => Goals::LENIENT,
    }
}

/// The list of experiments, which is read apart from the rest of the document.
pub(super) struct ExperimentList;

impl Kind for ExperimentList {
    type Value = ();

    fn expected(&self) -> String {
        "a list of experiments".to_owned()
    }

    fn read(&self, _: Node<'_>, _: &mut Problems) -> Option<()> {
        Some(())
    }

    fn member(&self, members: &mut MemberReader<'_>, name: &'static str, _: Absent<()>) -> Option<()> {
        members.find(name, false);
        Some(())
    }

    fn schema(&self) -> Value {
        List(lenient::<experiment::Experiment>()).schema()
    }
}

crate::document! {
    /// Visitors who are in no running experiment.
    #[derive(Debug)]
    struct Holdout {
        /// The name of the holdout. Another name holds out other visitors.
        key: String => KEY,
        /// How many of 10,000.
        share: u32 => SHARE,
    }
}

/// Compiles a document that is read already, in one step.
pub(super) struct WholeDocument {
    options: Options,
    compiled: Compiled,
}

impl WholeDocument {
    pub(super) fn begin(options: &Options) -> Box<dyn Steps> {
        Box::new(WholeDocument { options: options.clone(), compiled: Compiled::default() })
    }
}

impl Steps for WholeDocument {
    fn step(&mut self, config: Node<'_>) -> Option<usize> {
        self.compiled.snapshot = document(config, &self.options, &mut self.compiled.problems);
        None
    }

    fn report(&mut self, problems: Problems) {
        self.compiled.problems.append(problems);
    }

    fn finish(self: Box<Self>) -> (Compiled, Leftovers) {
        (self.compiled, Leftovers::default())
    }
}

/// Compiles a whole document, without indexes.
fn document(node: Node<'_>, options: &Options, problems: &mut Problems) -> Option<Snapshot> {
    let snapshot = head(node, problems)?;
    let list_path = node.path.field("experiments");
    let Some(list) = node.value.get("experiments") else {
        problems.error(&list_path, "missing; expected a list of experiments");
        return None;
    };
    let list = Node { value: list, path: &list_path }.array(problems)?;
    let mut experiments = Experiments::new(snapshot, options);
    for (position, value) in list.iter().enumerate() {
        experiments.add(Node { value, path: &list_path.index(position) }, position, problems);
    }
    Some(experiments.finish().0)
}

/// Whether documents have a member with this name, whose value is read before the experiments.
pub(super) fn is_member(name: &str) -> bool {
    matches!(name, "$schema" | "schema" | "revision" | "holdout" | "goals")
}

/// Compiles everything but the experiments.
pub(super) fn head(node: Node<'_>, problems: &mut Problems) -> Option<Snapshot> {
    let Document { editor: (), schema, revision, holdout, experiments: (), goals } = lenient().read(node, problems)?;
    if schema.is_none() {
        problems.warning(&node.path.field("schema"), format_args!("missing; read as schema {SCHEMA}"));
    }
    let holdout =
        holdout.map(|Holdout { key, share }| snapshot::Holdout { salt: Salt::new(format!("holdout/{key}/")), share });
    Some(Snapshot { revision, holdout, goals, ..Snapshot::default() })
}

/// The experiments of a document, as they are compiled one after the other.
#[derive(Debug, Default)]
pub(super) struct Experiments {
    snapshot: Snapshot,
    pub(super) budget: RouteBudget,
    /// The positions of the experiments so far, by their keys.
    keys: HashMap<String, usize>,
    owned: RequestHeaders,
    effects: EffectPolicy,
    layers: Layers,
    /// How many variants are under guardrails.
    guarded: usize,
    /// How many instructions the patterns of the audiences have.
    instructions: usize,
}

/// The slots in use by the layers' salts, sorted: the first slot, the slot behind the last, and the experiment's position.
type Layers = HashMap<Box<str>, Vec<(u32, u32, usize)>>;

impl Experiments {
    pub(super) fn new(mut snapshot: Snapshot, options: &Options) -> Experiments {
        snapshot.assignments_bytes_max = Some(options.assignments_bytes_max);
        let (budget, effects) = (RouteBudget::new(options), options.effects.clone());
        Experiments { snapshot, budget, effects, ..Experiments::default() }
    }

    /// Reserves space for `count` experiments: a list that grows later moves all of them in one step.
    pub(super) fn reserve(&mut self, count: usize) {
        self.snapshot.experiments.reserve_exact(count);
    }

    /// Compiles the next one, and disables it if it is wrong, in itself or beside those before it.
    pub(super) fn add(&mut self, node: Node<'_>, position: usize, problems: &mut Problems) {
        let Experiments { snapshot, budget, keys, owned, effects, layers, guarded, instructions } = self;
        let Node { value, path } = node;
        let mut own = Problems::new();
        let experiment = experiment::compile(node, position, &mut own);
        let key = value.get("key").and_then(Value::as_str).map(str::to_owned);
        let duplicate = key.as_ref().is_some_and(|key| keys.insert(key.clone(), position).is_some());
        if duplicate {
            own.error(&path.field("key"), format_args!("duplicate key {:?}", key.as_deref().unwrap_or_default()));
        }
        let experiment = experiment.filter(|_| own.errors() == 0).filter(|experiment| {
            beside_others(experiment, path, layers, &snapshot.experiments, &mut own);
            check_effects(experiment, path, effects, &mut own);
            if let Some(exceeded) = budget.check(experiment, &snapshot.experiments) {
                own.error(path, exceeded.message);
            }
            guarded_variants(experiment, path, *guarded, &mut own);
            count_instructions(experiment, path, instructions, &mut own);
            own.errors() == 0 && owned.add(experiment, path, &mut own)
        });
        match experiment {
            Some(experiment) => {
                if let Some(layer) = bucketed_layer(&experiment) {
                    let slots = layers.entry(layer.salt.text().into()).or_default();
                    let at = slots.partition_point(|(from, _, _)| *from < layer.from);
                    slots.insert(at, (layer.from, layer.to, snapshot.experiments.len()));
                }
                *guarded += guarded_count(&experiment);
                snapshot.experiments.push(experiment);
            }
            None => snapshot.disabled.push(Disabled {
                key: key.filter(|_| !duplicate),
                position,
                problem: own.first_error(),
            }),
        }
        problems.append(own);
    }

    /// Disables an experiment that is too large to be read.
    pub(super) fn refuse_large(&mut self, path: &Path<'_>, position: usize, problems: &mut Problems) {
        let mut own = Problems::new();
        own.error(path, format_args!("takes more than {ELEMENT_BYTES_MAX} bytes, so it is not read"));
        self.snapshot.disabled.push(Disabled { key: None, position, problem: own.first_error() });
        problems.append(own);
    }

    /// The snapshot without indexes, and the entries that only compiling it needed.
    pub(super) fn finish(mut self) -> (Snapshot, Leftovers) {
        self.snapshot.owned_request_headers = self.owned.into_names();
        let (keys, budget) = (self.keys.into_iter().map(drop), self.budget.into_entries());
        (self.snapshot, Leftovers::new(keys.chain(budget)))
    }
}

/// The plugin configuration bounds the effects of variants.
fn check_effects(experiment: &Experiment, path: &Path<'_>, effects: &EffectPolicy, problems: &mut Problems) {
    let list = path.field("variants");
    for (at, variant) in experiment.variants.iter().enumerate() {
        effects.check(&variant.effects, &experiment.route, &list.index(at).field("set"), problems);
    }
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
    let before_end = slots.iter().rev().skip_while(|(from, _, _)| *from >= layer.to);
    let mut taken: Vec<_> = before_end.take_while(|(_, to, _)| *to > layer.from).collect();
    sort_by(&mut taken, |(_, _, a), (_, _, b)| a < b);
    for (from, to, position) in taken {
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

/// The patterns of all audiences share a limit, which bounds their memory.
fn count_instructions(experiment: &Experiment, path: &Path<'_>, total: &mut usize, problems: &mut Problems) {
    let own = experiment.audience.as_ref().map_or(0, Condition::instructions);
    if own > 0 && *total + own > CONFIG_INSTRUCTIONS_MAX {
        let message =
            format!("the patterns of the config take more than {CONFIG_INSTRUCTIONS_MAX} instructions with this one");
        return problems.error(&path.field("audience"), message);
    }
    *total += own;
}

/// How many of an experiment's variants are under a guardrail.
fn guarded_count(experiment: &Experiment) -> usize {
    let is_guarded = experiment.guardrail.is_some() && experiment.state == State::Running;
    if is_guarded { experiment.variants.len() } else { 0 }
}

/// The JSON Schema of a document. It does not cover rules across fields: weights that add up, unique keys, slots that
/// do not overlap, sorted steps, names of variants.
pub fn schema() -> Value {
    let description = "Experiments in Edgesplit's native format, schema 1. Shares, weights and slots are in 1/10,000. \
                       null is the same as leaving a field out.";
    let root = lenient::<Document>().schema();
    schema::document("Edgesplit experiments", description, root, conditions::schema::definitions())
}
