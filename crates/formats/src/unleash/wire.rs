//! The payload, as it is written.

use crate::document::{Flag, KEY, List, Nullable, TEXT, Whole, open, whole};

const TEXTS: List<crate::document::Text> = List(TEXT);
const WEIGHT: Whole<u32> = whole(0, i32::MAX as u64);

crate::document! {
    /// A feature.
    pub(super) struct FeatureWire {
        /// Its name.
        pub(super) name: String => KEY,
        /// Whether it is on at all.
        pub(super) enabled: bool => Flag,
        /// Its strategies.
        pub(super) strategies: Vec<StrategyWire> | null = Vec::new() => List(open()),
        /// Its variants.
        pub(super) variants: Vec<VariantWire> | null = Vec::new() => List(open()),
        /// The features that it depends on.
        pub(super) dependencies: Vec<DependencyWire> | null = Vec::new() => List(open()),
    }
}

crate::document! {
    /// A strategy.
    pub(super) struct StrategyWire {
        /// Its name.
        pub(super) name: String => TEXT,
        /// Its parameters.
        pub(super) parameters: ParametersWire | null = ParametersWire::default() => open(),
        /// Constraints, all of which must hold.
        pub(super) constraints: Vec<ConstraintWire> | null = Vec::new() => List(open()),
        /// Segments, by their ids.
        pub(super) segments: Vec<u32> | null = Vec::new() => List(whole(0, i32::MAX as u64)),
        /// Its variants.
        pub(super) variants: Vec<VariantWire> | null = Vec::new() => List(open()),
    }
}

crate::document! {
    /// The parameters of a strategy.
    pub(super) struct ParametersWire {
        /// Users.
        pub(super) user_ids as "userIds": Option<String> = None => Nullable(TEXT),
        /// Addresses.
        pub(super) addresses as "IPs": Option<String> = None => Nullable(TEXT),
        /// The share of a flexible rollout.
        pub(super) rollout: Option<String> = None => Nullable(TEXT),
        /// The share of a gradual rollout.
        pub(super) percentage: Option<String> = None => Nullable(TEXT),
        /// The field that is bucketed.
        pub(super) stickiness: Option<String> = None => Nullable(TEXT),
        /// The salt.
        pub(super) group_id as "groupId": Option<String> = None => Nullable(TEXT),
    }
}

crate::document! {
    /// A constraint.
    pub(super) struct ConstraintWire {
        /// The field that it is about.
        pub(super) context_name as "contextName": String => TEXT,
        /// Its operator.
        pub(super) operator: String => TEXT,
        /// The operands of an operator on lists.
        pub(super) values: Vec<String> | null = Vec::new() => TEXTS,
        /// The operand of other operators.
        pub(super) value: Option<String> = None => Nullable(TEXT),
        /// Whether it holds if the check fails.
        pub(super) inverted: bool | null = false => Flag,
        /// Whether the case of letters does not count.
        pub(super) case_insensitive as "caseInsensitive": bool | null = false => Flag,
    }
}

crate::document! {
    /// A variant.
    pub(super) struct VariantWire {
        /// Its name.
        pub(super) name: String => KEY,
        /// Its share, relative to those of the others.
        pub(super) weight: u32 => WEIGHT,
        /// The field that is bucketed.
        pub(super) stickiness: Option<String> = None => Nullable(TEXT),
        /// Its value.
        pub(super) payload: Option<PayloadWire> = None => Nullable(open()),
        /// The visitors who always get it.
        pub(super) overrides: Vec<OverrideWire> | null = Vec::new() => List(open()),
    }
}

crate::document! {
    /// The value of a variant.
    pub(super) struct PayloadWire {
        /// Its type.
        pub(super) kind as "type": String => TEXT,
        /// Its text.
        pub(super) value: String => TEXT,
    }
}

crate::document! {
    /// Visitors who always get a variant.
    pub(super) struct OverrideWire {
        /// A field.
        pub(super) context_name as "contextName": String => TEXT,
        /// Its values.
        pub(super) values: Vec<String> => TEXTS,
    }
}

crate::document! {
    /// A feature that another one depends on.
    pub(super) struct DependencyWire {
        /// Its name.
        pub(super) feature: String => TEXT,
        /// Whether it must be on or off.
        pub(super) enabled: bool | null = true => Flag,
        /// Its variants that count; empty for all.
        pub(super) variants: Vec<String> | null = Vec::new() => TEXTS,
    }
}

crate::document! {
    /// A segment.
    pub(super) struct SegmentWire {
        /// Its id.
        pub(super) id: u32 => whole(0, i32::MAX as u64),
        /// Its constraints.
        pub(super) constraints: Vec<ConstraintWire> | null = Vec::new() => List(open()),
    }
}
