//! Deciding a line by a vendor's rules.

use super::{Link, Request, shown, texts};
use edgesplit_engine::attribute::{AttributeName, AttributeValue, Attributes, json_attribute};
use edgesplit_engine::condition::request_budget;
use edgesplit_engine::decide::{Visit, decide_flags};
use edgesplit_engine::flag::{FlagDecisions, FlagEvaluator, FlagVisitor, StickyStore};
use edgesplit_engine::reason::Reason;
use edgesplit_engine::snapshot::{Choice, Snapshot};
use edgesplit_filter::visit::RequestView;
use serde_json::{Value, json};

/// What a line says of its visitor: its typed attributes as they are, and beside them only what it says itself, since a
/// condition on what is not there has a meaning of its own.
struct LineAttributes<'a> {
    request: &'a Request<'a>,
    view: &'a RequestView<'a>,
}

impl Attributes for LineAttributes<'_> {
    fn attribute<'a>(&'a self, name: &'a AttributeName) -> AttributeValue<'a> {
        if let Some(typed) = self.request.attributes
            && let found @ AttributeValue::Json(_) = json_attribute(typed, &name.written())
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
}

/// Decides every flag; `keeps_sticky` where the plugin configuration has the browser keep sticky buckets.
pub(crate) fn decide(
    snapshot: &Snapshot,
    rules: &dyn FlagEvaluator,
    request: &Request<'_>,
    view: &RequestView<'_>,
    visit: &Visit<'_>,
    link: Link<'_>,
    keeps_sticky: bool,
) -> Value {
    let attributes = LineAttributes { request, view };
    let cookie = |name: &str| view.encoded_cookie(name);
    let sticky_store: Option<&StickyStore<'_>> = if keeps_sticky { Some(&cookie) } else { None };
    let typed_id = request.attributes.and_then(|typed| typed.get("id")?.as_str());
    let (id, steps) = (view.id_text().or(typed_id), request_budget());
    let visitor = FlagVisitor { id, attributes: &attributes, previewed: &[], sticky_store, steps: &steps };

    let mut rows = Vec::new();
    let mut candidates = Vec::new();
    for (number, experiment) in (0..).zip(&snapshot.experiments) {
        let reason = match (visit.path_included, experiment.route.matches(&view.line())) {
            (false, _) => Reason::PathExcluded,
            (true, false) => Reason::Route,
            (true, true) => {
                candidates.push(number);
                continue;
            }
        };
        rows.push((experiment.position, shown(&experiment.key, None, reason)));
    }
    let mut found = FlagDecisions::default();
    decide_flags(snapshot, rules, &candidates, visit, &visitor, &mut found);

    let mut choices = Vec::new();
    for (number, outcome, reason) in found.decided {
        let Some(position) = snapshot.flag(number) else { continue };
        let Some(experiment) = snapshot.experiments.get(position) else { continue };
        choices.extend(outcome.map(|variant| Choice { experiment: position, variant }));
        let outcome = outcome.and_then(|outcome| rules.outcomes(number).get(outcome));
        let row = json!({
            "key": experiment.key,
            "experiment": outcome.and_then(|outcome| outcome.experiment.as_ref()).filter(|key| **key != experiment.key),
            "variant": outcome.and_then(|outcome| outcome.variant.as_ref()),
            "value": outcome.map(|outcome| &outcome.value),
            "reason": reason.name(),
            "in_experiment": outcome.is_some_and(|outcome| outcome.in_experiment),
        });
        rows.push((experiment.position, row));
    }
    for disabled in &snapshot.disabled {
        let row = disabled.key.as_ref().map(|key| shown(key, None, Reason::Disabled));
        rows.extend(row.map(|row| (disabled.position, row)));
    }
    rows.sort_by_key(|(position, _)| *position);
    let (assignments, cache_key) = texts(snapshot, &mut choices, link);
    json!({
        "decisions": rows.into_iter().map(|(_, row)| row).collect::<Vec<_>>(),
        "assignments": assignments,
        "cache_key": cache_key,
    })
}
