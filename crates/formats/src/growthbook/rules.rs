//! GrowthBook's payloads as snapshots: features first, then URL redirect tests.

use crate::Options;
use crate::diagnostics::{Node, Problems};
use crate::flags::{Flag, FlagEntries};
use crate::growthbook::sticky::{COOKIE_PREFIX, StickyDocument, StickyDocuments};
use crate::growthbook::{self, Context, Evaluation, Overrides, Payload};
use crate::json;
use edgesplit_engine::attribute::{AttributeName, AttributeValue};
use edgesplit_engine::flag::{FlagExposure, FlagRules, FlagSink, FlagVisitor, Outcome};
use edgesplit_engine::reason::Reason;
use edgesplit_engine::snapshot::Snapshot;
use serde_json::Value;
use std::borrow::Cow;

#[derive(Debug)]
struct Rules(Payload);

pub(crate) fn snapshot(node: Node<'_>, options: &Options, problems: &mut Problems) -> Option<Snapshot> {
    let compiled = growthbook::compile_at(node.value, node.path, options.decryption_key.as_ref().map(|key| &*key.0));
    problems.append(compiled.problems);
    let payload = compiled.payload?;
    let path = node.path.field("features");
    let mut entries = FlagEntries::new(options);
    for (number, feature) in payload.features().iter().enumerate() {
        let (key, position, outcomes) = (feature.key(), feature.position(), feature.outcomes());
        entries.add(&Flag { key, position, number, outcomes, path: path.field(key) }, problems);
    }
    let path = node.path.field("experiments");
    let (valid, all) = (payload.features().len(), payload.features().len() + payload.disabled().len());
    for (test, redirect) in payload.redirects().iter().enumerate() {
        let (key, position) = (redirect.experiment().key(), all + redirect.position());
        let (number, outcomes, path) = (valid + test, redirect.outcomes(), path.index(redirect.position()));
        entries.add(&Flag { key, position, number, outcomes, path }, problems);
    }
    let revision = payload.revision().map(str::to_owned);
    let disabled = payload.disabled().to_vec();
    Some(entries.finish(revision, &disabled, Box::new(Rules(payload))))
}

impl FlagRules for Rules {
    fn decide(&self, flags: &[usize], visitor: &FlagVisitor<'_>, sink: &mut dyn FlagSink) {
        let payload = &self.0;
        let (features, tests) = flags.split_at(flags.partition_point(|flag| *flag < payload.features().len()));
        // The URL has to be put together, and only redirect tests ask for it.
        let url = if tests.is_empty() { Cow::Borrowed("") } else { url(visitor) };
        let overrides = Overrides { outcomes: visitor.previewed, ..Overrides::default() };
        let context = Context { attributes: &visitor.attributes, url: &url, overrides };
        let mut evaluation = Evaluation::new(payload, &context, visitor.kept.map(|_| StickyDocuments::default()));
        if let Some(kept) = visitor.kept {
            evaluation.read_sticky(&|name| {
                let text = kept(&format!("{COOKIE_PREFIX}{name}"))?;
                StickyDocument::from_json(&serde_json::from_slice(text.as_bytes()).ok()?)
            });
        }
        for &number in features {
            let decision = evaluation.feature(number);
            sink.decided(number, Some(decision.outcome), decision.reason.reason());
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
                outcome: None,
            });
        }
        let documents = evaluation.sticky().into_iter().flat_map(StickyDocuments::iter);
        for document in documents.filter(|document| document.is_changed) {
            sink.kept(&format!("{COOKIE_PREFIX}{}", document.key()), &json::text(&document.to_json()));
        }
    }

    fn outcomes(&self, flag: usize) -> &[Outcome] {
        let features = self.0.features();
        match features.get(flag) {
            Some(feature) => feature.outcomes(),
            None => self.0.redirects().get(flag - features.len()).map_or(&[], |test| test.outcomes()),
        }
    }
}

impl Rules {
    /// Decides the redirect tests among `tests`: the first one that the visitor is in is the last.
    fn redirect(
        &self,
        tests: &[usize],
        evaluation: &mut Evaluation<'_, &dyn edgesplit_engine::attribute::Attributes>,
        sink: &mut dyn FlagSink,
    ) {
        let first = self.0.features().len();
        let found = evaluation.redirect_among(&|test| tests.contains(&(first + test)));
        for &number in tests {
            let own = found.as_ref().filter(|redirect| first + redirect.test == number);
            match own {
                Some(redirect) => sink.decided(number, Some(redirect.result.variation), Reason::Experiment),
                None => sink.decided(number, None, Reason::DefaultValue),
            }
        }
        if let Some(location) = found.as_ref().and_then(|redirect| redirect.location.as_deref()) {
            sink.redirected(location);
        }
    }
}

fn url<'a>(visitor: &FlagVisitor<'a>) -> Cow<'a, str> {
    match visitor.attributes.attribute(&AttributeName::Url) {
        AttributeValue::Text(text) => text,
        AttributeValue::Json(Value::String(text)) => Cow::Borrowed(text),
        AttributeValue::Json(_) | AttributeValue::Missing => Cow::Borrowed(""),
    }
}
