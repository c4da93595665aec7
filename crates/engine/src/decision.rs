//! Input and output of the evaluator: the facts about a request, and the decision about one experiment.

use crate::condition::StepBudget;
use crate::reason::Reason;
use std::borrow::Cow;

/// The facts about a request that decisions need, beside its attributes.
#[derive(Debug, Clone, Copy)]
pub struct DecisionInput<'a> {
    /// Milliseconds since the epoch.
    pub now_ms: i64,
    /// Whether the filter acts on this path.
    pub path_included: bool,
    /// Whether the visitor has consented to experiments, and has not objected.
    pub consent: bool,
    /// Whether the user agent is a bot's and bots are excluded.
    pub bot: bool,
    /// The variants that a preview link shows: pairs of an experiment's and a variant's key. Unknown keys do nothing.
    pub preview: &'a [(String, String)],
    /// The variants that the visitor's browser had before. Unknown keys do nothing.
    pub sticky: &'a [StickyBucket<'a>],
    /// The tags of the variants that guardrails have switched off. Only previews and `forced` still lead to them.
    pub off: &'a [u64],
    /// The work that routes and conditions may still do. All decisions of a request share it.
    pub steps: &'a StepBudget,
}

impl<'a> DecisionInput<'a> {
    /// The input for an unrestricted visitor without sticky buckets or previews.
    #[inline(always)]
    pub const fn unrestricted(now_ms: i64, steps: &'a StepBudget) -> DecisionInput<'a> {
        DecisionInput {
            now_ms,
            path_included: true,
            consent: true,
            bot: false,
            preview: &[],
            sticky: &[],
            off: &[],
            steps,
        }
    }

    /// Whether a check before the unit can apply, whichever the experiment is.
    #[inline(always)]
    pub(crate) fn has_checks(&self) -> bool {
        self.bot || !self.consent || !self.preview.is_empty()
    }

    /// The reason that excludes this visitor from all experiments that bucket, if there is one.
    pub fn exclusion_reason(&self) -> Option<Reason> {
        match (self.bot, self.consent) {
            (true, _) => Some(Reason::Bot),
            (false, false) => Some(Reason::NoConsent),
            (false, true) => None,
        }
    }
}

/// A variant that a browser had before. Each experiment has at most one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StickyBucket<'a> {
    /// The experiment's key.
    pub experiment: Cow<'a, str>,
    /// The version of its sticky buckets at that time.
    pub version: u32,
    /// The variant's key.
    pub variant: Cow<'a, str>,
}

/// The decision about one experiment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// The position of the variant, if the visitor gets one.
    pub variant: Option<usize>,
    /// The reason.
    pub reason: Reason,
}

impl Decision {
    /// No variant.
    pub fn no(reason: Reason) -> Decision {
        Decision { variant: None, reason }
    }

    /// The variant at this position.
    pub fn yes(variant: usize, reason: Reason) -> Decision {
        Decision { variant: Some(variant), reason }
    }
}
