//! URL redirect tests: experiments of the payload that send visitors of some URLs to others.
//!
//! The payload's other experiments change pages in the browser. They are left to the browser's SDK.

use super::experiment::Experiment;
use super::url::Url;
use super::wire::Scope;
use crate::diagnostics::{Node, Severity};
use edgesplit_engine::flag::Outcome;
use serde_json::Value;

/// A URL redirect test, ready to be decided.
#[derive(Debug)]
pub struct RedirectTest {
    /// Its experiment.
    pub experiment: Experiment,
    /// Its outcomes for visitors who are in it.
    pub outcomes: Vec<Outcome>,
    /// Where each variation sends its visitors, if anywhere.
    pub(super) locations: Vec<Option<String>>,
    pub(super) persist_query: bool,
    /// Its position in the payload's list of experiments.
    pub position: usize,
}

const FIELDS: &[&str] = &[
    "key",
    "name",
    "phase",
    "status",
    "active",
    "manual",
    "changeId",
    "variations",
    "weights",
    "coverage",
    "ranges",
    "meta",
    "filters",
    "seed",
    "hashAttribute",
    "fallbackAttribute",
    "hashVersion",
    "disableStickyBucketing",
    "bucketVersion",
    "minBucketVersion",
    "namespace",
    "condition",
    "parentConditions",
    "urlPatterns",
    "persistQueryString",
    "force",
    "metadata",
];

/// Reads one of the payload's experiments; none if it is no URL redirect test.
pub(super) fn read(scope: &mut Scope<'_>, node: Node<'_>, position: usize) -> Option<RedirectTest> {
    node.object(&mut scope.problems)?;
    let values = scope
        .required(node, "variations", |scope, node| node.array(&mut scope.problems).map(<[Value]>::to_vec))
        .unwrap_or_default();
    let is_redirect =
        values.iter().any(|value| value.get("urlRedirect").is_some()) && node.value.get("urlPatterns").is_some();
    if !is_redirect {
        scope.problems.warning(node.path, "not a URL redirect test: left to the SDK in the browser");
        return None;
    }
    if scope.flag(node, "manual") {
        scope.problems.warning(&node.path.field("manual"), "nothing here triggers it: left to the SDK in the browser");
        return None;
    }
    node.unknown_fields(FIELDS, Severity::Warning, &mut scope.problems);
    let experiment = Experiment::compile_whole(scope, node, &values)?;
    let locations = scope.member(node, "variations", |scope, node| {
        scope.list(node, |scope, node| Some(scope.member(node, "urlRedirect", location)))
    });
    Some(RedirectTest {
        outcomes: experiment.outcomes(&values).collect(),
        locations: locations.unwrap_or_default(),
        persist_query: scope.flag(node, "persistQueryString"),
        position,
        experiment,
    })
}

fn location(scope: &mut Scope<'_>, node: Node<'_>) -> Option<String> {
    let text = node.string(&mut scope.problems).filter(|text| !text.is_empty())?;
    match Url::parse(text, None).filter(|url| !url.host().is_empty()) {
        // A URL that a header cannot hold is written as a browser writes it.
        Some(url) if !text.bytes().all(|byte| byte.is_ascii_graphic()) => Some(url.text().0),
        Some(_) => Some(text.to_owned()),
        None => {
            node.expected(&mut scope.problems, "a whole URL, such as \"https://shop.example/new\"");
            None
        }
    }
}
