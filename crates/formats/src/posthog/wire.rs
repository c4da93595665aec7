//! The payload, as it is written.

use crate::diagnostics::{Node, Problems};
use crate::document::{AnyObject, Flag, KEY, Kind, List, Nullable, Number, TEXT, Whole, number, open, whole};
use serde_json::{Value, json};

/// Any value.
struct Anything;

impl Kind for Anything {
    type Value = Option<Value>;

    fn expected(&self) -> String {
        "any value".to_owned()
    }

    fn read(&self, node: Node<'_>, _: &mut Problems) -> Option<Option<Value>> {
        Some(Some(node.value.clone()))
    }

    fn schema(&self) -> Value {
        json!({})
    }
}

const PERCENT: Number = number(-1e9, 1e9);
const GROUP_TYPE: Whole<u32> = whole(0, u32::MAX as u64);

crate::document! {
    /// A flag.
    pub(super) struct FlagWire {
        /// Its key.
        pub(super) key: String => KEY,
        /// Whether it is on at all.
        pub(super) active: bool | null = false => Flag,
        /// Its rules.
        pub(super) filters: FiltersWire | null = FiltersWire::default() => open(),
        /// Whether a decision is kept when the visitor logs in: only PostHog's server knows it.
        pub(super) continuity as "ensure_experience_continuity": bool | null = false => Flag,
        /// The identifier that is bucketed.
        pub(super) bucketing as "bucketing_identifier": Option<String> = None => Nullable(TEXT),
        /// Whether an experiment uses it.
        pub(super) has_experiment: bool | null = true => Flag,
    }
}

crate::document! {
    /// The rules of a flag.
    pub(super) struct FiltersWire {
        /// The groups of conditions.
        pub(super) groups: Vec<GroupWire> | null = Vec::new() => List(open()),
        /// The variants.
        pub(super) multivariate: MultivariateWire | null = MultivariateWire::default() => open(),
        /// JSON texts, by results.
        pub(super) payloads: Value | null = Value::Null => AnyObject,
        /// The type of the groups that the flag is about.
        pub(super) aggregation as "aggregation_group_type_index": Option<u32> = None => Nullable(GROUP_TYPE),
        /// Whether a visitor outside the share of a group is in no later one.
        pub(super) early_exit: bool | null = false => Flag,
        /// The visitors who are held out.
        pub(super) holdout: Option<HoldoutWire> = None => Nullable(open()),
        /// Whether visitors choose by themselves.
        pub(super) feature_enrollment: bool | null = false => Flag,
        /// An older place of the identifier that is bucketed.
        pub(super) bucketing as "bucketing_identifier": Option<String> = None => Nullable(TEXT),
    }
}

crate::document! {
    /// A group of conditions.
    pub(super) struct GroupWire {
        /// Conditions on properties, all of which must hold.
        pub(super) properties: Vec<Value> | null = Vec::new() => List(AnyObject),
        /// The share of visitors.
        pub(super) share as "rollout_percentage": Option<f64> = None => Nullable(PERCENT),
        /// The variant, instead of the one that is bucketed.
        pub(super) variant: Option<String> = None => Nullable(TEXT),
        /// The type of the groups that the conditions are about. Null is a type of its own: persons.
        pub(super) aggregation as "aggregation_group_type_index": Option<Value> = None => Anything,
    }
}

crate::document! {
    /// The variants of a flag.
    pub(super) struct MultivariateWire {
        /// The variants.
        pub(super) variants: Vec<VariantWire> | null = Vec::new() => List(open()),
    }
}

crate::document! {
    /// A variant.
    pub(super) struct VariantWire {
        /// Its key.
        pub(super) key: String => KEY,
        /// Its share.
        pub(super) share as "rollout_percentage": f64 => PERCENT,
    }
}

crate::document! {
    /// Visitors who are held out.
    pub(super) struct HoldoutWire {
        /// Its id.
        pub(super) id: Option<Value> = None => Anything,
        /// The share of visitors.
        pub(super) share as "exclusion_percentage": Option<f64> = None => Nullable(PERCENT),
    }
}
