//! The debug header of previews.

use super::context::DecisionContext;
use crate::request_context::RequestContext;
use edgesplit_engine::assignments::assignment_pair;
use edgesplit_engine::decide::{DecisionInput, check_request};
use edgesplit_engine::reason::Reason;
use std::fmt::Write;

/// The approximate length of the longest debug header: Envoy would refuse a response whose headers are too large.
const DEBUG_BYTES_MAX: usize = 8 << 10;

/// The decisions of a preview, for a person: those of the experiments on this page, which are `decided`, and of others that
/// the link names.
#[inline(never)]
pub(super) fn debug_text(
    context: &DecisionContext<'_>,
    decided: &[(usize, Option<usize>, Reason)],
    input: &DecisionInput<'_>,
    request: &RequestContext<'_>,
) -> Option<String> {
    let (snapshot, line) = (context.snapshot, request.line());
    let mut text = String::new();
    for (number, experiment) in snapshot.experiments.iter().enumerate() {
        let is_named = || input.preview.iter().any(|(key, _)| *key == experiment.key);
        let (variant, reason) = match decided.iter().find(|(at, ..)| *at == number) {
            Some(&(_, variant, reason)) => (variant, reason),
            None if is_named() => (None, check_request(experiment, &line, input, &mut ()).unwrap_or(Reason::Route)),
            None => continue,
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
