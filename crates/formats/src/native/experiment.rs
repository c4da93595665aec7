//! One experiment of the native format: as it is written, and compiled.

use super::effects::{self, BASELINE_CHANGES_REQUEST};
use super::kinds::{ATTRIBUTE, Audience, MOMENT, SHARE, SLOTS, Traffic};
use crate::diagnostics::{Node, Path, Problems};
use crate::document::{
    Choice, Flag, KEY, Kind, List, Map, Nullable, Object, TEXT, Text, Then, lenient, number, strict, whole,
};
use edgesplit_engine::assignments;
use edgesplit_engine::attribute::AttributeName;
use edgesplit_engine::condition::Condition;
use edgesplit_engine::guardrail::{self, Guardrail};
use edgesplit_engine::hash::{BUCKETS, Salt};
use edgesplit_engine::route::Route;
use edgesplit_engine::snapshot::{self, Effects, State, TrafficStep};
use std::collections::{HashMap, HashSet};
use std::fmt;

crate::document! {
    /// An experiment as it is written.
    #[derive(Debug)]
    pub(super) struct Experiment {
        /// Its name in headers, cache keys, metrics and events. Unique in the document.
        key: String => KEY,
        /// running; paused: no visitor is in it; concluded: every visitor gets the winner, and no exposure is reported.
        state: Progress => PROGRESS,
        /// The key of the variant that won; required if concluded.
        winner: Option<String> = None => Nullable(TEXT),
        /// The text that is hashed with the unit; the key, if left out. Another salt moves every visitor.
        salt: Option<String> = None => Nullable(TEXT),
        /// The attribute whose value is bucketed.
        unit: AttributeName | null = AttributeName::Id => ATTRIBUTE,
        /// Experiments of one layer share no visitor.
        layer: Option<Layer> = None => Nullable(strict()),
        /// The requests that the experiment is about; every request, if left out.
        route: Route | null = Route::default() => strict(),
        /// The visitors who take part: a condition in GrowthBook's language. Every visitor, if left out.
        audience: Option<Condition> = None => Nullable(Audience),
        /// The share of visitors that takes part, in 1/10,000; or steps sorted by time, of which the last that has
        /// begun applies. Before the first step the share is 0.
        traffic: Vec<TrafficStep> | null = vec![TrafficStep { from_ms: i64::MIN, share: BUCKETS }] => Traffic,
        /// The time when it starts.
        starts: Option<i64> = None => Nullable(MOMENT),
        /// The time when it ends: from then on, no visitor is in it.
        ends: Option<i64> = None => Nullable(MOMENT),
        /// Variants by the unit's value. Audience, holdout, layer and traffic do not apply to these visitors.
        forced: Vec<(String, String)> | null = Vec::new() => FORCED,
        /// Whether visitors keep the variant that they once had; needs `request.sticky`.
        sticky: bool | null = false => Flag,
        /// Raise it to bucket every visitor anew.
        sticky_version: u32 | null = 0 => whole(0, u32::MAX as u64),
        /// Switches a variant off whose share of visitors with a 5xx is significantly above the baseline's, on the proxy
        /// that observes it and until the document's next revision.
        guardrail: Option<Guardrail> = None => Nullable(lenient()),
        /// The variants. Their weights add up to 10,000.
        variants: Vec<Variant> => VARIANTS,
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Progress {
    Running,
    Paused,
    Concluded,
}

const PROGRESS: Choice<Progress> =
    Choice(|| vec![("running", Progress::Running), ("paused", Progress::Paused), ("concluded", Progress::Concluded)]);

const FORCED: Map<Text> =
    Map { name: |unit| Ok(unit.to_owned()), pattern: "", refused: &[], value: TEXT, members_max: usize::MAX };

crate::document! {
    /// The part of a layer that an experiment takes, as it is written.
    #[derive(Debug)]
    struct Layer {
        /// The name of the layer.
        name: String => KEY,
        /// From and to, which is exclusive. Slots of a layer may not overlap.
        slots: (u32, u32) => SLOTS,
    }
}

crate::document! {
    for TrafficStep {
        /// The time from which the share applies.
        from_ms as "from": i64 => MOMENT,
        /// How many of 10,000 take part.
        share: u32 => SHARE,
    }
}

crate::document! {
    for Guardrail {
        /// Visitors that the variant and the baseline need each before they are compared.
        min_exposures: u64 | null = guardrail::MIN_EXPOSURES => whole(
            *guardrail::MIN_EXPOSURES_BOUNDS.start() as u64,
            *guardrail::MIN_EXPOSURES_BOUNDS.end() as u64,
        ),
        /// How much higher the share of visitors with a 5xx may be than the baseline's.
        max_5xx_ratio_increase: f64 | null = guardrail::MAX_5XX_RATIO_INCREASE => number(0.0, 1.0),
        /// The confidence required to switch a variant off, over all comparisons together.
        confidence: f64 | null = guardrail::CONFIDENCE => number(
            *guardrail::CONFIDENCE_BOUNDS.start(),
            *guardrail::CONFIDENCE_BOUNDS.end(),
        ),
    }
}

crate::document! {
    /// A variant as it is written.
    #[derive(Debug)]
    struct Variant {
        /// Its name. Unique in the experiment.
        key: String => KEY,
        /// Its part of the visitors, in 1/10,000; may be 0.
        weight: u32 => SHARE,
        /// Whether visitors outside the experiment see this variant, which then has no part in the cache key. One at
        /// most.
        baseline: bool | null = false => Flag,
        /// The changes that the variant makes. A baseline may set only response headers.
        set: Effects | null = Effects::default() => strict(),
    }
}

const VARIANTS: Then<List<Object<Variant>>, Vec<Variant>> = Then {
    kind: List(strict()),
    then: |variants, node, problems| {
        check_variants(&variants, node, problems);
        Some(variants)
    },
};

/// How many keys of variants a message lists.
const KEYS_SHOWN_MAX: usize = 20;

fn check_variants(variants: &[Variant], node: Node<'_>, problems: &mut Problems) {
    let before = problems.errors();
    let (mut keys, mut has_baseline) = (HashSet::new(), false);
    for (at, variant) in variants.iter().enumerate() {
        let path = node.path.index(at);
        if !keys.insert(variant.key.clone()) {
            problems.error(&path.field("key"), format_args!("duplicate key {:?}", variant.key));
        }
        if variant.baseline && std::mem::replace(&mut has_baseline, true) {
            problems.error(&path.field("baseline"), "another variant is the baseline already");
        }
        if variant.baseline {
            check_baseline(&variant.set, &path.field("set"), problems);
        }
    }
    // Each weight is bounded, so a list that fits in memory cannot overflow.
    let total: u64 = variants.iter().map(|variant| u64::from(variant.weight)).sum();
    if variants.is_empty() {
        node.expected(problems, "at least one variant");
    } else if problems.errors() == before && total != u64::from(BUCKETS) {
        problems.error(node.path, format_args!("weights add up to {total}, not to {BUCKETS}"));
    }
}

/// A baseline has no part in the cache key, so it must not change the request.
fn check_baseline(set: &Effects, path: &Path<'_>, problems: &mut Problems) {
    let changes = [
        ("request_headers", !set.request_headers.is_empty()),
        ("path", set.path.is_some()),
        ("redirect", set.redirect.is_some()),
    ];
    for (name, _) in changes.into_iter().filter(|(_, is_set)| *is_set) {
        problems.error(&path.field(name), BASELINE_CHANGES_REQUEST);
    }
}

/// Compiles an experiment. Every error that it adds to `problems` disables the experiment.
pub(super) fn compile(node: Node<'_>, position: usize, problems: &mut Problems) -> Option<snapshot::Experiment> {
    let experiment = lenient::<Experiment>().read(node, problems)?;
    if let (Some(starts), Some(ends)) = (experiment.starts, experiment.ends)
        && ends <= starts
    {
        problems.error(&node.path.field("ends"), "not after `starts`: no visitor would ever be in the experiment");
    }
    if experiment.guardrail.is_some() && !experiment.variants.iter().any(|variant| variant.baseline) {
        let message = "one of the variants has to be the `baseline` that the others are compared with";
        problems.error(&node.path.field("guardrail"), message);
    }
    for (at, variant) in experiment.variants.iter().enumerate() {
        if effects::leads_nowhere(&variant.set, &experiment.route) {
            let path = node.path.field("variants");
            let message = "every request of the route is at this target already: the redirect can never lead elsewhere";
            problems.error(&path.index(at).field("set").field("redirect"), message);
        }
    }
    let state = state(&experiment, node.path, problems)?;
    let forced = forced(&experiment, node.path, problems);
    let salt = experiment.salt.as_ref().unwrap_or(&experiment.key);
    let (traffic_salt, variant_salt) = (format!("{salt}/traffic/"), format!("{salt}/variant/"));
    Some(snapshot::Experiment {
        traffic_salt: Salt::new(traffic_salt),
        variant_salt: Salt::new(variant_salt),
        state,
        unit: experiment.unit,
        route: experiment.route,
        audience: experiment.audience,
        layer: experiment.layer.map(|Layer { name, slots: (from, to) }| snapshot::Layer {
            salt: Salt::new(format!("layer/{name}/")),
            from,
            to,
        }),
        traffic: experiment.traffic,
        starts_ms: experiment.starts,
        ends_ms: experiment.ends,
        forced,
        sticky: experiment.sticky.then_some(experiment.sticky_version),
        guardrail: experiment.guardrail,
        variants: compile_variants(&experiment.key, experiment.variants),
        rank: 0,
        core: snapshot::DecisionCore::default(),
        position,
        key: experiment.key,
    })
}

fn compile_variants(experiment: &str, variants: Vec<Variant>) -> Vec<snapshot::Variant> {
    let mut bucket_end = 0;
    let variants = variants.into_iter().map(|Variant { key, weight, baseline, set }| {
        bucket_end += weight; // they add up to 10,000
        snapshot::Variant {
            bucket_end,
            baseline,
            assignment: Some(assignments::assignment_pair(experiment, &key)),
            cache_pair: (!baseline).then(|| assignments::cache_pair(experiment, &key)),
            effects: set,
            tag: snapshot::Variant::tag(experiment, &key),
            key,
        }
    });
    variants.collect()
}

/// The state; `concluded` needs a winner.
fn state(experiment: &Experiment, path: &Path<'_>, problems: &mut Problems) -> Option<State> {
    let path = path.field("winner");
    let winner = match &experiment.winner {
        Some(key) => Some(variant_at(experiment, &positions(experiment), key, &path, problems)?),
        None => None,
    };
    match (experiment.state, winner) {
        (Progress::Running, _) => Some(State::Running),
        (Progress::Paused, _) => Some(State::Paused),
        (Progress::Concluded, Some(winner)) => Some(State::Concluded(winner)),
        (Progress::Concluded, None) => {
            let keys = keys(experiment);
            problems.error(&path, format_args!("missing: a concluded experiment names the variant that won ({keys})"));
            None
        }
    }
}

fn forced(experiment: &Experiment, path: &Path<'_>, problems: &mut Problems) -> HashMap<String, usize> {
    let (path, positions) = (path.field("forced"), positions(experiment));
    let forced = experiment.forced.iter().filter_map(|(unit, key)| {
        Some((unit.clone(), variant_at(experiment, &positions, key, &path.field(unit), problems)?))
    });
    forced.collect()
}

/// The positions of the variants by their keys.
fn positions(experiment: &Experiment) -> HashMap<String, usize> {
    experiment.variants.iter().enumerate().map(|(position, variant)| (variant.key.clone(), position)).collect()
}

/// The position of the variant `key`, which stands at `path`.
fn variant_at(
    experiment: &Experiment,
    positions: &HashMap<String, usize>,
    key: &str,
    path: &Path<'_>,
    problems: &mut Problems,
) -> Option<usize> {
    let position = positions.get(key).copied();
    if position.is_none() {
        let keys = keys(experiment);
        problems.error(path, format_args!("expected the key of a variant ({keys}), found the string {key:?}"));
    }
    position
}

/// The first keys of variants, for a message. Costs nothing until it is printed.
fn keys(experiment: &Experiment) -> impl fmt::Display {
    let keys = experiment.variants.iter().take(KEYS_SHOWN_MAX).map(|variant| variant.key.as_str());
    fmt::from_fn(move |f| f.write_str(&keys.clone().collect::<Vec<_>>().join(", ")))
}
