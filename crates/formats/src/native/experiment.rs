//! One experiment of the native format.

use super::{effects, key, member, required, route};
use edgesplit_engine::assignments;
use edgesplit_engine::attribute::AttributeName;

use crate::conditions;
use crate::diagnostics::{Node, Problems, Severity};
use edgesplit_engine::guardrail::{self, Guardrail};
use edgesplit_engine::hash::{BUCKETS, Salt};
use edgesplit_engine::snapshot::{Experiment, Layer, State, TrafficStep, Variant};
use serde_json::Value;
use std::collections::HashMap;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

const FIELDS: &[&str] = &[
    "key",
    "state",
    "winner",
    "salt",
    "unit",
    "layer",
    "route",
    "audience",
    "traffic",
    "starts",
    "ends",
    "forced",
    "sticky",
    "sticky_version",
    "guardrail",
    "variants",
];

/// Compiles an experiment. Whatever it pushes as an error disables the experiment.
pub(super) fn compile(node: Node<'_>, position: usize, problems: &mut Problems) -> Option<Experiment> {
    node.object(problems)?;
    node.unknown_fields(FIELDS, Severity::Warning, problems);
    let key = required(node, "key", problems, key);
    let variants = required(node, "variants", problems, |list, problems| variants(list, key.as_deref(), problems));
    let state = required(node, "state", problems, |state_node, problems| {
        state(state_node, node, variants.as_deref().unwrap_or_default(), problems)
    });
    let salt = member(node, "salt", problems, |node, problems| node.string(problems).map(str::to_owned));
    let unit = member(node, "unit", problems, unit);
    let layer = member(node, "layer", problems, layer);
    let route = member(node, "route", problems, |node, problems| route::compile(node, Severity::Warning, problems));
    let audience =
        member(node, "audience", problems, |node, problems| Some(conditions::compile(&node, &Value::Null, problems)));
    let traffic = member(node, "traffic", problems, traffic);
    let starts_ms = member(node, "starts", problems, moment);
    let ends_ms = member(node, "ends", problems, moment);
    if let (Some(Some(starts)), Some(Some(ends))) = (starts_ms, ends_ms)
        && ends <= starts
    {
        problems.error(&node.path.field("ends"), "not after `starts`: nobody would ever be in the experiment");
    }
    let forced = member(node, "forced", problems, |node, problems| {
        forced(node, variants.as_deref().unwrap_or_default(), problems)
    });
    let sticky = member(node, "sticky", problems, |node, problems| node.boolean(problems));
    let sticky_version = member(node, "sticky_version", problems, |node, problems| {
        u32::try_from(node.integer(0..=u64::from(u32::MAX), problems)?).ok()
    });
    let guardrail = member(node, "guardrail", problems, |node, problems| {
        guardrail(node, variants.as_deref().unwrap_or_default(), problems)
    });
    let (key, salt) = (key?, salt?);
    let salt = salt.unwrap_or_else(|| key.clone());
    Some(Experiment {
        traffic_salt: Salt::new(format!("{salt}/traffic/")),
        variant_salt: Salt::new(format!("{salt}/variant/")),
        state: state?,
        unit: unit?.unwrap_or(AttributeName::Id),
        route: route?.unwrap_or_default(),
        audience: audience?,
        layer: layer?,
        traffic: traffic?.unwrap_or_else(|| vec![TrafficStep { from_ms: i64::MIN, share: BUCKETS }]),
        starts_ms: starts_ms?,
        ends_ms: ends_ms?,
        forced: forced?.unwrap_or_default(),
        sticky: sticky_version?.or(Some(0)).filter(|_| sticky == Some(Some(true))),
        guardrail: guardrail?,
        variants: variants?,
        rank: 0,
        position,
        key,
    })
}

/// The state; `concluded` needs the winner that stands beside it.
fn state(node: Node<'_>, experiment: Node<'_>, variants: &[Variant], problems: &mut Problems) -> Option<State> {
    let winner = member(experiment, "winner", problems, |node, problems| {
        let key = node.string(problems)?;
        let position = variant_at(variants, key);
        if position.is_none() && !variants.is_empty() {
            node.expected(problems, &format!("the key of a variant ({})", names(variants)));
        }
        position
    })?;
    match (node.value.as_str(), winner) {
        (Some("running"), _) => Some(State::Running),
        (Some("paused"), _) => Some(State::Paused),
        (Some("concluded"), Some(winner)) => Some(State::Concluded(winner)),
        (Some("concluded"), None) => {
            let message = format!("missing: a concluded experiment names the variant that won ({})", names(variants));
            problems.error(&experiment.path.field("winner"), message);
            None
        }
        _ => {
            node.expected(problems, "\"running\", \"paused\" or \"concluded\"");
            None
        }
    }
}

fn names(variants: &[Variant]) -> String {
    variants.iter().map(|variant| variant.key.as_str()).collect::<Vec<_>>().join(", ")
}

fn variant_at(variants: &[Variant], key: &str) -> Option<usize> {
    variants.iter().position(|variant| variant.key == key)
}

fn unit(node: Node<'_>, problems: &mut Problems) -> Option<AttributeName> {
    let name = node.string(problems)?;
    if name.is_empty() {
        node.expected(problems, "the name of an attribute");
        return None;
    }
    Some(AttributeName::parse(name))
}

fn layer(node: Node<'_>, problems: &mut Problems) -> Option<Layer> {
    node.object(problems)?;
    node.unknown_fields(&["name", "slots"], Severity::Warning, problems);
    let name = required(node, "name", problems, key);
    let slots = required(node, "slots", problems, |node, problems| {
        let expected = "two whole numbers [from, to) with 0 <= from < to <= 10000";
        let [from, to] = node.array(problems)? else {
            node.expected(problems, expected);
            return None;
        };
        let from = share(Node { value: from, path: &node.path.index(0) }, problems)?;
        let to = share(Node { value: to, path: &node.path.index(1) }, problems)?;
        if from >= to {
            node.expected(problems, expected);
            return None;
        }
        Some((from, to))
    });
    let (name, (from, to)) = (name?, slots?);
    Some(Layer { salt: Salt::new(format!("layer/{name}/")), from, to })
}

/// A share, weight or slot: 1/10,000 each.
pub(super) fn share(node: Node<'_>, problems: &mut Problems) -> Option<u32> {
    node.integer(0..=u64::from(BUCKETS), problems).map(|share| share as u32)
}

/// One share from ever on, or a list of steps.
fn traffic(node: Node<'_>, problems: &mut Problems) -> Option<Vec<TrafficStep>> {
    let Some(list) = node.value.as_array() else {
        if !node.value.is_number() {
            node.expected(problems, "a share from 0 to 10000, or a list of steps {\"from\", \"share\"}");
            return None;
        }
        return share(node, problems).map(|share| vec![TrafficStep { from_ms: i64::MIN, share }]);
    };
    let mut steps: Vec<TrafficStep> = Vec::with_capacity(list.len());
    for (at, value) in list.iter().enumerate() {
        let path = node.path.index(at);
        let node = Node { value, path: &path };
        node.object(problems)?;
        node.unknown_fields(&["from", "share"], Severity::Warning, problems);
        let from_ms = required(node, "from", problems, moment);
        let share = required(node, "share", problems, share);
        let step = TrafficStep { from_ms: from_ms?, share: share? };
        if steps.last().is_some_and(|last| last.from_ms >= step.from_ms) {
            problems
                .error(&path.field("from"), "steps have to be sorted by time: this one is not after the one before");
        }
        steps.push(step);
    }
    Some(steps)
}

/// A moment in RFC 3339, in milliseconds since the epoch.
fn moment(node: Node<'_>, problems: &mut Problems) -> Option<i64> {
    let moment = node.value.as_str().and_then(|text| OffsetDateTime::parse(text, &Rfc3339).ok());
    match moment.and_then(|moment| i64::try_from(moment.unix_timestamp_nanos() / 1_000_000).ok()) {
        Some(moment) => Some(moment),
        None => {
            node.expected(problems, "a time in RFC 3339, such as \"2026-12-01T00:00:00Z\"");
            None
        }
    }
}

fn forced(node: Node<'_>, variants: &[Variant], problems: &mut Problems) -> Option<HashMap<String, usize>> {
    let mut forced = HashMap::new();
    for (unit, value) in node.object(problems)? {
        let path = node.path.field(unit);
        let node = Node { value, path: &path };
        match value.as_str().and_then(|key| variant_at(variants, key)) {
            Some(position) => {
                forced.insert(unit.clone(), position);
            }
            None => node.expected(problems, &format!("the key of a variant ({})", names(variants))),
        }
    }
    Some(forced)
}

/// When a variant is switched off. There has to be a baseline to compare with.
fn guardrail(node: Node<'_>, variants: &[Variant], problems: &mut Problems) -> Option<Guardrail> {
    node.object(problems)?;
    node.unknown_fields(&["min_exposures", "max_5xx_ratio_increase", "confidence"], Severity::Warning, problems);
    let defaults = Guardrail::default();
    let bounds =
        u64::from(*guardrail::MIN_EXPOSURES_BOUNDS.start())..=u64::from(*guardrail::MIN_EXPOSURES_BOUNDS.end());
    let min_exposures = member(node, "min_exposures", problems, |node, problems| node.integer(bounds, problems));
    let increase = member(node, "max_5xx_ratio_increase", problems, |node, problems| node.number(0.0..=1.0, problems));
    let confidence =
        member(node, "confidence", problems, |node, problems| node.number(guardrail::CONFIDENCE_BOUNDS, problems));
    if !variants.is_empty() && !variants.iter().any(|variant| variant.baseline) {
        problems.error(node.path, "one of the variants has to be the `baseline` that the others are compared with");
    }
    Some(Guardrail {
        min_exposures: min_exposures?.unwrap_or(defaults.min_exposures),
        max_5xx_ratio_increase: increase?.unwrap_or(defaults.max_5xx_ratio_increase),
        confidence: confidence?.unwrap_or(defaults.confidence),
    })
}

fn variants(node: Node<'_>, experiment: Option<&str>, problems: &mut Problems) -> Option<Vec<Variant>> {
    let list = node.array(problems)?;
    if list.is_empty() {
        node.expected(problems, "at least one variant");
        return None;
    }
    let before = problems.errors();
    let mut variants: Vec<Variant> = Vec::with_capacity(list.len());
    let mut total = 0;
    for (at, value) in list.iter().enumerate() {
        let path = node.path.index(at);
        let Some(read) = variant(Node { value, path: &path }, experiment, &mut total, problems) else { continue };
        if variant_at(&variants, &read.key).is_some() {
            problems.error(&path.field("key"), format!("duplicate key {:?}", read.key));
        }
        if read.baseline && variants.iter().any(|variant| variant.baseline) {
            problems.error(&path.field("baseline"), "another variant is the baseline already");
        }
        variants.push(read);
    }
    // With a weight unread the sum says nothing.
    if problems.errors() == before && total != BUCKETS {
        problems.error(node.path, format!("weights add up to {total}, not to {BUCKETS}"));
    }
    (problems.errors() == before).then_some(variants)
}

fn variant(node: Node<'_>, experiment: Option<&str>, total: &mut u32, problems: &mut Problems) -> Option<Variant> {
    node.object(problems)?;
    node.unknown_fields(&["key", "weight", "baseline", "set"], Severity::Warning, problems);
    let key = required(node, "key", problems, key);
    let weight = required(node, "weight", problems, share);
    let baseline = member(node, "baseline", problems, |node, problems| node.boolean(problems));
    let effects = member(node, "set", problems, effects::compile);
    // Each weight is bounded, so a list that fits in memory cannot overflow; saturating says so to the reader.
    *total = total.saturating_add(weight?);
    let (key, baseline, experiment) = (key?, baseline?.unwrap_or(false), experiment?);
    Some(Variant {
        bucket_end: *total,
        baseline,
        assignment: Some(assignments::assignment_pair(experiment, &key)),
        cache_pair: (!baseline).then(|| assignments::cache_pair(experiment, &key)),
        effects: effects?.unwrap_or_default(),
        tag: Variant::tag(experiment, &key),
        key,
    })
}
