//! Decides flags by a payload: its features first, then its URL redirect tests.

use super::decision::{Context, EXPERIMENT, NO_RULE, Overrides};
use super::evaluation::Evaluation;
use super::payload::Payload;
use super::sticky::{COOKIE_PREFIX, StickyDocument, StickyDocuments};
use edgesplit_engine::attribute::{AttributeName, AttributeValue, Attributes};
use edgesplit_engine::flag::{FlagEvaluator, FlagExposure, FlagSink, FlagVisitor, Outcome};
use edgesplit_engine::free::free_from;
use edgesplit_engine::json;
use edgesplit_engine::observer::Check;
use edgesplit_engine::reason::Reason;
use serde_json::Value;
use std::borrow::Cow;

impl FlagEvaluator for Payload {
    fn decide(&self, flags: &[usize], visitor: &FlagVisitor<'_>, sink: &mut dyn FlagSink) {
        let payload = self;
        let (features, tests) = flags.split_at(flags.partition_point(|flag| *flag < payload.features.len()));
        // Only redirect tests need the URL, which must be put together.
        let url = if tests.is_empty() { Cow::Borrowed("") } else { url(visitor) };
        let overrides = Overrides { outcomes: visitor.previewed, ..Overrides::default() };
        let context = Context { attributes: &visitor.attributes, url: &url, overrides, steps: visitor.steps };
        let mut evaluation =
            Evaluation::new(payload, &context, visitor.sticky_store.map(|_| StickyDocuments::default()));
        if let Some(kept) = visitor.sticky_store {
            evaluation.read_sticky(&|name| {
                let text = kept(&format!("{COOKIE_PREFIX}{name}"))?;
                StickyDocument::from_json(&json::read(text.as_bytes()).ok()?)
            });
        }
        if sink.is_active() {
            evaluation.observe();
        }
        for &number in features {
            let decision = evaluation.feature(number);
            report_checks(&evaluation.take_checks(), sink);
            let outcome = Some(decision.outcome).filter(|_| decision.reason != Reason::Limit);
            sink.decided(number, outcome, decision.reason);
        }
        if !tests.is_empty() {
            self.redirect(tests, &mut evaluation, sink);
        }
        for exposure in evaluation.exposures() {
            sink.exposed(&FlagExposure {
                experiment: exposure.experiment,
                variant: Some(exposure.variation),
                attribute: exposure.attribute,
                unit: &exposure.unit,
                typed_unit: exposure.typed_unit,
                outcome: None,
            });
        }
        let documents = evaluation.sticky().into_iter().flat_map(StickyDocuments::iter);
        for document in documents.filter(|document| document.is_changed) {
            sink.kept(&format!("{COOKIE_PREFIX}{}", document.key()), &document.to_json().to_string());
        }
    }

    fn outcomes(&self, flag: usize) -> &[Outcome] {
        let features = &self.features;
        match features.get(flag) {
            Some(feature) => &feature.outcomes,
            None => self.redirects.get(flag - features.len()).map_or(&[], |test| &test.outcomes),
        }
    }

    fn free(&mut self, left: &mut usize) {
        free_from(&mut self.features, left, |feature| 1 + feature.outcomes.len());
        free_from(&mut self.redirects, left, |test| 1 + test.outcomes.len());
    }
}

impl Payload {
    /// Decides the redirect tests among `tests`, up to the first one that the visitor is in.
    fn redirect(&self, tests: &[usize], evaluation: &mut Evaluation<'_, &dyn Attributes>, sink: &mut dyn FlagSink) {
        let first = self.features.len();
        let exposures = evaluation.exposures().len();
        let found = evaluation.redirect_among(&|test| tests.contains(&(first + test)));
        report_checks(&evaluation.take_checks(), sink);
        for &number in tests {
            let own = found.as_ref().filter(|redirect| first + redirect.test == number);
            match own {
                Some(redirect) => sink.decided(number, Some(redirect.result.variation), EXPERIMENT),
                None if evaluation.is_limited(number - first) => {
                    sink.decided(number, None, Reason::Limit);
                }
                None => sink.decided(number, None, NO_RULE),
            }
        }
        if let Some(redirect) = found
            && redirect.location.as_deref().is_some_and(|location| !sink.redirected(location))
        {
            // The visitor stays, and so is not shown the variation.
            evaluation.withdraw(&redirect.result.experiment.key, exposures);
        }
    }
}

fn report_checks(checks: &[Check], sink: &mut dyn FlagSink) {
    for Check { name, passed, detail } in checks {
        sink.check(name, *passed, format_args!("{detail}"));
    }
}

fn url<'a>(visitor: &FlagVisitor<'a>) -> Cow<'a, str> {
    match visitor.attributes.attribute(&AttributeName::Url) {
        AttributeValue::Text(text) => text,
        AttributeValue::Json(Value::String(text)) => Cow::Borrowed(text),
        AttributeValue::Json(_) | AttributeValue::Missing => Cow::Borrowed(""),
    }
}
