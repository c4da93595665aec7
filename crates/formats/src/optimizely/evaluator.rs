//! Decides flags by a datafile.

use super::Datafile;
use edgesplit_engine::flag::{FlagEvaluator, FlagExposure, FlagSink, FlagVisitor, Outcome};
use edgesplit_engine::reason::Reason;
use std::any::Any;

/// The name of the bucketed attribute in exposures: the visitor's id.
const UNIT_NAME: &str = "id";

/// The evaluator of a datafile.
#[derive(Debug)]
pub(super) struct Evaluator(pub(super) Datafile);

impl FlagEvaluator for Evaluator {
    fn decide(&self, flags: &[usize], visitor: &FlagVisitor<'_>, sink: &mut dyn FlagSink) {
        for &number in flags {
            let Some(flag) = self.0.flags.get(number) else { continue };
            let Some(id) = visitor.id else {
                sink.decided(number, None, Reason::NoUnit);
                continue;
            };
            let decision = self.0.decide(flag, id, &visitor.attributes, sink);
            sink.decided(number, Some(decision.outcome), decision.reason);
            if decision.exposure
                && let Some(outcome) = flag.outcomes().get(decision.outcome)
            {
                sink.exposed(&FlagExposure {
                    experiment: outcome.experiment.as_deref().unwrap_or(&flag.key),
                    variant: outcome.variant.as_deref(),
                    attribute: UNIT_NAME,
                    unit: id,
                    outcome: Some((number, decision.outcome)),
                });
            }
        }
    }

    fn outcomes(&self, flag: usize) -> &[Outcome] {
        self.0.flags.get(flag).map_or(&[], |flag| flag.outcomes())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
