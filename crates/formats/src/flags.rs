//! A vendor's flags as experiments of a snapshot, with the header texts, cache keys and effects of each outcome.

use crate::diagnostics::{Node, Path, Problems};
use crate::format::{Compiled, Options};
use crate::native::budget::{Limit, RouteBudget};
use crate::native::effects::{self, BASELINE_CHANGES_REQUEST};
use crate::request_headers::RequestHeaders;
use crate::stepwise::{COMPARISONS_PER_BYTE, OUTCOME_BYTES, size};
use edgesplit_engine::assignments::{assignment_pair, cache_pair, outcome_pair};
use edgesplit_engine::attribute::AttributeName;
use edgesplit_engine::flag::{FlagEvaluator, Outcome};
use edgesplit_engine::hash::{Salt, fingerprint};
use edgesplit_engine::route::Route;
use edgesplit_engine::snapshot::{DecisionCore, Disabled, Effects, Experiment, Snapshot, State, Variant};
use std::collections::{HashMap, HashSet};

/// The variable, or member of a JSON value, that holds the effects of an outcome.
const EFFECTS: &str = "edgesplit";

/// Follows the cache-key pairs of a flag whose key another one has too.
const SHARED_KEY: &str = ".shared";

/// How many outcomes a flag may have, and the flags of a config together.
pub(crate) const FLAG_OUTCOMES_MAX: usize = 4_096;
const CONFIG_OUTCOMES_MAX: usize = 262_144;

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
    /// Whether others may have the same key: they are about one experiment.
    pub shares_key: bool,
}

/// Builds the snapshot of a vendor's config, flag by flag.
#[derive(Debug)]
pub struct FlagEntries {
    options: Options,
    snapshot: Snapshot,
    /// The fingerprints of all keys so far. Freeing texts would take long at the end.
    keys: HashSet<u128>,
    owned: RequestHeaders,
    budget: RouteBudget,
    /// How many outcomes the other flags may have.
    outcomes_left: usize,
    /// Whether the rest is not checked against the budget.
    is_unbounded: bool,
    /// All problems of the config.
    pub problems: Problems,
    /// The flags that could not be read.
    pub disabled: Vec<Disabled>,
}

impl FlagEntries {
    /// Begins a snapshot without flags.
    pub fn new(options: &Options) -> FlagEntries {
        let (goals, assignments_bytes_max) = (options.goals.clone(), Some(options.assignments_bytes_max));
        FlagEntries {
            options: options.clone(),
            snapshot: Snapshot { goals, assignments_bytes_max, ..Snapshot::default() },
            keys: HashSet::new(),
            owned: RequestHeaders::default(),
            budget: RouteBudget::new(options),
            outcomes_left: CONFIG_OUTCOMES_MAX,
            is_unbounded: false,
            problems: Problems::new(),
            disabled: Vec::new(),
        }
    }

    /// Reserves space for `count` flags: a list that grows later moves all of them in one step.
    pub fn reserve(&mut self, count: usize) {
        self.snapshot.experiments.reserve_exact(count);
    }

    /// Adds a flag. A flag with an error is disabled, and the others are not affected. Gives the bytes of config that are
    /// compiled in the same time.
    pub fn add(&mut self, flag: &Flag<'_>) -> usize {
        let before = self.budget.comparisons();
        let mut own = Problems::new();
        let is_taken = !self.keys.insert(fingerprint(&[flag.key.as_bytes()]));
        if is_taken && !flag.shares_key {
            own.error(&flag.path, format_args!("another flag has the key {:?} too", flag.key));
        }
        let count = flag.outcomes.len();
        if count > FLAG_OUTCOMES_MAX.min(self.outcomes_left) {
            own.error(&flag.path, format_args!("{count} outcomes are too many: {FLAG_OUTCOMES_MAX} are allowed in a flag, and {CONFIG_OUTCOMES_MAX} in all"));
            self.disable(Some(flag.key.to_owned()), flag.position, &own);
            self.problems.append(own);
            return OUTCOME_BYTES;
        }
        self.outcomes_left -= count;
        let entry = self.entry(flag, is_taken);
        if own.errors() == 0 && !self.is_unbounded {
            self.check_budget(&entry, &flag.path, &mut own);
        }
        if own.errors() == 0 && self.owned.add(&entry, &flag.path, &mut own) {
            self.snapshot.experiments.push(entry);
        } else {
            self.disable(Some(flag.key.to_owned()), flag.position, &own);
        }
        self.problems.append(own);
        let effects = flag.outcomes.iter().filter_map(|outcome| outcome.value.get(EFFECTS)).map(size).sum::<usize>();
        let comparisons = (self.budget.comparisons() - before) as usize;
        OUTCOME_BYTES * (1 + flag.outcomes.len()) + effects + comparisons / COMPARISONS_PER_BYTE
    }

    /// Notes that the flag at `position` is disabled.
    pub fn disable(&mut self, key: Option<String>, position: usize, problems: &Problems) {
        self.disabled.push(Disabled { key, position, problem: problems.first_error() });
    }

    /// Disables a flag that exceeds a limit of the plugin configuration. A default that is exceeded is reported once.
    fn check_budget(&mut self, entry: &Experiment, path: &Path<'_>, problems: &mut Problems) {
        let Some(exceeded) = self.budget.check(entry, &self.snapshot.experiments) else { return };
        let is_kept = match exceeded.limit {
            Limit::AssignmentsBytes => self.options.is_assignments_limit_kept,
            Limit::Combinations | Limit::Comparisons => self.options.is_budget_kept,
        };
        if is_kept {
            return problems.error(path, exceeded.message);
        }
        self.is_unbounded = !self.budget.lift(exceeded.limit);
        let reason = "it is decided all the same, since it is in the vendor's SDKs, unless the limit is configured";
        problems.warning(path, format_args!("{}; {reason}", exceeded.message));
    }

    fn entry(&mut self, flag: &Flag<'_>, is_key_taken: bool) -> Experiment {
        let route = self.options.routes.iter().find(|entry| {
            entry.keys.is_empty() || entry.keys.iter().any(|pattern| pattern.matches(flag.key.as_bytes()))
        });
        let (route, baseline) = route.map(|entry| (entry.route.clone(), entry.baseline.clone())).unwrap_or_default();
        let (mut problems, mut known) = (Problems::new(), HashSet::new());
        let variant = |outcome| {
            let mut found = Problems::new();
            let variant = self.variant(flag, outcome, (&route, baseline.as_deref()), &mut found);
            problems.append_new(found, &mut known);
            variant
        };
        let mut variants: Vec<Variant> = flag.outcomes.iter().map(variant).collect();
        self.problems.append(problems);
        if is_key_taken {
            // The page depends on which of the two flags a pair belongs to.
            let pairs = variants.iter_mut().filter_map(|variant| variant.cache_pair.as_mut());
            pairs.for_each(|pair| pair.push_str(SHARED_KEY));
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
            core: DecisionCore::default(),
        }
    }

    fn variant(
        &self,
        flag: &Flag<'_>,
        outcome: &Outcome,
        (route, baseline): (&Route, Option<&str>),
        problems: &mut Problems,
    ) -> Variant {
        let variant = outcome.variant.as_deref();
        let is_baseline = variant.is_some() && variant == baseline;
        let effects = self.effects(flag, outcome, route, problems);
        if is_baseline && effects.change_request() {
            problems.error(&flag.path.field(EFFECTS), BASELINE_CHANGES_REQUEST);
        }
        let effects = if problems.errors() == 0 { effects } else { Effects::default() };
        let in_experiment = variant.filter(|_| outcome.in_experiment);
        let parts = [flag.key, outcome.experiment.as_deref().unwrap_or_default(), variant.unwrap_or_default()];
        Variant {
            key: variant.unwrap_or_default().to_owned(),
            bucket_end: 0,
            baseline: is_baseline,
            assignment: in_experiment.map(|variant| assignment_pair(flag.key, variant)),
            cache_pair: label(flag.key, in_experiment, &effects).filter(|_| !is_baseline),
            effects,
            tag: (fingerprint(&parts.map(str::as_bytes)) as u64).max(1),
        }
    }

    /// The effects of an outcome. A problem in them leaves all of them out, and the flag is decided as in the SDKs.
    fn effects(&self, flag: &Flag<'_>, outcome: &Outcome, route: &Route, problems: &mut Problems) -> Effects {
        let Some(set) = outcome.value.get(EFFECTS).filter(|set| !set.is_null()) else { return Effects::default() };
        let path = flag.path.field(EFFECTS);
        let policy = &self.options.effects;
        if !policy.is_given {
            problems.warning(&path, "not in force: the plugin configuration has no `effects`");
            return Effects::default();
        }
        let set = set.get("set").unwrap_or(set);
        let effects = effects::compile(Node { value: set, path: &path }, problems).unwrap_or_default();
        policy.check(&effects, route, &path, problems);
        effects
    }

    /// The snapshot, without indexes.
    pub fn finish(mut self, revision: Option<String>, evaluator: Box<dyn FlagEvaluator>) -> Compiled {
        self.snapshot.revision = revision;
        self.snapshot.disabled = self.disabled;
        self.snapshot.owned_request_headers = self.owned.into_names();
        self.snapshot.flag_evaluator = Some(evaluator);
        Compiled { snapshot: Some(self.snapshot), problems: self.problems }
    }
}

/// The pair in the cache key. It follows from the content: the variant by which the origin can know the page, and the
/// effects. An outcome that is no variant and has no effects looks like no experiment at all.
fn label(flag: &str, variant: Option<&str>, effects: &Effects) -> Option<String> {
    let has_effects = *effects != Effects::default();
    match variant {
        None => has_effects.then(|| outcome_pair(flag, "", effects.hash())),
        Some(variant) if has_effects => Some(outcome_pair(flag, variant, effects.hash())),
        Some(variant) => Some(cache_pair(flag, variant)),
    }
}

#[cfg(test)]
mod tests;
