//! Decides features.

use super::constraint::{Constraint, Source};
use super::feature::{Feature, Features, Gate, OFF, ON, Parent, Stickiness, Strategy, Variant, Variants};
use crate::metered::Metered;
use crate::report::{report, report_limit};
use edgesplit_engine::flag::{FlagEvaluator, FlagSink, FlagVisitor, Outcome};
use edgesplit_engine::free::free_from;
use edgesplit_engine::hash::murmur3;
use edgesplit_engine::observer::IS_OBSERVABLE;
use edgesplit_engine::reason::Reason;
use std::borrow::Cow;

/// The seed of variants' hashes. Rollouts have the seed 0.
const VARIANT_SEED: u32 = 86_028_157;

impl FlagEvaluator for Features {
    fn decide(&self, flags: &[usize], visitor: &FlagVisitor<'_>, sink: &mut dyn FlagSink) {
        for &number in flags {
            let Some(feature) = self.features.get(number) else { continue };
            let context = Metered::new(visitor, &feature.outcomes);
            let (outcome, reason) =
                if context.is_exceeded() { (OFF, "") } else { self.decision(feature, &context, sink) };
            if context.is_exceeded() {
                report_limit(sink, number);
                continue;
            }
            let shown = Some(outcome).filter(|outcome| ![OFF, ON].contains(outcome));
            let unit = shown.and_then(|outcome| feature.variants_of(outcome).unit(&context));
            let unit = unit.as_ref().map(|(attribute, unit)| (&**attribute, &**unit));
            let decided = (outcome, Reason::Vendor(reason));
            report(sink, (number, &feature.name), &feature.outcomes, decided, unit);
        }
    }

    fn outcomes(&self, flag: usize) -> &[Outcome] {
        self.features.get(flag).map_or(&[], |feature| &feature.outcomes)
    }

    fn free(&mut self, left: &mut usize) {
        free_from(&mut self.features, left, |feature| {
            let strategies = feature.strategies.iter().flatten();
            feature.outcomes.len() + strategies.map(|strategy| 1 + strategy.constraints.len()).sum::<usize>()
        });
        free_from(&mut self.segments, left, |segment| 1 + segment.len());
    }
}

/// The strategy that holds; none where a feature has no strategies.
type Match<'a> = Option<&'a Strategy>;

impl Features {
    fn decision(&self, feature: &Feature, context: &Metered<'_>, sink: &mut dyn FlagSink) -> (usize, &'static str) {
        sink.check("enabled", feature.enabled, format_args!(""));
        if !feature.enabled {
            return (OFF, "disabled");
        }
        for parent in &feature.parents {
            let is_satisfied = self.is_satisfied(parent, &feature.name, context);
            sink.check("dependency", is_satisfied, format_args!("on {}", parent.name));
            if !is_satisfied {
                return (OFF, "dependency");
            }
        }
        let found = self.matched(feature, &feature.name, context);
        if IS_OBSERVABLE && sink.is_active() {
            self.explain(feature, found, context, sink);
        }
        let Some(strategy) = found else { return (OFF, "no_match") };
        feature.chosen(strategy, context).map_or((ON, "enabled"), |variant| (variant, "variant"))
    }

    /// Whether the feature `child` may be on, as far as this parent is concerned.
    fn is_satisfied(&self, parent: &Parent, child: &str, context: &Metered<'_>) -> bool {
        let Some(feature) = parent.feature.and_then(|number| self.features.get(number)) else { return false };
        if !feature.parents.is_empty() {
            return false;
        }
        let found = self.matched(feature, child, context);
        // To the SDKs, a parent has a variant even if it is off.
        let variant = feature.chosen(found.flatten(), context).and_then(|variant| feature.outcomes.get(variant));
        let is_wanted = |name: &String| parent.variants.is_empty() || parent.variants.contains(name);
        variant.and_then(|outcome| outcome.variant.as_ref()).is_none_or(is_wanted)
            && (feature.enabled && found.is_some()) == parent.enabled
    }

    /// The first strategy that holds. None if the feature is off.
    fn matched<'a>(&self, feature: &'a Feature, decided: &str, context: &Metered<'_>) -> Option<Match<'a>> {
        let strategies = feature.strategies.as_ref()?;
        if strategies.is_empty() {
            return Some(None);
        }
        let holds = |strategy: &&Strategy| {
            context.spend(0)
                && strategy.gate.holds(decided, context)
                && self.constraints(strategy).all(|one| one.holds(context))
        };
        strategies.iter().find(holds).map(Some)
    }

    fn constraints<'a>(&'a self, strategy: &'a Strategy) -> impl Iterator<Item = &'a Constraint> {
        let segments = strategy.segments.iter().filter_map(|position| self.segments.get(*position));
        strategy.constraints.iter().chain(segments.flatten())
    }

    /// Reports why each strategy up to the one that holds does so or not.
    #[cfg(not(target_arch = "wasm32"))]
    fn explain(&self, feature: &Feature, found: Option<Match<'_>>, context: &Metered<'_>, sink: &mut dyn FlagSink) {
        let Some(strategies) = &feature.strategies else {
            return sink.check("strategies", false, format_args!("a part of them is not understood"));
        };
        for (position, strategy) in strategies.iter().enumerate() {
            if found.flatten().is_some_and(|found| std::ptr::eq(found, strategy)) {
                return sink.check("strategy", true, format_args!("strategies[{position}]"));
            }
            let failed = self.constraints(strategy).find(|constraint| !constraint.holds(context));
            let detail = match failed {
                Some(failed) => {
                    let value = failed.source.text(context);
                    let value = value.map_or("missing".to_owned(), |value| format!("{value:?}"));
                    format!("{} is {value}, expected {}", failed.source.name(), failed.shown)
                }
                None => strategy.gate.shown(&feature.name, context),
            };
            sink.check("strategy", false, format_args!("strategies[{position}]: {detail}"));
        }
    }

    #[cfg(target_arch = "wasm32")]
    fn explain(&self, _: &Feature, _: Option<Match<'_>>, _: &Metered<'_>, _: &mut dyn FlagSink) {}
}

impl Gate {
    fn holds(&self, decided: &str, context: &Metered<'_>) -> bool {
        match self {
            Gate::Always => true,
            Gate::Check(constraint) => constraint.holds(context),
            Gate::Rollout { percent, stickiness, group } => match stickiness.value(context) {
                Some((_, value)) => share(group.as_deref().unwrap_or(decided), &value) <= *percent,
                // Every draw is within all.
                None => *percent == 100 && !matches!(stickiness, Stickiness::Field(_)),
            },
        }
    }

    #[cfg(not(target_arch = "wasm32"))]
    fn shown(&self, decided: &str, context: &Metered<'_>) -> String {
        match self {
            Gate::Always => String::new(),
            Gate::Check(constraint) => format!("{} is not {}", constraint.source.name(), constraint.shown),
            Gate::Rollout { percent, stickiness, group } => {
                let share =
                    stickiness.value(context).map(|(_, value)| share(group.as_deref().unwrap_or(decided), &value));
                let share = share.map_or("missing".to_owned(), |share| share.to_string());
                format!("the bucket is {share}, expected up to {percent}")
            }
        }
    }
}

/// The bucket of a rollout, from 1 to 100.
fn share(group: &str, value: &str) -> u32 {
    murmur3(0, &[group, ":", value]) % 100 + 1
}

impl Stickiness {
    /// The value that is bucketed, behind the name of its attribute. None if it would be drawn, or is missing.
    fn value<'a>(&'a self, context: &'a Metered<'_>) -> Option<(Cow<'a, str>, Cow<'a, str>)> {
        let of = |source: &'a Source| Some((source.name(), source.text(context)?));
        match self {
            Stickiness::Default { session } => of(&Source::User).or_else(|| of(session)),
            Stickiness::Random => None,
            Stickiness::Field(source) => of(source),
        }
    }
}

impl Feature {
    /// The outcome of the variant that `strategy`, which holds, leads to.
    fn chosen(&self, strategy: Match<'_>, context: &Metered<'_>) -> Option<usize> {
        let own = strategy.map(|strategy| &strategy.variants).filter(|variants| !variants.list.is_empty());
        own.unwrap_or(&self.variants).chosen(context)
    }

    /// The variants that the outcome belongs to.
    fn variants_of(&self, outcome: usize) -> &Variants {
        let sets = self.strategies.iter().flatten().map(|strategy| &strategy.variants);
        let mut sets = sets.filter(|set| (set.first_outcome..set.first_outcome + set.list.len()).contains(&outcome));
        sets.next().unwrap_or(&self.variants)
    }
}

impl Variants {
    /// The outcome of the visitor's variant. None if it would be drawn.
    fn chosen(&self, context: &Metered<'_>) -> Option<usize> {
        let is_overridden = |variant: &Variant| {
            variant.overrides.iter().any(|(source, values)| {
                let value = source.text(context);
                value.is_some_and(|value| values.iter().any(|other| context.spend(0) && *other == *value))
            })
        };
        context.spend(self.list.len());
        let position = self.list.iter().position(is_overridden).or_else(|| {
            let total = self.list.iter().fold(0_u32, |sum, variant| sum.wrapping_add(variant.weight));
            let target = match self.stickiness.value(context) {
                Some((_, value)) => murmur3(VARIANT_SEED, &[&self.group, ":", &value]).checked_rem(total)? + 1,
                // Every draw leads to the only variant that has a weight.
                None if self.list.iter().filter(|variant| variant.weight > 0).count() == 1 => 1,
                None => return None,
            };
            let mut running = 0_u32;
            self.list.iter().position(|variant| {
                running = running.wrapping_add(variant.weight);
                running >= target
            })
        })?;
        Some(self.first_outcome + position)
    }

    /// The attribute whose value an exposure is about, and the value: the one that is bucketed, else the visitor's id.
    fn unit<'a>(&'a self, context: &'a Metered<'_>) -> Option<(Cow<'a, str>, Cow<'a, str>)> {
        self.stickiness.value(context).or_else(|| Some(("id".into(), context.visitor.id?.into())))
    }
}
