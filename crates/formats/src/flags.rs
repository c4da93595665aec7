//! A vendor's flags as experiments of a snapshot, with the header texts, cache keys and effects of each outcome.

use crate::diagnostics::{Node, Path, Problems, Severity};
use crate::format::{Compiled, Options};
use crate::native::budget::RouteBudget;
use crate::native::effects;
use edgesplit_engine::assignments::{assignment_pair, cache_pair};
use edgesplit_engine::attribute::AttributeName;
use edgesplit_engine::flag::{FlagEvaluator, Outcome};
use edgesplit_engine::hash::{Salt, fingerprint};
use edgesplit_engine::header_name::NameSet;
use edgesplit_engine::snapshot::{Disabled, Effects, Experiment, Snapshot, State, Variant};
use std::collections::HashMap;

/// The variable, or member of a JSON value, that holds the effects of an outcome.
const EFFECTS: &str = "edgesplit";

/// A flag to be added.
#[derive(Debug)]
pub struct Flag<'a> {
    /// Its key.
    pub key: &'a str,
    /// Its position in the config, disabled flags counted.
    pub position: usize,
    /// Its number for the vendor's evaluator.
    pub number: usize,
    /// Its possible outcomes.
    pub outcomes: &'a [Outcome],
    /// Its place in the document.
    pub path: Path<'a>,
}

/// Builds the snapshot of a vendor's config, flag by flag.
#[derive(Debug)]
pub struct FlagEntries {
    options: Options,
    snapshot: Snapshot,
    /// The positions of all so far by their keys.
    keys: HashMap<String, usize>,
    owned: Vec<String>,
    budget: RouteBudget,
    is_over_budget: bool,
    problems: Problems,
}

impl FlagEntries {
    /// Begins a snapshot without flags.
    pub fn new(options: &Options) -> FlagEntries {
        let snapshot = Snapshot { goals: options.goals.clone(), ..Snapshot::default() };
        FlagEntries {
            options: options.clone(),
            snapshot,
            keys: HashMap::new(),
            owned: Vec::new(),
            budget: RouteBudget::new(options.budget),
            is_over_budget: false,
            problems: Problems::new(),
        }
    }

    /// Makes room for `count` flags: moving them to more room later would take a long time at once.
    pub fn reserve(&mut self, count: usize) {
        self.snapshot.experiments.reserve_exact(count);
    }

    /// Adds a flag. A flag with an error is disabled, and the others are not affected. Gives the number of comparisons that
    /// its route took.
    pub fn add(&mut self, flag: &Flag<'_>) -> usize {
        let before = self.budget.comparisons();
        let mut own = Problems::new();
        if self.keys.insert(flag.key.to_owned(), flag.position).is_some() {
            own.error(&flag.path, format!("another flag has the key {:?} too", flag.key));
        }
        let entry = self.entry(flag, &mut own);
        if own.errors() == 0 && !self.is_over_budget {
            self.check_budget(&entry, &flag.path, &mut own);
        }
        if own.errors() == 0 {
            self.snapshot.experiments.push(entry);
        } else {
            let first = own.iter().find(|problem| problem.severity == Severity::Error);
            let problem = first.map(ToString::to_string).unwrap_or_default();
            self.snapshot.disabled.push(Disabled { key: Some(flag.key.to_owned()), position: flag.position, problem });
        }
        self.problems.append(own);
        (self.budget.comparisons() - before) as usize
    }

    /// Bounds the cache keys of a route where that is asked for, and else tells once where they are over the default.
    fn check_budget(&mut self, entry: &Experiment, path: &Path<'_>, problems: &mut Problems) {
        let mut found = Problems::new();
        self.budget.check(entry, path, &self.snapshot.experiments, &mut found);
        if self.options.is_budget_kept {
            return problems.append(found);
        }
        for problem in found.iter() {
            self.is_over_budget = true;
            let says = "it is decided all the same, since it is in the vendor's SDKs, unless the budget is configured";
            problems.warning(path, format!("{}; {says}", problem.message));
        }
    }

    fn entry(&mut self, flag: &Flag<'_>, problems: &mut Problems) -> Experiment {
        let route = self.options.routes.iter().find(|entry| {
            entry.keys.is_empty() || entry.keys.iter().any(|pattern| pattern.matches(flag.key.as_bytes()))
        });
        let (route, baseline) = route.map(|entry| (entry.route.clone(), entry.baseline.clone())).unwrap_or_default();
        let baseline = baseline.as_deref();
        let mut variants: Vec<Variant> = Vec::with_capacity(flag.outcomes.len());
        for (at, outcome) in flag.outcomes.iter().enumerate() {
            let variant = self.variant(flag, at, outcome, baseline, &variants, problems);
            variants.push(variant);
        }
        Experiment {
            key: flag.key.to_owned(),
            position: flag.position,
            state: State::Flag(flag.number),
            unit: AttributeName::Id,
            route,
            audience: None,
            layer: None,
            traffic: Vec::new(),
            traffic_salt: Salt::new(""),
            variant_salt: Salt::new(""),
            starts_ms: None,
            ends_ms: None,
            forced: HashMap::new(),
            sticky: None,
            variants,
            guardrail: None,
            rank: 0,
        }
    }

    fn variant(
        &mut self,
        flag: &Flag<'_>,
        at: usize,
        outcome: &Outcome,
        baseline: Option<&str>,
        others: &[Variant],
        problems: &mut Problems,
    ) -> Variant {
        let effects = self.effects(flag, outcome, problems);
        let variant = outcome.variant.as_deref();
        let own_key = outcome.experiment.as_deref().unwrap_or_default();
        let is_baseline = variant.is_some() && variant == baseline;
        let in_experiment = variant.filter(|_| outcome.in_experiment);
        let cache_pair = match in_experiment {
            _ if is_baseline => None,
            Some(variant) => {
                let pair = cache_pair(flag.key, variant);
                // Two experiments of one flag may call different things the same.
                let misleads = |other: &Variant| other.cache_pair.as_ref() == Some(&pair) && other.effects != effects;
                let is_taken = others.iter().any(misleads);
                Some(if is_taken { qualified_pair(flag.key, own_key, variant) } else { pair })
            }
            // What does nothing to the request looks like no experiment at all.
            None if effects == Effects::default() => None,
            None => {
                let same = others.iter().find(|other| other.assignment.is_none() && other.effects == effects);
                let label = || variant.map_or_else(|| format!("outcome-{at}"), str::to_owned);
                same.map_or_else(|| Some(qualified_pair(flag.key, own_key, &label())), |same| same.cache_pair.clone())
            }
        };
        let parts = [flag.key, own_key, variant.unwrap_or_default()].map(str::as_bytes);
        Variant {
            key: variant.unwrap_or_default().to_owned(),
            bucket_end: 0,
            baseline: is_baseline,
            assignment: in_experiment.map(|variant| assignment_pair(flag.key, variant)),
            cache_pair,
            effects,
            tag: (fingerprint(&parts) as u64).max(1),
        }
    }

    fn effects(&mut self, flag: &Flag<'_>, outcome: &Outcome, problems: &mut Problems) -> Effects {
        let Some(set) = outcome.value.get(EFFECTS).filter(|set| !set.is_null()) else { return Effects::default() };
        let set = set.get("set").unwrap_or(set);
        effects::collect_set(set, &mut self.owned);
        let path = flag.path.field(EFFECTS);
        effects::compile(Node { value: set, path: &path }, problems).unwrap_or_default()
    }

    /// The snapshot, without indexes. `disabled` are the flags that could not be read.
    pub fn finish(
        mut self,
        revision: Option<String>,
        disabled: &[Disabled],
        evaluator: Box<dyn FlagEvaluator>,
    ) -> Compiled {
        self.snapshot.revision = revision;
        self.snapshot.disabled.extend_from_slice(disabled);
        self.snapshot.owned_request_headers = NameSet::new(self.owned);
        self.snapshot.flag_evaluator = Some(evaluator);
        Compiled { snapshot: Some(self.snapshot), problems: self.problems }
    }
}

fn qualified_pair(flag: &str, experiment: &str, variant: &str) -> String {
    match experiment {
        "" => cache_pair(flag, variant),
        experiment => cache_pair(flag, &format!("{experiment}/{variant}")),
    }
}
