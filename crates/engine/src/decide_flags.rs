//! Decides a vendor's flags: the checks that all formats share, then the vendor's own evaluator.

use super::decide::{DecisionInput, previewed};
use super::flag::{FlagEvaluator, FlagSink, FlagVisitor};
use super::reason::Reason;
use super::snapshot::{Snapshot, State};

/// Decides the experiments at `candidates`, which are flags of `rules`, for a request on an included path and on their
/// routes. `sink` receives the decision of each once, in no particular order.
pub fn decide_flags(
    snapshot: &Snapshot,
    rules: &dyn FlagEvaluator,
    candidates: &[u32],
    input: &DecisionInput<'_>,
    visitor: &FlagVisitor<'_>,
    sink: &mut dyn FlagSink,
) {
    let found = candidates.iter().filter_map(|&candidate| snapshot.experiments.get(candidate as usize));
    let (mut evaluated, mut shown) = (Vec::with_capacity(candidates.len()), Vec::new());
    let excluded = input.exclusion_reason();
    for experiment in found {
        let State::Flag(number) = experiment.state else { continue };
        match (previewed(experiment, input), excluded) {
            (Some(variant), _) => shown.push((number, variant)),
            (None, Some(reason)) => {
                let is_bot = reason == Reason::Bot;
                let detail = if is_bot { "the user agent is a bot's" } else { "missing, or the visitor objected" };
                sink.check(reason.name(), false, format_args!("{detail}"));
                sink.decided(number, None, reason);
            }
            (None, None) => evaluated.push(number),
        }
    }
    for &(number, variant) in &shown {
        sink.check("preview", true, format_args!("the link shows this flag's variant"));
        sink.decided(number, Some(variant), Reason::Preview);
    }
    if !evaluated.is_empty() {
        rules.decide(&evaluated, &FlagVisitor { previewed: &shown, ..*visitor }, sink);
    }
}
