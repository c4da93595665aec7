//! Deciding a request by a vendor's rules.

use super::report::Reports;
use super::response::Exposure;
use crate::metrics::Metrics;
use crate::visit::RequestView;
use edgesplit_engine::condition::request_budget;
use edgesplit_engine::decide::{Visit, decide_flags};
use edgesplit_engine::flag::{FlagEvaluator, FlagExposure, FlagSink, FlagVisitor, StickyStore};
use edgesplit_engine::observer::Observer;
use edgesplit_engine::reason::Reason;
use edgesplit_engine::snapshot::{Choice, Snapshot};
use edgesplit_engine::sort::sort_by;
use std::fmt;

/// What came of it.
#[derive(Default)]
pub(super) struct Found {
    /// Exposures to report when the response is delivered.
    pub(super) exposures: Vec<Exposure>,
    /// Where the visitor is to be sent.
    pub(super) redirect: Option<String>,
    /// What the browser is to keep, by its name.
    pub(super) kept: Vec<(String, String)>,
    /// Every decision, by the experiment's position, for whoever wants to show them.
    pub(super) decided: Vec<(usize, Option<usize>, Reason)>,
}

struct Sink<'a, 'r> {
    snapshot: &'a Snapshot,
    view: &'a RequestView<'a>,
    reports: Option<&'a Reports<'r>>,
    /// None for previews, which count in nothing.
    metrics: Option<&'a mut Metrics>,
    choices: &'a mut Vec<Choice>,
    found: Found,
}

impl Observer for Sink<'_, '_> {
    fn check(&mut self, _name: &str, _passed: bool, _detail: fmt::Arguments<'_>) {}
}

impl FlagSink for Sink<'_, '_> {
    fn decided(&mut self, flag: usize, outcome: Option<usize>, reason: Reason) {
        let Some(experiment) = self.snapshot.flag(flag) else { return };
        match &mut self.metrics {
            Some(metrics) => metrics.decided(reason, 1),
            None => self.found.decided.push((experiment, outcome, reason)),
        }
        self.choices.extend(outcome.map(|variant| Choice { experiment, variant }));
    }

    fn exposed(&mut self, exposure: &FlagExposure<'_>) {
        let report = self.reports.and_then(|reports| reports.reported(self.snapshot, exposure, self.view));
        self.found.exposures.extend(report);
    }

    fn redirected(&mut self, location: &str) {
        self.found.redirect = Some(location.to_owned());
    }

    fn kept(&mut self, name: &str, value: &str) {
        self.found.kept.push((name.to_owned(), value.to_owned()));
    }
}

/// Decides the flags at `candidates`; `choices` are what they came out as, in the order of the config. `keeps_sticky` where
/// the browser keeps sticky buckets.
#[allow(clippy::too_many_arguments, reason = "all that is known of a request")]
pub(super) fn decide(
    snapshot: &Snapshot,
    rules: &dyn FlagEvaluator,
    candidates: &[u32],
    visit: &Visit<'_>,
    view: &RequestView<'_>,
    reports: Option<&Reports<'_>>,
    metrics: Option<&mut Metrics>,
    choices: &mut Vec<Choice>,
    keeps_sticky: bool,
) -> Found {
    let cookie = |name: &str| view.encoded_cookie(name);
    let sticky_store: Option<&StickyStore<'_>> = if keeps_sticky { Some(&cookie) } else { None };
    let steps = request_budget();
    let visitor = FlagVisitor { id: view.id_text(), attributes: view, previewed: &[], sticky_store, steps: &steps };
    let mut sink = Sink { snapshot, view, reports, metrics, choices, found: Found::default() };
    decide_flags(snapshot, rules, candidates, visit, &visitor, &mut sink);
    let found = sink.found;
    sort_by(choices, |a, b| a.experiment < b.experiment);
    found
}
