use super::super::page::Page;
use super::super::proxy::{NEW_VMS_MS, STUCK_MS};
use super::super::verdict::proxy::ROLLOUT_MS;
use super::*;
use crate::config::Setting;
use crate::document::Document;
use serde_json::{Value, json};

fn stats(pairs: &[(&str, u64)]) -> BTreeMap<String, u64> {
    let name = |name: &str| {
        if name.starts_with("wasm.") { name.to_owned() } else { format!("wasmcustom.edgesplit.demo.{name}") }
    };
    pairs.iter().map(|(stat, value)| (name(stat), *value)).collect()
}

fn sample_with(control: u64, green: u64, queued: u64, more: &[(&str, u64)]) -> Sample {
    let mut all = BTreeMap::from([
        ("exposures.experiment.nav.variant.control", control),
        ("exposures.experiment.nav.variant.green", green),
        ("events.emitted", control + green),
        ("events.delivered", control + green - queued),
        ("outbox.queued_events", queued),
        ("outbox.oldest_age_seconds", queued.min(7)),
        ("config.age_seconds", 3),
        ("config.revision_hash", revision_hash(Some("r1"))),
        ("wasm.envoy.wasm.runtime.v8.created", 4),
        ("wasm.envoy.wasm.runtime.v8.active", 4),
    ]);
    all.extend(more.iter().copied());
    Sample::new(&stats(&all.into_iter().collect::<Vec<_>>()))
}

fn sample(control: u64, green: u64, queued: u64) -> Sample {
    sample_with(control, green, queued, &[])
}

fn view(text: &str) -> Result<ConfigView, ConfigError> {
    let (document, setting) = (Document::parse("f.json", text.as_bytes().to_vec()), Setting::new(None, None));
    ConfigView::new(&document, &setting.compile(&document), &setting, 0)
}

fn config(revision: &str, key: &str) -> ConfigView {
    let variants = json!([{"key": "control", "weight": 5000}, {"key": "green", "weight": 5000}]);
    let config = json!({"schema": 1, "revision": revision, "experiments": [
        {"key": key, "state": "running", "variants": variants}]});
    view(&config.to_string()).unwrap()
}

/// A state with two Envoys, whose clock advances with each sample.
struct Watched(State);

impl Watched {
    fn new() -> Watched {
        let mut state = State::new(&["a".to_owned(), "b".to_owned()]);
        state.set_config(Ok(config("r1", "nav")));
        Watched(state)
    }

    /// Adds an answer of each Envoy, one second later.
    fn then(&mut self, a: Result<Sample, String>, b: Result<Sample, String>) -> Value {
        self.0.add(self.0.now_ms + 1_000, vec![a, b]);
        self.seen()
    }

    fn seen(&self) -> Value {
        Page::default().to_json(&self.0)
    }
}

fn text(verdict: &Value) -> &str {
    verdict["text"].as_str().unwrap()
}

#[test]
fn split_is_tested_over_all_proxies() {
    let mut watched = Watched::new();
    let seen = watched.then(Ok(sample(600, 400, 0)), Ok(sample(410, 590, 0)));
    assert_eq!((&seen["overall"], &seen["attention"]), (&json!("healthy"), &json!([])), "{seen:#}");
    assert_eq!(seen["experiments"][0]["variants"][0]["exposures"], 1010);
    assert_eq!((&seen["revision"], &seen["proxies"][1]["revisions"]), (&json!("r1"), &json!(["r1"])));
    // 1,160 to 990 has p = 0.008.
    let seen = watched.then(Ok(sample(750, 400, 0)), Ok(sample(410, 590, 0)));
    assert_eq!(seen["experiments"][0]["verdict"]["word"], "unusual shares");
    assert!(
        text(&seen["experiments"][0]["verdict"])
            .contains("control has 54.0 % instead of 50.0 %, 85 exposures too many (p = 0.008)"),
        "{seen:#}"
    );
    let seen = watched.then(Ok(sample(750, 400, 0)), Ok(sample(600, 590, 0)));
    let nav = &seen["experiments"][0];
    assert_eq!((&seen["overall"], &nav["verdict"]["word"]), (&json!("broken"), &json!("sample ratio mismatch")));
    assert_eq!((&nav["test"]["plausible"], &nav["test"]["furthest"]["variant"]), (&json!(false), &json!("control")));
    // Charts begin at 0, regardless of earlier counts.
    assert_eq!((&nav["variants"][0]["history"], &seen["seconds"]), (&json!([0, 340]), &json!([-2.0, 0.0])));
    assert_eq!(
        (&seen["attention"][0]["what"], &seen["attention"][0]["place"]),
        (&json!("nav"), &json!("experiment-0"))
    );
}

#[test]
fn delivery_shows_an_outage_of_one_proxy_and_its_end() {
    let mut watched = Watched::new();
    watched.then(Ok(sample(500, 500, 0)), Ok(sample(500, 500, 0)));
    // The other proxy keeps delivering.
    let outage = |watched: &mut Watched, second: u64| {
        watched.then(Ok(sample(500, 500 + second, second)), Ok(sample(500 + second, 500, 0)))
    };
    for second in 1..STUCK_MS / 1_000 {
        assert_eq!(outage(&mut watched, second)["delivery"]["verdict"]["health"], "healthy");
    }
    let seen = outage(&mut watched, STUCK_MS / 1_000);
    assert_eq!(
        text(&seen["delivery"]["verdict"]),
        "No events are delivered by 1 of 2 proxies. 5 events wait in the outbox and will be sent when the service is back."
    );
    assert_eq!(seen["delivery"]["history"]["queued"], json!([0, 5]));
    let seen = watched.then(Ok(sample(500, 505, 0)), Ok(sample(500, 500, 0)));
    assert_eq!(seen["delivery"]["verdict"]["health"], "healthy");
    // Events in a buffer that is not full yet are not stuck.
    for _ in 0..10 {
        let buffered = sample_with(500, 505, 1, &[("outbox.oldest_age_seconds", 0)]);
        let seen = watched.then(Ok(buffered), Ok(sample(500, 500, 0)));
        assert_eq!(seen["delivery"]["verdict"]["health"], "healthy");
    }
    let late = sample_with(500, 510, 5, &[("outbox.oldest_age_seconds", 75), ("events.delivered", 1_006)]);
    let seen = watched.then(Ok(late), Ok(sample(500, 500, 0)));
    assert_eq!(
        (&seen["delivery"]["verdict"]["health"], &seen["delivery"]["verdict"]["word"]),
        (&json!("watch"), &json!("late"))
    );
}

#[test]
fn proxy_without_answer_keeps_its_last_figures() {
    let mut watched = Watched::new();
    let seen = watched.seen();
    assert_eq!(
        (&seen["overall"], &seen["delivery"]["emitted"]),
        (&json!("asking"), &json!(null)),
        "before the first poll"
    );
    let refused = || Err("refused".to_owned());
    let seen = watched.then(refused(), refused());
    assert_eq!((&seen["overall"], &seen["delivery"]["verdict"]["word"]), (&json!("broken"), &json!("no answer")));
    assert_eq!(
        (&seen["delivery"]["emitted"], &seen["experiments"][0]["exposures"]),
        (&json!(null), &json!(null)),
        "no figures"
    );

    let lossy = || sample_with(500, 500, 0, &[("events.dropped_overflow", 7)]);
    watched.then(Ok(lossy()), Ok(lossy()));
    let seen = watched.then(Ok(lossy()), refused());
    assert_eq!(seen["delivery"]["emitted"], 2_000);
    assert_eq!(text(&seen["proxies"][1]["verdict"]), "No answer: refused. Figures are 1 s old.");
    let seen = watched.then(Ok(lossy()), Ok(lossy()));
    // Earlier losses are not counted again, and neither are exposures.
    assert_eq!(
        text(&seen["delivery"]["verdict"]),
        "14 events were lost since the Envoys started, none in the last minute."
    );
    assert_eq!(seen["experiments"][0]["variants"][0]["history"], json!([null, 0]));
    // A restarted Envoy counts from 0.
    let seen = watched.then(Ok(lossy()), Ok(sample(3, 2, 0)));
    assert_eq!(seen["experiments"][0]["variants"][0]["history"], json!([null, 3]));
    assert_eq!(seen["experiments"][0]["variants"][0]["exposures"], 503);
}

#[test]
fn losses_have_upper_bounds_per_variant() {
    let mut watched = Watched::new();
    let seen = watched.then(Ok(sample(500, 500, 0)), Ok(sample(500, 500, 3)));
    let green = |seen: &Value| {
        let green = &seen["experiments"][0]["variants"][1];
        (green["delivered_at_least"].as_u64().unwrap(), green["lost_at_most"].as_u64().unwrap())
    };
    assert_eq!(green(&seen), (997, 0), "three are on their way");
    // An outage does not affect exposures that were settled before.
    watched.then(Ok(sample(500, 500, 0)), Ok(sample(500, 500, 0)));
    let seen = watched.then(Ok(sample(500, 500, 0)), Ok(sample(600, 650, 250)));
    assert_eq!(green(&seen), (1_000, 0));
    watched = Watched::new();
    let lossy = |lost: u64| {
        let all = [("events.rejected", lost), ("events.delivered", 1_000 - lost)];
        sample_with(500, 500, 0, &all)
    };
    watched.then(Ok(lossy(0)), Ok(sample(500, 500, 0)));
    let seen = watched.then(Ok(lossy(20)), Ok(sample(500, 500, 0)));
    assert_eq!(green(&seen), (980, 20));
    let verdict = &seen["experiments"][0]["verdict"];
    assert!(
        verdict["health"] == "healthy" && text(verdict).contains("even if all lost events (20) were of one variant"),
        "{verdict}"
    );
    assert_eq!(text(&seen["delivery"]["verdict"]), "20 events were lost in the last minute.");
    // With this many losses, the shares of the delivered events are unknown.
    let seen = watched.then(Ok(lossy(900)), Ok(sample(500, 500, 0)));
    assert_eq!(green(&seen), (500, 500), "no more than were exposed on that proxy");
    assert_eq!(seen["experiments"][0]["verdict"]["word"], "losses");
}

#[test]
fn guardrail_is_shown_with_the_errors() {
    let mut watched = Watched::new();
    let with = |off: u64| {
        let all = [
            ("guardrail.off.experiment.nav.variant.green", off),
            ("responses.experiment.nav.variant.green.class.2xx", 40),
            ("responses.experiment.nav.variant.green.class.5xx", 60),
            ("outbox.oldest_age_seconds", 4 + off),
        ];
        Ok(sample_with(500, 100, 1, &all))
    };
    let seen = watched.then(with(0), with(1));
    let (nav, green) = (&seen["experiments"][0], &seen["experiments"][0]["variants"][1]);
    assert_eq!(nav["verdict"]["health"], "broken");
    let explanation = text(&nav["verdict"]);
    assert!(
        explanation.starts_with("green answers with more") && explanation.contains("on one proxy"),
        "{explanation}"
    );
    assert_eq!((&green["responses"], &green["server_errors"], &green["off"]), (&json!(200), &json!(120), &json!(1)));
    assert_eq!(nav["variants"][0]["off"], 0);
    assert_eq!((&seen["delivery"]["oldest_age_s"], &seen["proxies"][0]["oldest_age_s"]), (&json!(5), &json!(4)));
}

#[test]
fn proxies_show_new_vms_old_experiments_and_other_revisions() {
    let mut watched = Watched::new();
    watched.then(Ok(sample(1, 1, 0)), Ok(sample(1, 1, 0)));
    let word = |seen: &Value, at: usize| seen["proxies"][at]["verdict"]["word"].as_str().unwrap().to_owned();
    let reloaded = sample_with(1, 1, 0, &[("wasm.envoy.wasm.runtime.v8.created", 5)]);
    let seen = watched.then(Ok(reloaded), Ok(Sample::default()));
    assert_eq!((word(&seen, 0).as_str(), word(&seen, 1).as_str()), ("new VMs", "no filter"));
    assert_eq!(seen["proxies"][0]["vms_started"], 1);
    watched.0.now_ms += NEW_VMS_MS;
    let seen =
        watched.then(Ok(sample_with(1, 1, 0, &[("wasm.envoy.wasm.runtime.v8.created", 5)])), Ok(sample(1, 1, 0)));
    assert_eq!((word(&seen, 0).as_str(), &seen["proxies"][0]["vms_started"]), ("healthy", &json!(1)), "long ago");

    watched.0.set_config(Ok(config("r2", "nav")));
    let at = |revision: &str, age_s: u64| {
        Ok(sample_with(
            1,
            1,
            0,
            &[("config.revision_hash", revision_hash(Some(revision))), ("config.age_seconds", age_s)],
        ))
    };
    let seen = Watched::then(&mut watched, Err("gone".to_owned()), at("r1", 3));
    assert_eq!((word(&seen, 1).as_str(), &seen["proxies"][1]["revisions"]), ("another revision", &json!(["r1"])));
    let seen = watched.then(at("r2", 3), at("r3", 121));
    assert_eq!((word(&seen, 1).as_str(), &seen["proxies"][1]["revisions"]), ("old experiments", &json!(["another"])));
    assert_eq!(revision_hash(None), 0);
    assert_ne!(revision_hash(Some("r1")), revision_hash(Some("r2")));
}

#[test]
fn config_keeps_the_last_good_one_and_names_unknown_experiments() {
    let mut watched = Watched::new();
    watched.then(Ok(sample(1, 1, 0)), Ok(sample(1, 1, 0)));
    watched.0.set_config(Err(ConfigError::Unreadable("it is gone".to_owned())));
    let seen = watched.then(Ok(sample(60, 60, 0)), Ok(sample(60, 60, 0)));
    assert_eq!((&seen["experiments"][0]["key"], &seen["overall"]), (&json!("nav"), &json!("watch")));
    assert_eq!(text(&seen["config"]), "The experiment config cannot be read: it is gone");
    watched.0.set_config(view("{\n \"schema\": 1,\n \"experiments\": [}\n"));
    let seen = watched.then(Ok(sample(60, 60, 0)), Ok(sample(60, 60, 0)));
    assert_eq!((&seen["config"]["word"], &seen["overall"]), (&json!("rejected"), &json!("broken")));
    assert!(text(&seen["config"]).contains("(line 3). The proxies keep the last good one."), "{}", seen["config"]);
    // The proxies have another config: they count an experiment that is not in this one.
    watched.0.set_config(Ok(config("r1", "button")));
    let seen = watched.then(Ok(sample(61, 60, 0)), Ok(sample(60, 60, 0)));
    assert_eq!(text(&seen["config"]), "Proxies count exposures of experiments that the config does not have: nav");
}

#[test]
fn invalid_experiment_keeps_its_row_with_reason_and_line() {
    let mut watched = Watched::new();
    let text = r#"{"schema": 1, "experiments": [
        {"key": "wrong", "state": "running", "variants": [
            {"key": "a", "weight": 4000}, {"key": "b", "weight": 5000}]},
        {"key": "nav", "state": "running", "variants": [{"key": "control", "weight": 10000}]}]}"#;
    watched.0.set_config(view(text));
    let seen = watched.then(Ok(sample(61, 60, 0)), Ok(sample(60, 60, 0)));
    let (wrong, nav) = (&seen["experiments"][0], &seen["experiments"][1]);
    assert_eq!((&wrong["key"], &wrong["state"], &nav["key"]), (&json!("wrong"), &json!("invalid"), &json!("nav")));
    assert_eq!((&wrong["verdict"]["word"], &wrong["problem"]["line"]), (&json!("invalid"), &json!(2)));
    assert!(super::tests::text(&wrong["verdict"]).contains("experiments[0].variants: "), "{wrong}");
    assert_eq!((&seen["attention"][0]["what"], &seen["overall"]), (&json!("wrong"), &json!("broken")));
}

#[test]
fn mismatch_has_its_causes_and_changed_weights_are_the_first() {
    let mut watched = Watched::new();
    let seen = watched.then(Ok(sample(900, 400, 0)), Ok(sample(400, 590, 0)));
    let causes = |seen: &Value| seen["experiments"][0]["causes"].clone();
    assert_eq!((causes(&seen).as_array().unwrap().len(), &causes(&seen)[0]["support"]), (7, &json!("unknown")));
    let mut changed = config("r2", "nav");
    for (variant, weight) in changed.experiments[0].variants.iter_mut().zip([4_000, 6_000]) {
        variant.weight = Some(weight);
    }
    watched.0.set_config(Ok(changed));
    let seen = watched.then(Ok(sample(900, 400, 0)), Ok(sample(400, 590, 0)));
    let evidence = "The weights were changed 1 s ago: the shares mix both.";
    assert_eq!(causes(&seen)[0], json!({"cause": "changed weights", "support": "likely", "evidence": evidence}));
    let seen = watched.then(Ok(sample(1_000_000, 1_500_000, 0)), Ok(sample(400, 590, 0)));
    assert_eq!(causes(&seen), json!([]), "a plausible split needs no cause");
    let mut watched = Watched::new();
    for (weight, expected) in [(6_000, "A proxy gives green to 60.0 %"), (5_000, "The weights were changed 0 s ago")] {
        let proxy = sample_with(900, 400, 0, &[("weights.experiment.nav.variant.green", weight)]);
        let seen = watched.then(Ok(proxy), Ok(sample(400, 590, 0)));
        assert!(causes(&seen)[0]["evidence"].to_string().contains(expected), "{seen}");
    }
}

#[test]
fn proxies_that_disagree_are_broken_after_the_rollout() {
    let mut watched = Watched::new();
    let with = |revision: &str| Ok(sample_with(1, 1, 0, &[("config.revision_hash", revision_hash(Some(revision)))]));
    let word = |seen: &Value| seen["agreement"]["word"].as_str().unwrap().to_owned();
    assert_eq!(word(&watched.then(with("r1"), with("r1"))), "healthy");
    assert_eq!(word(&watched.then(with("r2"), with("r1"))), "rollout");
    watched.0.now_ms += ROLLOUT_MS;
    let seen = watched.then(with("r2"), with("r1"));
    assert_eq!(word(&seen), "proxies disagree");
    let expected = "The proxies disagree: 1 proxy has another, 1 proxy has r1. ";
    let sorted = "The proxies disagree: 1 proxy has r1, 1 proxy has another. ";
    assert!(text(&seen["agreement"]).starts_with(expected) || text(&seen["agreement"]).starts_with(sorted), "{seen}");
    // A proxy without an answer does not take part.
    assert_eq!(word(&watched.then(with("r2"), Err("gone".to_owned()))), "healthy");
}

#[test]
fn requests_without_a_config_and_missing_events_are_reported() {
    let mut watched = Watched::new();
    let passed = |count: u64| Ok(sample_with(0, 0, 0, &[("errors.no_config", count)]));
    watched.then(passed(3), passed(3));
    let seen = watched.then(passed(3), passed(4));
    let word = |at: usize| seen["proxies"][at]["verdict"]["word"].clone();
    assert_eq!((word(0), word(1)), (json!("healthy"), json!("no config")));
    let silent = || Ok(sample_with(60, 60, 0, &[("events.emitted", 0), ("events.delivered", 0)]));
    let seen = watched.then(silent(), silent());
    assert_eq!(seen["delivery"]["verdict"]["word"], "no events block");
}

#[test]
fn page_of_one_proxy_has_its_figures_and_the_time_since_when() {
    let mut watched = Watched::new();
    for second in 0..10 {
        watched.then(Ok(sample(100 + second, 100, 0)), Ok(sample(500, 5, 0)));
    }
    let of = |proxy: usize| Page { proxy: Some(proxy), open: Some([0].into()) }.to_json(&watched.0);
    let (first, second) = (&of(0)["experiments"][0], &of(1)["experiments"][0]);
    assert_eq!((&first["exposures"], &first["verdict"]["health"]), (&json!(209), &json!("healthy")));
    assert_eq!((&second["exposures"], &second["verdict"]["word"]), (&json!(505), &json!("sample ratio mismatch")));
    assert_eq!((&first["per_minute"], &second["per_minute"]), (&json!(60.0), &json!(0.0)));
    assert_eq!(
        first["variants"][0]["shares"].as_array().unwrap().len(),
        first["variants"][0]["low"].as_array().unwrap().len()
    );
    let closed = Page { proxy: None, open: Some([].into()) }.to_json(&watched.0);
    assert_eq!(closed["experiments"][0]["variants"][0]["history"], Value::Null);
    assert_eq!((&closed["experiments"][0]["verdict"]["since_s"], &closed["observed_s"]), (&json!(9), &json!(10)));
}

#[test]
fn exhausted_names_of_metrics_need_attention() {
    let mut watched = Watched::new();
    let other = |exposures: u64| {
        let counts = [
            ("exposures.experiment._other.variant._other", exposures),
            ("mint.minted", 7),
            ("mint.refused_insecure", exposures),
        ];
        Ok(sample_with(600, 600, 0, &counts))
    };
    let seen = watched.then(other(5), other(0));
    assert_eq!((&seen["overall"], &seen["mint"]), (&json!("healthy"), &json!({"minted": 14, "refused_insecure": 5})));
    let seen = watched.then(other(6), other(0));
    assert_eq!(seen["attention"][0]["what"], "Experiment config", "{seen:#}");
    assert!(text(&seen["config"]).contains("are counted together as _other"), "{seen:#}");
}

#[test]
fn visitors_without_ids_are_reported() {
    let mut watched = Watched::new();
    let with = |more: &[(&str, u64)]| Ok(sample_with(0, 0, 0, more));
    let few = with(&[("decisions.reason.no_unit", 99)]);
    let mixed = with(&[("decisions.reason.no_unit", 5_000), ("decisions.reason.traffic", 1)]);
    let state = watched.then(few, mixed);
    assert_eq!(state["proxies"][0]["verdict"]["health"], "healthy");
    assert_eq!(state["proxies"][1]["verdict"]["health"], "healthy");
    let state = watched.then(with(&[("decisions.reason.no_unit", 1_000)]), Ok(sample(0, 0, 0)));
    let verdict = &state["proxies"][0]["verdict"];
    assert_eq!((&verdict["health"], &verdict["word"]), (&json!("broken"), &json!("no ids")));
    let expected = "No visitor is identified: 1,000 decisions were made without an id, and none with one. ";
    assert!(text(verdict).starts_with(expected), "{verdict}");
}
