//! One rule: an experiment, a rule of a rollout, or a holdout.

use super::variable::VariableTypes;
use crate::diagnostics::{Node, Problems};
use crate::document::{Flag, KEY, List, TEXT, open, whole};
use crate::element::{read, required};
use crate::optimizely::audience::{Compiler, Tree};
use crate::optimizely::datafile::{Range, Rule, Variation};
use edgesplit_engine::condition::value::JsValue;
use serde_json::{Map, Value};
use std::collections::HashMap;

const STATUSES: &[&str] = &["Running", "Paused", "Not started", "Launched", "Draft", "Concluded", "Archived"];

/// The kinds of rules.
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

crate::document! {
    struct RuleWire {
        /// Its id.
        id: String => TEXT,
        /// Its key.
        key: String => KEY,
        /// Whether it runs.
        status: String => TEXT,
        /// Its variations.
        variations: Vec<VariationWire> => List(open()),
        /// Their shares of its traffic.
        traffic_allocation as "trafficAllocation": Vec<RangeWire> => List(open()),
    }
}

crate::document! {
    struct VariationWire {
        /// Its id.
        id: String => TEXT,
        /// Its key.
        key: String => KEY,
        /// Whether it turns the flag on.
        enabled as "featureEnabled": bool | null = false => Flag,
        /// The values of the flag's variables.
        variables: Vec<ValueWire> | null = Vec::new() => List(open()),
    }
}

crate::document! {
    struct ValueWire {
        /// The variable's id.
        id: String => TEXT,
        /// The value, as text.
        value: String => TEXT,
    }
}

crate::document! {
    /// A range of buckets.
    pub(super) struct RangeWire {
        /// The id of the variation or experiment that gets the range.
        pub(super) entity_id as "entityId": String => TEXT,
        /// The first bucket behind it.
        pub(super) end_of_range as "endOfRange": u32 => whole(0, u32::MAX as u64),
    }
}

crate::document! {
    struct LayerWire {
        /// The id of its campaign.
        layer_id as "layerId": String => TEXT,
    }
}

crate::document! {
    struct HoldoutWire {
        /// Whether its visitors still get rollouts.
        spares_rollouts as "excludeTargetedDeliveries": bool | null = false => Flag,
    }
}

/// Compiles rules.
pub(super) struct Rules<'a> {
    pub(super) audience_ids: &'a HashMap<String, usize>,
    pub(super) types: &'a VariableTypes,
}

impl Rules<'_> {
    /// The rule at `node`; none if its shape is wrong. Other problems are reported, and the SDKs tolerate them.
    pub(super) fn rule(
        &self,
        node: Node<'_>,
        kind: Kind,
        group: Option<usize>,
        problems: &mut Problems,
    ) -> Option<Rule> {
        let wire = read::<RuleWire>(node, problems)?;
        if !STATUSES.contains(&wire.status.as_str()) {
            let path = node.path.field("status");
            let message = format!("unknown status {:?}: the rule does not run", wire.status);
            problems.error(&path, message);
        }
        let audience = self.audience(node, problems)?;
        let variations = self.variations(node, wire.variations, problems);
        let allocation = allocation(node, &wire.traffic_allocation, &variations, problems);
        let mut rule = Rule {
            kind: kind.name(),
            id: wire.id,
            key: wire.key,
            campaign_id: String::new(),
            is_running: wire.status == "Running",
            spares_rollouts: false,
            forced: HashMap::new(),
            audience,
            group,
            is_cmab: node.value.get("cmab").is_some_and(|cmab| JsValue::from(cmab).is_true()),
            allocation,
            variations,
        };
        if rule.is_cmab {
            let message = "a contextual bandit asks Optimizely for each decision: it is passed over here";
            problems.warning(&node.path.field("cmab"), message);
        }
        if kind == Kind::Holdout {
            rule.spares_rollouts = spares_rollouts(node, problems)?;
            // In a holdout, the SDKs give every variable its default.
            rule.variations.iter_mut().for_each(|variation| variation.values.clear());
        } else {
            // Without a layer, the experiment's id takes its place, as in the SDKs.
            let layer = read::<LayerWire>(node, problems);
            rule.campaign_id = layer.map(|layer| layer.layer_id).unwrap_or_default();
            let forced = required(node, "forcedVariations", problems, |node, problems| forced(node, &rule, problems));
            rule.forced = forced.unwrap_or_default();
        }
        Some(rule)
    }

    /// The audience of the rule: `audienceConditions`, else `audienceIds`.
    fn audience(&self, node: Node<'_>, problems: &mut Problems) -> Option<Option<Tree>> {
        let is_typed = node.value.get("audienceConditions").is_some_and(|value| !value.is_null());
        let name = if is_typed { "audienceConditions" } else { "audienceIds" };
        required(node, name, problems, |node, problems| {
            if !is_typed {
                node.array(problems)?;
            }
            Some(Compiler { ids: self.audience_ids, problems }.targeting(&node))
        })
    }

    fn variations(&self, node: Node<'_>, wires: Vec<VariationWire>, problems: &mut Problems) -> Vec<Variation> {
        let list = node.path.field("variations");
        let mut variations = Vec::with_capacity(wires.len());
        for (index, wire) in wires.into_iter().enumerate() {
            let path = list.index(index);
            let variables = path.field("variables");
            let mut values = Map::new();
            for (index, wire) in wire.variables.into_iter().enumerate() {
                let path = variables.index(index);
                let variable_type = self.types.get(&wire.id, &path.field("id"), problems);
                let text = Value::from(wire.value.as_str());
                let value = variable_type.map(|variable_type| {
                    variable_type.cast(&wire.value, &Node { value: &text, path: &path.field("value") }, problems)
                });
                values.insert(wire.id, value.unwrap_or_default());
            }
            variations.push(Variation { id: wire.id, key: wire.key, enabled: wire.enabled, values });
        }
        variations
    }
}

/// The variations' positions by ranges of buckets. A range that leads nowhere gets none.
fn allocation(
    node: Node<'_>,
    wires: &[RangeWire],
    variations: &[Variation],
    problems: &mut Problems,
) -> Vec<Range<Option<usize>>> {
    let list = node.path.field("trafficAllocation");
    let range = |(index, wire): (usize, &RangeWire)| {
        // If two variations have the same id, the SDKs know the last.
        let to = variations.iter().rposition(|variation| variation.id == wire.entity_id);
        if to.is_none() && !wire.entity_id.is_empty() && !variations.is_empty() {
            let message = format!("there is no variation {:?}: this traffic gets none", wire.entity_id);
            problems.error(&list.index(index).field("entityId"), message);
        }
        Range { end: wire.end_of_range, to }
    };
    wires.iter().enumerate().map(range).collect()
}

/// The variations' keys by the users who are whitelisted for them. Invalid entries do not count.
fn forced(node: Node<'_>, rule: &Rule, problems: &mut Problems) -> Option<HashMap<String, String>> {
    let mut forced = HashMap::new();
    for (user, value) in node.object(problems)? {
        let path = node.path.field(user);
        let Some(key) = (Node { value, path: &path }).string(problems) else { continue };
        forced.insert(user.clone(), key.to_owned());
        if rule.variation_of_key(key).is_none() {
            problems.error(&path, format_args!("there is no variation {key:?}: this entry does not count"));
        }
    }
    Some(forced)
}

fn spares_rollouts(node: Node<'_>, problems: &mut Problems) -> Option<bool> {
    for name in ["includedFlags", "excludedFlags"] {
        let names_flags = node.value.get(name).and_then(Value::as_array).is_some_and(|flags| !flags.is_empty());
        if names_flags {
            problems.warning(&node.path.field(name), "ignored, as by the SDKs: this holdout is about every flag");
        }
    }
    Some(read::<HoldoutWire>(node, problems)?.spares_rollouts)
}
