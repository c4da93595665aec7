//! The decisions for one visitor, step by step.

use super::Arguments;
use crate::evaluate::{self, Request, with_visit};
use crate::output::{BAD, GOOD, QUIET, STRONG};
use edgesplit_engine::attribute::Attributes;
use edgesplit_engine::condition::{LimitExceeded, request_budget};
use edgesplit_engine::decide::{self, Visit, decide};
use edgesplit_engine::hash::BUCKETS;
use edgesplit_engine::reason::Reason;
use edgesplit_engine::route::RequestLine;
use edgesplit_engine::snapshot::{Choice, Experiment, Snapshot, State};
use edgesplit_filter::plugin_config::PluginConfig;
use edgesplit_formats::diagnostics::{Node, Problems};
use serde_json::{Map, Value, json};
use std::fmt::Write;

/// The decisions for one visitor.
pub(super) struct Told {
    /// Why a preview link is ignored.
    bad_link: Option<String>,
    decided: Decided,
}

enum Decided {
    /// By the native format's steps.
    Native { rows: Vec<Row>, assignments: String, cache_key: String },
    /// By a vendor's rules, flag by flag, as `evaluate` prints it: their steps are the vendor's own.
    Flags(Value),
}

/// What was decided about one experiment.
struct Row {
    key: String,
    variant: Option<String>,
    reason: Reason,
    steps: Vec<Step>,
    /// What disables it.
    problem: Option<String>,
}

/// What is asked, as a line of `evaluate`.
fn line(asked: &Arguments) -> Value {
    let texts = |pairs: &[(String, String)]| -> Map<String, Value> {
        pairs.iter().map(|(name, value)| (name.clone(), json!(value))).collect()
    };
    json!({
        "id": asked.id, "attributes": asked.attributes, "host": asked.host, "path": asked.path,
        "method": asked.method, "headers": texts(&asked.headers), "cookies": texts(&asked.cookies),
    })
}

/// Decides about one visitor.
pub(super) fn visitor(
    snapshot: &Snapshot,
    plugin: Option<&PluginConfig>,
    asked: &Arguments,
    now_ms: i64,
) -> Result<Told, String> {
    let line = line(asked);
    let mut problems = Problems::new();
    let request = Request::read(Node::root(&line), &mut problems).filter(|_| problems.errors() == 0);
    let request = request.ok_or_else(|| problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))?;

    Ok(with_visit(&request, plugin, now_ms, |view, visit, link| {
        let bad_link = link.and_then(|link| link.as_ref().err()).map(ToString::to_string);
        if let Some(rules) = snapshot.flag_evaluator.as_deref() {
            let keeps_sticky = plugin.is_some_and(|plugin| plugin.request.sticky.is_some());
            let flags = evaluate::decide_flags(snapshot, rules, &request, view, visit, link, keeps_sticky);
            return Told { bad_link, decided: Decided::Flags(flags) };
        }
        let mut choices = Vec::new();
        let (mut rows, budget) = (Vec::new(), request_budget());
        for (position, experiment) in snapshot.experiments.iter().enumerate() {
            let decision = decide(snapshot, experiment, &view.line(), visit, view, &budget);
            let choice = decision.variant.map(|variant| Choice { experiment: position, variant });
            choices.extend(choice);
            let variant = choice.and_then(|choice| snapshot.choice(choice));
            rows.push(Row {
                key: experiment.key.clone(),
                variant: variant.map(|(_, variant)| variant.key.clone()),
                reason: decision.reason,
                steps: steps(snapshot, experiment, &view.line(), visit, view),
                problem: None,
            });
        }
        rows.extend(snapshot.disabled.iter().map(|disabled| Row {
            key: disabled.key.clone().unwrap_or_else(|| "an experiment without a key".to_owned()),
            variant: None,
            reason: Reason::Disabled,
            steps: Vec::new(),
            problem: Some(disabled.problem.clone()),
        }));
        let (assignments, cache_key) = evaluate::texts(snapshot, &mut choices, link);
        Told { bad_link, decided: Decided::Native { rows, assignments, cache_key } }
    }))
}

impl Told {
    pub(super) fn to_text(&self) -> String {
        let mut text = String::new();
        if let Some(problem) = &self.bad_link {
            // Writing to a string cannot fail, here and below.
            let _ = writeln!(text, "{BAD}the preview link is ignored{BAD:#}: {problem}");
        }
        let (rows, assignments, cache_key) = match &self.decided {
            Decided::Native { rows, assignments, cache_key } => (rows, assignments, cache_key),
            Decided::Flags(decided) => {
                flags(&mut text, decided);
                return text;
            }
        };
        for Row { key, variant, reason, steps, problem } in rows {
            let outcome = match variant {
                Some(variant) => format!("{GOOD}{variant}{GOOD:#}"),
                None => "not in it".to_owned(),
            };
            let _ = writeln!(text, "{STRONG}{key}{STRONG:#}: {outcome} ({})", reason.name());
            for step in steps {
                let _ = writeln!(text, "  {QUIET}{:<9}{QUIET:#} {}", step.name, step.says);
            }
            if let Some(problem) = problem {
                let _ = writeln!(text, "  {problem}");
            }
        }
        let shown = |text: &str| if text.is_empty() { "(none)".to_owned() } else { text.to_owned() };
        let _ = writeln!(text, "\nassignments  {}", shown(assignments));
        let _ = writeln!(text, "cache key    {}", shown(cache_key));
        text
    }

    /// What `evaluate` answers, with the steps of each decision.
    pub(super) fn to_json(&self, mut answer: Value) -> Value {
        if let Decided::Native { rows, .. } = &self.decided {
            for decision in answer.get_mut("decisions").and_then(Value::as_array_mut).into_iter().flatten() {
                let row = rows.iter().find(|row| decision.get("key").is_some_and(|key| *key == row.key.as_str()));
                let (Some(row), Some(members)) = (row, decision.as_object_mut()) else { continue };
                let steps = row.steps.iter().map(|step| json!({"step": step.name, "says": step.says}));
                members.insert("steps".to_owned(), steps.collect());
                members.insert("problem".to_owned(), json!(row.problem));
            }
        }
        if let Some(members) = answer.as_object_mut() {
            members.insert("ignored_preview".to_owned(), json!(self.bad_link));
        }
        answer
    }
}

/// The answer of `evaluate`.
pub(super) fn answer(
    snapshot: &Snapshot,
    plugin: Option<&PluginConfig>,
    asked: &Arguments,
    now_ms: i64,
) -> Result<Value, String> {
    evaluate::line(snapshot, plugin, now_ms, line(asked).to_string().as_bytes())
}

/// What a vendor's rules decided, flag by flag.
fn flags(text: &mut String, decided: &Value) {
    let shown = |value: &Value| match value {
        Value::Null => "none".to_owned(),
        Value::String(text) if text.is_empty() => "(none)".to_owned(),
        Value::String(text) => text.clone(),
        value => value.to_string(),
    };
    for row in decided.get("decisions").and_then(Value::as_array).into_iter().flatten() {
        let of = |name: &str| row.get(name).map(shown).unwrap_or_default();
        let _ = writeln!(text, "{STRONG}{}{STRONG:#}: variant {} ({})", of("key"), of("variant"), of("reason"));
        for (name, says) in [("value", of("value")), ("experiment", of("experiment"))] {
            let _ = writeln!(text, "  {QUIET}{name:<10}{QUIET:#} {says}");
        }
    }
    let of = |name: &str| decided.get(name).map(shown).unwrap_or_default();
    let _ = writeln!(text, "\nassignments  {}\ncache key    {}", of("assignments"), of("cache_key"));
}

/// One step on the way to a decision. The last one of a list is the one that decided.
struct Step {
    name: &'static str,
    says: String,
    /// The reason that it gives, if it decides.
    #[cfg_attr(not(test), expect(dead_code, reason = "tests compare it with the engine's"))]
    reason: Option<Reason>,
}

/// The steps of [`decide`], each with what it found, up to the one that decides.
fn steps(
    snapshot: &Snapshot,
    experiment: &Experiment,
    line: &RequestLine<'_>,
    visit: &Visit<'_>,
    attributes: &impl Attributes,
) -> Vec<Step> {
    let mut steps = Vec::new();
    // A way out at the first step that decides.
    let _ = walk(snapshot, experiment, line, visit, attributes, &mut |name, says, reason| {
        steps.push(Step { name, says, reason });
        if reason.is_some() { None } else { Some(()) }
    });
    steps
}

/// Tells `step` every step with what it found; `None` from there ends the walk.
fn walk(
    snapshot: &Snapshot,
    experiment: &Experiment,
    line: &RequestLine<'_>,
    visit: &Visit<'_>,
    attributes: &impl Attributes,
    step: &mut impl FnMut(&'static str, String, Option<Reason>) -> Option<()>,
) -> Option<()> {
    let either = |good: bool, yes: &str, no: &str| if good { yes.to_owned() } else { no.to_owned() };
    let unless = |good: bool, reason: Reason| (!good).then_some(reason);

    let included = visit.path_included;
    step(
        "path",
        either(included, "the filter acts on it", "the plugin configuration keeps the filter off it"),
        unless(included, Reason::PathExcluded),
    )?;
    let paused = experiment.state == State::Paused;
    step("state", either(paused, "paused: nobody is in it", "not paused"), unless(!paused, Reason::Paused))?;
    let on_route = experiment.route.matches(line);
    let path = String::from_utf8_lossy(line.path);
    let request =
        format!("{} {path} on {:?}", String::from_utf8_lossy(line.method), String::from_utf8_lossy(&line.host));
    step(
        "route",
        format!("{request} {}", either(on_route, "matches", "does not match")),
        unless(on_route, Reason::Route),
    )?;
    if !visit.preview.is_empty() {
        let key = |at: usize| experiment.variants.get(at).map_or("", |variant| variant.key.as_str());
        match decide::previewed(experiment, visit) {
            Some(variant) => step("preview", format!("the link shows {}", key(variant)), Some(Reason::Preview))?,
            None => step("preview", "the link shows no variant that it has".to_owned(), None)?,
        }
    }
    if let State::Concluded(winner) = experiment.state {
        let key = experiment.variants.get(winner).map_or("", |variant| variant.key.as_str());
        step("winner", format!("concluded: everyone gets {key}"), Some(Reason::Winner))?;
    }
    match decide::not_scheduled(experiment, visit.now_ms) {
        Some(reason) => {
            step("schedule", either(reason == Reason::Ended, "has ended", "has not started"), Some(reason))?
        }
        None => step("schedule", "it is its time".to_owned(), None)?,
    }
    step("bot", either(visit.bot, "the user agent is a bot's", "no bot"), unless(!visit.bot, Reason::Bot))?;
    step(
        "consent",
        either(visit.consent, "nothing against it", "not given, or an objection was sent"),
        unless(visit.consent, Reason::NoConsent),
    )?;
    let name = experiment.unit.written();
    let Some(unit) = decide::unit(&experiment.unit, attributes) else {
        return step("unit", format!("{name} has no value to bucket by"), Some(Reason::NoUnit));
    };
    step("unit", format!("{name} is {unit:?}"), None)?;
    match experiment.forced.get(&*unit).and_then(|at| experiment.variants.get(*at)) {
        Some(variant) => step("forced", format!("the config forces {} for it", variant.key), Some(Reason::Forced))?,
        None => step("forced", "no variant is forced".to_owned(), None)?,
    }
    match &experiment.audience {
        Some(audience) => {
            let (says, reason) = match audience.matches(attributes, &request_budget()) {
                Ok(true) => ("the visitor is in it", None),
                Ok(false) => ("the visitor is not in it", Some(Reason::Audience)),
                Err(LimitExceeded) => ("checking it exceeds the limit of work", Some(Reason::Limit)),
            };
            step("audience", says.to_owned(), reason)?;
        }
        None => step("audience", "everybody".to_owned(), None)?,
    }
    if let Some(holdout) = &snapshot.holdout {
        let bucket = holdout.salt.bucket(&unit);
        let held = bucket < holdout.share;
        let says = format!("bucket {bucket}; held out below {}: {}", holdout.share, either(held, "held out", "not"));
        step("holdout", says, unless(!held, Reason::Holdout))?;
    }
    if let Some(layer) = &experiment.layer {
        let bucket = layer.salt.bucket(&unit);
        let inside = (layer.from..layer.to).contains(&bucket);
        let says =
            format!("bucket {bucket}; its slots are [{}, {}): {}", layer.from, layer.to, either(inside, "in", "out"));
        step("layer", says, unless(inside, Reason::Layer))?;
    }
    if let Some(version) = experiment.sticky {
        let (says, reason) = sticky(experiment, version, visit);
        step("sticky", says, reason)?;
    }
    let (taking_part, share) = (experiment.traffic_salt.bucket(&unit), experiment.traffic_share(visit.now_ms));
    let inside = taking_part < share;
    step(
        "traffic",
        format!("bucket {taking_part}; takes part below {share}: {}", either(inside, "in", "out")),
        unless(inside, Reason::Traffic),
    )?;
    let bucket = experiment.variant_salt.bucket(&unit);
    let starts = std::iter::once(0).chain(experiment.variants.iter().map(|variant| variant.bucket_end));
    let ranges = experiment.variants.iter().zip(starts);
    let ranges: Vec<String> =
        ranges.map(|(variant, start)| format!("{} [{start}, {})", variant.key, variant.bucket_end)).collect();
    debug_assert!(bucket < BUCKETS);
    step("variant", format!("bucket {bucket} of {}", ranges.join(", ")), Some(Reason::Bucketed))
}

/// What the browser's cookie says of a sticky experiment.
fn sticky(experiment: &Experiment, version: u32, visit: &Visit<'_>) -> (String, Option<Reason>) {
    let Some(bucket) = visit.sticky.iter().find(|bucket| bucket.experiment == experiment.key) else {
        return ("the browser remembers no variant of it".to_owned(), None);
    };
    let variant = &bucket.variant;
    if decide::remembered(experiment, visit).is_some() {
        (format!("the browser remembers {variant}"), Some(Reason::Sticky))
    } else if bucket.version == version {
        (format!("the browser remembers {variant:?}, which it does not have"), None)
    } else {
        (format!("the browser remembers {variant:?} of version {}; it is version {version} now", bucket.version), None)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{snapshot, with};
    use super::*;
    use edgesplit_engine::decide::StickyBucket;

    #[test]
    fn the_last_step_is_the_engine_s_reason() {
        let snapshot = snapshot(json!([
            with("paused", json!({"state": "paused"})),
            with("route", json!({"route": {"paths": ["/a"], "methods": ["POST"]}})),
            with("won", json!({"state": "concluded", "winner": "green"})),
            with("later", json!({"starts": "2026-12-01T00:00:00Z"})),
            with("over", json!({"ends": "2020-12-01T00:00:00Z"})),
            with("forced", json!({"forced": {"u7": "green"}})),
            with("audience", json!({"audience": {"id": {"$regex": "[02468]$"}}})),
            with("layer", json!({"layer": {"name": "l", "slots": [0, 5000]}})),
            with("traffic", json!({"traffic": 5000})),
            with("no unit", json!({"unit": "cookie.none"})),
            with("sticky", json!({"sticky": true, "sticky_version": 2})),
            with("sticky too", json!({"sticky": true, "sticky_version": 1})),
            with("gone", json!({"sticky": true})),
        ]));
        let preview = [("won".to_owned(), "control".to_owned()), ("over".to_owned(), "gone".to_owned())];
        let bucket = |experiment: &str, version, variant: &str| StickyBucket {
            experiment: experiment.to_owned().into(),
            version,
            variant: variant.to_owned().into(),
        };
        let sticky = [bucket("sticky", 2, "green"), bucket("sticky too", 0, "green"), bucket("gone", 0, "none")];
        let mut seen = std::collections::HashSet::new();
        for number in 0..200 {
            for (path_included, consent, bot) in
                [(true, true, false), (false, true, false), (true, false, false), (true, true, true)]
            {
                let preview = if number % 2 == 0 { &preview[..] } else { &[] };
                let anyone = Visit::unrestricted(1_780_000_000_000);
                let visit = Visit { path_included, consent, bot, preview, sticky: &sticky, ..anyone };
                let line = RequestLine { host: b"h".into(), path: b"/a", method: b"GET" };
                let attributes = json!({"id": format!("u{number}")});
                for experiment in &snapshot.experiments {
                    let decision = decide(&snapshot, experiment, &line, &visit, &attributes, &request_budget());
                    let steps = steps(&snapshot, experiment, &line, &visit, &attributes);
                    let (last, before) = steps.split_last().unwrap();
                    assert_eq!(last.reason, Some(decision.reason), "{}: {}", experiment.key, last.says);
                    assert!(before.iter().all(|step| step.reason.is_none()));
                    seen.insert(decision.reason);
                }
            }
        }
        // Those that a valid experiment can give to the command: disabled ones have no steps, and what a proxy has switched off
        // is known there alone.
        let missing: Vec<_> = Reason::ALL.iter().filter(|reason| !seen.contains(reason)).collect();
        assert_eq!(missing, [&Reason::Disabled, &Reason::Limit, &Reason::Guardrail]);
    }
}
