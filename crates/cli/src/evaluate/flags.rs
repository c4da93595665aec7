//! Deciding a line by a vendor's rules.

use super::request::Request;
use super::row::{Log, Row};
use edgesplit_engine::attribute::{AttributeName, AttributeValue, Attributes, json_attribute};
use edgesplit_engine::decide::{DecisionInput, check_request};
use edgesplit_engine::decide_flags;
use edgesplit_engine::flag::{FlagEvaluator, FlagSink, FlagVisitor, StickyStore};
use edgesplit_engine::observer::Observer;
use edgesplit_engine::reason::Reason;
use edgesplit_engine::snapshot::{Choice, Snapshot};
use edgesplit_filter::request_context::RequestContext;
use std::fmt;

/// The attributes of a line: the typed ones as they are, and only those parts of the request that the line has, since a
/// condition on a missing attribute has a meaning of its own.
struct LineAttributes<'a, 'h> {
    request: &'a Request<'a>,
    view: &'a RequestContext<'h>,
}

impl Attributes for LineAttributes<'_, '_> {
    fn attribute<'a>(&'a self, name: &'a AttributeName) -> AttributeValue<'a> {
        if let Some(typed) = self.request.attributes
            && let found @ AttributeValue::Json(_) = json_attribute(typed, name)
        {
            return found;
        }
        let Request { has_host, has_path, has_method, .. } = *self.request;
        let is_given = match name {
            AttributeName::Host | AttributeName::Url => has_host,
            AttributeName::Path => has_path,
            AttributeName::Method => has_method,
            _ => true,
        };
        if is_given { self.view.attribute(name) } else { AttributeValue::Missing }
    }

    fn look_up_bytes(&self, name: &AttributeName) -> usize {
        self.view.look_up_bytes(name)
    }
}

/// Collects the decisions, each with its checks.
struct Sink<'a> {
    snapshot: &'a Snapshot,
    evaluator: &'a dyn FlagEvaluator,
    log: Log,
    rows: Vec<Row>,
    choices: Vec<Choice>,
}

impl Observer for Sink<'_> {
    fn is_active(&self) -> bool {
        self.log.is_active()
    }

    fn check(&mut self, name: &str, passed: bool, detail: fmt::Arguments<'_>) {
        self.log.check(name, passed, detail);
    }
}

impl FlagSink for Sink<'_> {
    fn decided(&mut self, flag: usize, outcome: Option<usize>, reason: Reason) {
        let checks = self.log.take();
        let Some(number) = self.snapshot.flag(flag) else { return };
        let Some(experiment) = self.snapshot.experiments.get(number) else { return };
        self.choices.extend(outcome.map(|variant| Choice { experiment: number, variant }));
        let mut row = Row { checks, ..Row::new(experiment.position, &experiment.key, reason) };
        if let Some(outcome) = outcome.and_then(|outcome| self.evaluator.outcomes(flag).get(outcome)) {
            row.experiment = outcome.experiment.clone().filter(|key| *key != experiment.key);
            row.variant = outcome.variant.clone();
            row.value = outcome.value.clone();
            row.in_experiment = outcome.in_experiment;
        }
        self.rows.push(row);
    }
}

/// Decides every flag, with the sticky buckets of the cookies if `keeps_sticky`.
pub(super) fn decide(
    snapshot: &Snapshot,
    evaluator: &dyn FlagEvaluator,
    (request, context): (&Request<'_>, &RequestContext<'_>),
    input: &DecisionInput<'_>,
    keeps_sticky: bool,
    records: bool,
) -> (Vec<Row>, Vec<Choice>) {
    let attributes = LineAttributes { request, view: context };
    let cookie = |name: &str| context.cookies().get_encoded(name);
    let sticky_store: Option<&StickyStore<'_>> = if keeps_sticky { Some(&cookie) } else { None };
    let visitor = FlagVisitor {
        id: context.id,
        attributes: &attributes,
        previewed: &[],
        sticky_store,
        steps: input.steps,
        now_ms: input.now_ms,
    };

    let mut sink = Sink { snapshot, evaluator, log: Log::new(records), rows: Vec::new(), choices: Vec::new() };
    let mut candidates = Vec::new();
    for (number, experiment) in (0..).zip(&snapshot.experiments) {
        match check_request(experiment, &context.line(), input, &mut sink.log) {
            None => candidates.push(number),
            Some(reason) => {
                let checks = sink.log.take();
                sink.rows.push(Row { checks, ..Row::new(experiment.position, &experiment.key, reason) });
            }
        }
        sink.log.take();
    }
    decide_flags(snapshot, evaluator, &candidates, input, &visitor, &mut sink);
    (sink.rows, sink.choices)
}
