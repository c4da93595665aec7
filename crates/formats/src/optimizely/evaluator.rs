//! Decides flags by a datafile.

use super::datafile::{Datafile, Flag};
use super::decide::Decision;
use crate::metered::Metered;
use crate::report::report_limit;
use edgesplit_engine::flag::{FlagEvaluator, FlagExposure, FlagSink, FlagVisitor, Outcome};
use edgesplit_engine::free::free_from;
use edgesplit_engine::reason::Reason;

/// The name of the bucketed attribute in exposures: the visitor's id.
const UNIT_NAME: &str = "id";

impl FlagEvaluator for Datafile {
    fn decide(&self, flags: &[usize], visitor: &FlagVisitor<'_>, sink: &mut dyn FlagSink) {
        for &number in flags {
            let Some(flag) = self.flags.get(number) else { continue };
            let Some(id) = visitor.id else {
                sink.decided(number, None, Reason::NoUnit);
                continue;
            };
            let attributes = Metered::new(visitor, flag.outcomes());
            if !attributes.is_exceeded() {
                let decision = self.decide(flag, id, &attributes, sink);
                if !attributes.is_exceeded() {
                    self.report(number, flag, &decision, id, sink);
                    continue;
                }
            }
            report_limit(sink, number);
        }
    }

    fn outcomes(&self, flag: usize) -> &[Outcome] {
        self.flags.get(flag).map_or(&[], |flag| flag.outcomes())
    }

    fn free(&mut self, left: &mut usize) {
        free_from(&mut self.flags, left, |flag| 1 + flag.outcomes().len());
        free_from(&mut self.rules, left, |rule| 1 + rule.variations.len());
        free_from(&mut self.audiences, left, |_| 1);
    }
}

impl Datafile {
    /// Reports the decision about the flag with this number.
    fn report(&self, number: usize, flag: &Flag, decision: &Decision, id: &str, sink: &mut dyn FlagSink) {
        sink.decided(number, Some(decision.outcome), decision.reason);
        let reported = [decision.exposure.then_some(decision.outcome), decision.holdout];
        for position in reported.into_iter().flatten() {
            let Some(outcome) = flag.outcomes().get(position) else { continue };
            sink.exposed(&FlagExposure {
                experiment: outcome.experiment.as_deref().unwrap_or(&flag.key),
                variant: outcome.variant.as_deref(),
                attribute: UNIT_NAME,
                unit: id,
                typed_unit: None,
                outcome: Some((number, position)),
            });
        }
    }
}
