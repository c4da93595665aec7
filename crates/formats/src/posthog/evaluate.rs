//! Decides flags.

use super::evaluation::{Decided, Evaluation, GROUPS, Subject};
use super::rules::{Aggregation, Flag, ON, Rules};
use super::verdict::{Cause, Undecided};
use crate::metered::Metered;
use crate::report::{report, report_limit};
use edgesplit_engine::flag::{FlagEvaluator, FlagSink, FlagVisitor, Outcome};
use edgesplit_engine::free::free_from;
use edgesplit_engine::reason::Reason;

impl FlagEvaluator for Rules {
    fn decide(&self, flags: &[usize], visitor: &FlagVisitor<'_>, sink: &mut dyn FlagSink) {
        for &number in flags {
            let Some(flag) = self.flags.get(number) else { continue };
            let Some(id) = visitor.id else {
                sink.decided(number, None, Reason::NoUnit);
                continue;
            };
            let context = Metered::new(visitor, &flag.outcomes);
            let evaluation = Evaluation::new(self, &context, id, id);
            let decided =
                if context.is_exceeded() { Err(Cause::Context.into()) } else { evaluation.decide(flag, sink) };
            if context.is_exceeded() {
                report_limit(sink, number);
                continue;
            }
            match decided {
                Err(error) => sink.decided(number, None, Reason::Vendor(error.cause.name())),
                Ok(Decision { outcome, reason, unit, attribute }) => {
                    let (decided, unit) = ((outcome, Reason::Vendor(reason)), Some((&*attribute, &*unit)));
                    report(sink, (number, &flag.key), &flag.outcomes, decided, unit);
                }
            }
        }
    }

    fn outcomes(&self, flag: usize) -> &[Outcome] {
        self.flags.get(flag).map_or(&[], |flag| &flag.outcomes)
    }

    fn free(&mut self, left: &mut usize) {
        free_from(&mut self.flags, left, |flag| {
            flag.outcomes.len() + flag.groups.iter().map(|group| 1 + group.conditions.len()).sum::<usize>()
        });
        free_from(&mut self.cohorts, left, |_| 1);
    }
}

/// A decision, with the value that was bucketed and the name of its attribute.
struct Decision {
    outcome: usize,
    reason: &'static str,
    unit: String,
    attribute: String,
}

impl Evaluation<'_> {
    fn decide(&self, flag: &Flag, sink: &mut dyn FlagSink) -> Result<Decision, Undecided> {
        let off = |reason| Ok(Decision { outcome: 0, reason, unit: String::new(), attribute: String::new() });
        sink.check("active", flag.active, format_args!(""));
        if !flag.active {
            return off("flag_disabled");
        }
        if flag.continuity {
            return Err(Cause::Continuity.into());
        }
        let (group, unit, attribute) = match &flag.aggregation {
            Aggregation::Unknown => return Err(Cause::Definition.into()),
            Aggregation::Groups(name) => match self.group_key(name) {
                Some(key) => (Some(name.as_str()), key, format!("{GROUPS}{name}")),
                None => return off("no_group_type"),
            },
            Aggregation::Persons if flag.by_device => {
                let cause = || if self.is_undecidable(flag) { Cause::Definition } else { Cause::Context };
                (None, self.device().ok_or_else(cause)?, "$device_id".to_owned())
            }
            Aggregation::Persons => (None, self.id.to_owned(), "id".to_owned()),
        };
        let distinct = if group.is_some() { &unit } else { self.id };
        let evaluation = Evaluation::new(self.rules, self.context, self.id, distinct);
        let Decided { outcome, out_of_share } = evaluation.flag(flag, Subject { group, unit: &unit }, false, sink)?;
        let reason = match (outcome, &flag.holdout) {
            (outcome, Some(holdout)) if outcome == holdout.outcome => "holdout_condition_value",
            (ON.., _) => "condition_match",
            _ if out_of_share => "out_of_rollout_bound",
            _ => "no_condition_match",
        };
        Ok(Decision { outcome, reason, unit, attribute })
    }
}
