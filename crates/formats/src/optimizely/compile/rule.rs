//! One rule: an experiment, a rule of a rollout, or a holdout.

use super::variable::VariableTypes;
use crate::diagnostics::{Node, Problems, Severity};
use crate::optimizely::KEY_BYTES_MAX;
use crate::optimizely::audience::{Compiler, Tree};
use crate::optimizely::datafile::{Range, Rule, Variation};
use crate::optimizely::wire::{boolean, list, optional, required, string};
use serde_json::Value;
use std::collections::HashMap;

/// Buckets end at 10,000; what ends behind them takes in the rest.
const RANGE_END_MAX: u64 = u32::MAX as u64;

const FIELDS: &[&str] = &[
    "id",
    "key",
    "status",
    "layerId",
    "audienceIds",
    "audienceConditions",
    "variations",
    "trafficAllocation",
    "forcedVariations",
    "type",
    "cmab",
];

const HOLDOUT_FIELDS: &[&str] = &[
    "id",
    "key",
    "status",
    "audienceIds",
    "audienceConditions",
    "variations",
    "trafficAllocation",
    "includedRules",
    "includedFlags",
    "excludedFlags",
    "exclude_targeted_deliveries",
    "excludeTargetedDeliveries",
    // Written like an experiment's, and not read by the SDKs.
    "layerId",
    "forcedVariations",
    "audiences",
];

const STATUSES: &[&str] = &["Running", "Paused", "Not started", "Launched", "Draft", "Concluded", "Archived"];

/// What kind of rule stands there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Experiment,
    Delivery,
    Holdout,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Kind::Experiment => "experiment",
            Kind::Delivery => "rule",
            Kind::Holdout => "holdout",
        }
    }
}

/// What reading rules needs at hand.
pub(super) struct Rules<'a> {
    pub(super) audience_ids: &'a HashMap<String, usize>,
    pub(super) types: &'a VariableTypes,
}

impl Rules<'_> {
    /// Reads a rule; none where its shape is wrong. What is reported beside that is what the SDKs put up with.
    pub(super) fn rule(
        &self,
        node: Node<'_>,
        kind: Kind,
        group: Option<usize>,
        problems: &mut Problems,
    ) -> Option<Rule> {
        node.object(problems)?;
        let is_holdout = kind == Kind::Holdout;
        let fields = if is_holdout { HOLDOUT_FIELDS } else { FIELDS };
        node.unknown_fields(fields, Severity::Warning, problems);
        let id = required(node, "id", problems, string);
        let key = required(node, "key", problems, key);
        let status = required(node, "status", problems, status);
        let audience = self.audience(node, problems);
        let variations = required(node, "variations", problems, |node, problems| {
            list(node, problems, |node, problems| self.variation(node, problems))
        });
        let known = variations.as_deref().unwrap_or_default();
        let allocation = required(node, "trafficAllocation", problems, |node, problems| {
            list(node, problems, |node, problems| range(node, known, problems))
        });
        let cmab_share = match kind {
            Kind::Experiment => optional(node, "cmab", problems, cmab_share),
            Kind::Delivery | Kind::Holdout => Some(None),
        };
        // What follows takes nothing else along: without a layer the experiment's id stands for it, as in the SDKs.
        let (layer_id, forced) = match kind {
            Kind::Holdout => (None, HashMap::new()),
            Kind::Experiment | Kind::Delivery => (
                required(node, "layerId", problems, string),
                required(node, "forcedVariations", problems, |node, problems| forced(node, known, problems))
                    .unwrap_or_default(),
            ),
        };
        let spares_rollouts = is_holdout && spares_rollouts(node, problems)?;
        Some(Rule {
            kind: kind.name(),
            id: id?,
            key: key?,
            campaign_id: layer_id.unwrap_or_default(),
            is_running: status? == "Running",
            spares_rollouts,
            forced,
            audience: audience?,
            group,
            cmab_share: cmab_share?,
            allocation: allocation?,
            variations: variations?,
        })
    }

    /// Who the rule is for: `audienceConditions`, else `audienceIds`.
    fn audience(&self, node: Node<'_>, problems: &mut Problems) -> Option<Option<Tree>> {
        let read = |node: Node<'_>, problems: &mut Problems| {
            Some(Compiler { ids: self.audience_ids, problems }.targeting(&node))
        };
        match optional(node, "audienceConditions", problems, read)? {
            Some(audience) => Some(audience),
            None => required(node, "audienceIds", problems, |node, problems| {
                node.array(problems)?;
                read(node, problems)
            }),
        }
    }

    fn variation(&self, node: Node<'_>, problems: &mut Problems) -> Option<Variation> {
        node.object(problems)?;
        node.unknown_fields(&["id", "key", "name", "featureEnabled", "variables"], Severity::Warning, problems);
        let id = required(node, "id", problems, string);
        let key = required(node, "key", problems, key);
        let enabled = optional(node, "featureEnabled", problems, boolean);
        let values = optional(node, "variables", problems, |node, problems| {
            list(node, problems, |node, problems| self.value(node, problems))
        });
        Some(Variation { id: id?, key: key?, enabled: enabled?.unwrap_or(false), values: values?.unwrap_or_default() })
    }

    /// The value that a variation has for a variable.
    fn value(&self, node: Node<'_>, problems: &mut Problems) -> Option<(String, Value)> {
        node.object(problems)?;
        node.unknown_fields(&["id", "value", "key", "type"], Severity::Warning, problems);
        let id = required(node, "id", problems, string);
        let id_path = node.path.field("id");
        let variable_type = id.as_ref().and_then(|id| self.types.get(id, &id_path, problems));
        let value = required(node, "value", problems, |node, problems| {
            let text = node.string(problems)?;
            Some(variable_type.map_or(Value::Null, |variable_type| variable_type.cast(text, &node, problems)))
        });
        Some((id?, value?))
    }
}

/// A key: a text that is not empty and not too long.
pub(super) fn key(node: Node<'_>, problems: &mut Problems) -> Option<String> {
    let key = node.string(problems)?;
    if (1..=KEY_BYTES_MAX).contains(&key.len()) {
        return Some(key.to_owned());
    }
    node.expected(problems, &format!("a key of 1 to {KEY_BYTES_MAX} bytes"));
    None
}

fn status(node: Node<'_>, problems: &mut Problems) -> Option<String> {
    let status = node.string(problems)?;
    if !STATUSES.contains(&status) {
        node.expected(problems, &format!("one of {}; it does not run", STATUSES.join(", ")));
    }
    Some(status.to_owned())
}

/// The end of a range of buckets.
pub(super) fn range_end(node: Node<'_>, problems: &mut Problems) -> Option<u32> {
    required(node, "endOfRange", problems, |node, problems| {
        node.integer(0..=RANGE_END_MAX, problems).and_then(|end| u32::try_from(end).ok())
    })
}

fn range(node: Node<'_>, variations: &[Variation], problems: &mut Problems) -> Option<Range<Option<usize>>> {
    node.object(problems)?;
    node.unknown_fields(&["entityId", "endOfRange"], Severity::Warning, problems);
    let end = range_end(node, problems);
    let to = required(node, "entityId", problems, |node, problems| {
        let id = node.string(problems)?;
        // Of two variations with one id the SDKs know the last.
        let position = variations.iter().rposition(|variation| variation.id == id);
        if position.is_none() && !id.is_empty() && !variations.is_empty() {
            problems.error(node.path, format!("there is no variation {id:?}: this traffic gets none"));
        }
        Some(position)
    });
    Some(Range { end: end?, to: to? })
}

/// Who gets which variation whatever their bucket. An entry that is wrong does not count.
fn forced(node: Node<'_>, variations: &[Variation], problems: &mut Problems) -> Option<HashMap<String, usize>> {
    let mut forced = HashMap::new();
    for (user, value) in node.object(problems)? {
        let path = node.path.field(user);
        let Some(key) = (Node { value, path: &path }).string(problems) else { continue };
        match variations.iter().rposition(|variation| variation.key == key) {
            Some(position) => {
                forced.insert(user.clone(), position);
            }
            None => problems.error(&path, format!("there is no variation {key:?}: this entry does not count")),
        }
    }
    Some(forced)
}

fn cmab_share(node: Node<'_>, problems: &mut Problems) -> Option<u32> {
    node.object(problems)?;
    node.unknown_fields(&["attributeIds", "trafficAllocation"], Severity::Warning, problems);
    problems.warning(node.path, "a contextual bandit asks Optimizely at every decision: nobody gets a variation here");
    required(node, "trafficAllocation", problems, |node, problems| {
        node.integer(0..=RANGE_END_MAX, problems).and_then(|share| u32::try_from(share).ok())
    })
}

fn spares_rollouts(node: Node<'_>, problems: &mut Problems) -> Option<bool> {
    for name in ["includedFlags", "excludedFlags"] {
        let names_flags = node.value.get(name).and_then(Value::as_array).is_some_and(|flags| !flags.is_empty());
        if names_flags {
            problems.warning(&node.path.field(name), "ignored, as by the SDKs: this holdout is about every flag");
        }
    }
    let [snake, camel] = ["exclude_targeted_deliveries", "excludeTargetedDeliveries"]
        .map(|name| optional(node, name, problems, boolean));
    Some(snake?.or(camel?).unwrap_or(false))
}
