//! The debug header of previews.

use super::context::DecisionContext;
use crate::request_context::RequestContext;
use edgesplit_engine::assignments::assignment_pair;
use edgesplit_engine::condition::request_budget;
use edgesplit_engine::decide::{Decision, DecisionInput, evaluate};
use edgesplit_engine::reason::Reason;
use std::fmt::Write;

/// The approximate length of the longest debug header: Envoy would refuse a response whose headers are too large.
const DEBUG_BYTES_MAX: usize = 8 << 10;

/// The decisions of a preview, for a person: those of the experiments on this page, and of others that the link names.
#[inline(never)]
pub(super) fn debug_text(
    context: &DecisionContext<'_>,
    by_flags: &[(usize, Option<usize>, Reason)],
    input: &DecisionInput<'_>,
    request: &RequestContext<'_>,
) -> Option<String> {
    let (snapshot, line) = (context.snapshot, request.line());
    // The decisions are made again, each with as many steps as there were.
    let steps = request_budget();
    let input = &DecisionInput { steps: &steps, ..*input };
    let mut text = String::new();
    for (number, experiment) in (0_u32..).zip(&snapshot.experiments) {
        let is_named = input.preview.iter().any(|(key, _)| *key == experiment.key);
        if !is_named && !context.plan.experiments.contains(&number) {
            continue;
        }
        let Decision { variant, reason } =
            match (&snapshot.flag_evaluator, by_flags.iter().find(|(at, ..)| *at == number as usize)) {
                (None, _) => evaluate(snapshot, experiment, &line, input, request, &mut ()),
                (Some(_), Some(&(_, variant, reason))) => Decision { variant, reason },
                // The link names a flag of other pages.
                (Some(_), None) => Decision::no(Reason::Route),
            };
        let variant = variant.and_then(|variant| experiment.variants.get(variant));
        let pair = assignment_pair(&experiment.key, variant.map_or("", |variant| variant.key.as_str()));
        if text.len() + pair.len() > DEBUG_BYTES_MAX {
            break;
        }
        let separator = if text.is_empty() { "" } else { ", " };
        // Writing to a string cannot fail.
        let _ = write!(text, "{separator}{pair};{}", reason.name());
    }
    (!text.is_empty()).then_some(text)
}
