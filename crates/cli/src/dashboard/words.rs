//! The settings of an experiment in words.

use edgesplit_engine::guardrail::Guardrail;
use edgesplit_engine::hash::BUCKETS;
use edgesplit_engine::pattern::Pattern;
use edgesplit_engine::route::Route;
use edgesplit_engine::snapshot::Experiment;
use time::OffsetDateTime;

/// The longest text, in characters.
const CHARS_MAX: usize = 300;

/// The most elements of a list.
const ELEMENTS_MAX: usize = 4;

/// Such as `GET shop.example/checkout*`.
pub(super) fn route(route: &Route) -> String {
    let texts = |patterns: &[Pattern]| listed(patterns.iter().map(Pattern::text));
    let methods = listed(route.methods.iter().cloned());
    let (hosts, paths) = (texts(&route.hosts), texts(&route.paths));
    let parts = [methods, hosts, paths].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>();
    if parts.is_empty() { "everywhere".to_owned() } else { shortened(&parts.join(" ")) }
}

/// Such as `country is one of "AT", "DE"`.
pub(super) fn audience(experiment: &Experiment) -> String {
    let unit = experiment.unit.written();
    let unit = if unit == "id" { String::new() } else { format!(", by {unit}") };
    let visitors = match &experiment.audience {
        Some(condition) if !condition.tests.is_empty() => shortened(&condition.to_string()),
        _ => "every visitor".to_owned(),
    };
    visitors + &unit
}

/// Such as `10 %, then 100 % from 2026-12-08 00:00 UTC`.
pub(super) fn traffic(experiment: &Experiment, now_ms: i64) -> String {
    let mut text = share(experiment.traffic_share(now_ms));
    if let Some(layer) = &experiment.layer {
        let name = layer.salt.text().trim_start_matches("layer/").trim_end_matches('/');
        text += &format!(" of its {} of the layer {name}", share(layer.to.saturating_sub(layer.from)));
    }
    if let Some(next) = experiment.traffic.iter().find(|step| step.from_ms > now_ms) {
        text += &format!(", then {} from {}", share(next.share), moment(next.from_ms));
    }
    text
}

/// Such as `5xx at most 1 point above the baseline`.
pub(super) fn guardrail(guardrail: &Guardrail) -> String {
    let points = guardrail.max_5xx_ratio_increase * 100.0;
    let (points, unit) = (format!("{points:.2}"), if points == 1.0 { "point" } else { "points" });
    format!("5xx at most {} {unit} above the baseline", points.trim_end_matches('0').trim_end_matches('.'))
}

/// A share in 1/10,000 as a percentage, without zeros at its end.
fn share(buckets: u32) -> String {
    format!("{} %", f64::from(buckets) / (f64::from(BUCKETS) / 100.0))
}

/// A time in UTC, to the minute.
pub(super) fn moment(ms: i64) -> String {
    match OffsetDateTime::from_unix_timestamp(ms / 1_000) {
        Ok(at) => {
            format!("{}-{:02}-{:02} {:02}:{:02} UTC", at.year(), u8::from(at.month()), at.day(), at.hour(), at.minute())
        }
        Err(_) => "a time out of range".to_owned(),
    }
}

fn listed(elements: impl Iterator<Item = String>) -> String {
    let elements: Vec<String> = elements.collect();
    match elements.get(..ELEMENTS_MAX) {
        Some(first) if elements.len() > ELEMENTS_MAX => {
            format!("{} and {} more", first.join(", "), elements.len() - ELEMENTS_MAX)
        }
        _ => elements.join(", "),
    }
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use edgesplit_formats::native;
    use serde_json::{Value, json};

    fn experiment(with: Value) -> Experiment {
        let mut experiment = json!({"key": "a", "state": "running", "variants": [{"key": "b", "weight": 10000}]});
        experiment.as_object_mut().unwrap().extend(with.as_object().unwrap().clone());
        let compiled = native::compile(&json!({"schema": 1, "experiments": [experiment]}), 64);
        compiled.snapshot.unwrap().experiments.pop().unwrap_or_else(|| panic!("{:?}", compiled.problems))
    }

    #[test]
    fn route_names_methods_hosts_and_paths() {
        let route = |value: Value| super::route(&experiment(json!({"route": value})).route);
        assert_eq!(route(json!({})), "everywhere");
        assert_eq!(
            route(json!({"paths": ["/checkout*"], "hosts": ["shop.example"], "methods": ["GET"]})),
            "GET shop.example /checkout*"
        );
        assert_eq!(route(json!({"paths": ["/a", "/b", "/c", "/d", "/e", "/f"]})), "/a, /b, /c, /d and 2 more");
    }

    #[test]
    fn audience_is_a_sentence() {
        for (audience, expected) in [
            (json!({}), "every visitor"),
            (
                json!({"country": {"$in": ["DE", "AT"]}, "plan": "pro"}),
                "country is one of \"AT\", \"DE\" and plan is \"pro\"",
            ),
            (json!({"age": {"$gte": 18, "$lt": 30}}), "age >= 18 and < 30"),
            (json!({"$or": [{"a": 1}, {"$not": {"b": true}}]}), "(a is 1 or not (b is true))"),
        ] {
            assert_eq!(super::audience(&experiment(json!({"audience": audience}))), expected);
        }
        assert_eq!(super::audience(&experiment(json!({"unit": "header.x-team"}))), "every visitor, by header.x-team");
        let long = super::audience(&experiment(json!({"audience": {"a": "x".repeat(1_000)}})));
        assert_eq!(long.chars().count(), CHARS_MAX + 1);
    }

    #[test]
    fn traffic_has_its_next_step_and_layer() {
        let steps =
            json!([{"from": "2026-12-01T00:00:00Z", "share": 1050}, {"from": "2026-12-08T12:30:00Z", "share": 10000}]);
        let stepped = experiment(json!({"traffic": steps, "layer": {"name": "checkout", "slots": [0, 2500]}}));
        let december_2 = 1_796_169_600_000;
        assert_eq!(
            traffic(&stepped, december_2),
            "10.5 % of its 25 % of the layer checkout, then 100 % from 2026-12-08 12:30 UTC"
        );
        assert_eq!(traffic(&experiment(json!({})), 0), "100 %");
    }

    #[test]
    fn guardrail_names_its_limit() {
        let with = |increase: f64| guardrail(&Guardrail { max_5xx_ratio_increase: increase, ..Guardrail::default() });
        assert_eq!(with(0.01), "5xx at most 1 point above the baseline");
        assert_eq!(with(0.025), "5xx at most 2.5 points above the baseline");
    }
}
