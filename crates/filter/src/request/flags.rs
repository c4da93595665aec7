//! The decisions of a vendor's flags.

use super::context::{DecisionContext, Outputs};
use super::exposures::ExposureReporter;
use super::redirect::{is_redirect_skipped, leads_to_allowed_host};
use crate::decision_counts::DecisionCounts;
use crate::request_context::RequestContext;
use crate::response_plan::Exposure;
use edgesplit_engine::decide::DecisionInput;
use edgesplit_engine::decide_flags;
use edgesplit_engine::flag::{FlagEvaluator, FlagExposure, FlagSink, FlagVisitor, StickyStore};
use edgesplit_engine::observer::Observer;
use edgesplit_engine::pattern::Pattern;
use edgesplit_engine::reason::Reason;
use edgesplit_engine::snapshot::{Choice, Snapshot};
use edgesplit_engine::sort::sort_by;
use std::cell::RefCell;
use std::fmt;

/// The outcomes of a vendor's flags, beside the choices.
#[derive(Default)]
pub(super) struct FlagOutcomes {
    /// The target of a redirect.
    pub(super) redirect: Option<String>,
    /// The values that the browser keeps, by name.
    pub(super) kept: Vec<(String, String)>,
    /// The names of the browser's values that were read.
    pub(super) read: Vec<String>,
    /// Every decision of a preview, by the experiment's position.
    pub(super) decided: Vec<(usize, Option<usize>, Reason)>,
}

struct Sink<'a, 'h, 'r> {
    snapshot: &'a Snapshot,
    request: &'a RequestContext<'h>,
    redirect_hosts: &'a [Pattern],
    reporter: Option<ExposureReporter<'r>>,
    /// Absent for previews, which are not counted.
    decisions: Option<&'a mut DecisionCounts>,
    choices: &'a mut Vec<Choice>,
    exposures: Vec<Exposure>,
    outcomes: FlagOutcomes,
}

impl Observer for Sink<'_, '_, '_> {
    fn check(&mut self, _name: &str, _passed: bool, _detail: fmt::Arguments<'_>) {}
}

impl FlagSink for Sink<'_, '_, '_> {
    fn decided(&mut self, flag: usize, outcome: Option<usize>, reason: Reason) {
        let Some(experiment) = self.snapshot.flag(flag) else { return };
        match &mut self.decisions {
            Some(decisions) => decisions.add(experiment, reason),
            None => self.outcomes.decided.push((experiment, outcome, reason)),
        }
        self.choices.extend(outcome.map(|variant| Choice { experiment, variant }));
    }

    fn exposed(&mut self, exposure: &FlagExposure<'_>) {
        let choice = exposure
            .outcome
            .and_then(|(flag, variant)| Some(Choice { experiment: self.snapshot.flag(flag)?, variant }));
        if choice.is_some_and(|choice| is_redirect_skipped(self.snapshot, choice, self.request, self.redirect_hosts)) {
            return;
        }
        let reporter = self.reporter.as_ref();
        self.exposures.extend(reporter.and_then(|it| it.flag_exposure(self.snapshot, exposure, choice, self.request)));
    }

    fn redirected(&mut self, location: &str) -> bool {
        self.outcomes.redirect = Some(location.to_owned());
        leads_to_allowed_host(location, self.request, self.redirect_hosts)
    }

    fn kept(&mut self, name: &str, value: &str) {
        self.outcomes.kept.push((name.to_owned(), value.to_owned()));
    }
}

/// Decides the planned flags, and defers their exposures to the response.
#[inline(never)]
pub(super) fn decide(
    context: &DecisionContext<'_>,
    evaluator: &dyn FlagEvaluator,
    input: &DecisionInput<'_>,
    request: &RequestContext<'_>,
    outputs: &mut Outputs<'_>,
) -> FlagOutcomes {
    let DecisionContext { config, snapshot, plan, now_ms, .. } = *context;
    let read = RefCell::new(Vec::new());
    let cookie = |name: &str| {
        let value = request.cookies().get_encoded(name)?;
        read.borrow_mut().push(name.to_owned());
        Some(value)
    };
    let sticky_store: Option<&StickyStore<'_>> = if config.request.sticky.is_some() { Some(&cookie) } else { None };
    let visitor =
        FlagVisitor { id: request.id, attributes: request, previewed: &[], sticky_store, steps: input.steps, now_ms };
    let mut sink = Sink {
        snapshot,
        request,
        redirect_hosts: config.redirect_hosts(),
        reporter: outputs.recorder.map(|recorder| ExposureReporter::new(recorder, context)),
        decisions: plan.preview.is_none().then_some(&mut *outputs.decisions),
        choices: outputs.choices,
        exposures: Vec::new(),
        outcomes: FlagOutcomes::default(),
    };
    decide_flags(snapshot, evaluator, plan.experiments, input, &visitor, &mut sink);
    let Sink { choices, exposures, outcomes, .. } = sink;
    sort_by(choices, |a, b| a.experiment < b.experiment);
    if !exposures.is_empty() {
        outputs.response.actions(snapshot).exposures = exposures;
    }
    FlagOutcomes { read: read.into_inner(), ..outcomes }
}
