use super::*;
use crate::plugin_config::PluginConfig;
use crate::test_host::{TestHost, TestReply};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use std::io::Write;

const REFRESH_MS: i64 = 10_000;
const BYTES_MAX: usize = 20_100;

/// A VM that fetches.
struct Vm {
    sync: ConfigSync,
    metrics: Metrics,
}

impl Vm {
    fn new(host: &TestHost) -> Vm {
        Vm::with(host, &json!({}), None)
    }

    /// A VM with these members of `experiments`, and an inline config of this revision.
    fn with(host: &TestHost, members: &Value, inline: Option<&str>) -> Vm {
        let mut experiments = json!({"cluster": "experiments", "max_bytes": BYTES_MAX});
        experiments.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        let config = PluginConfig::from_value(&json!({"experiments": experiments})).unwrap();
        let source = config.experiments.source.clone().unwrap();
        let inline = inline.map(str::to_owned);
        let sync = ConfigSync::new(source, config.compile_options(), inline, 1, "edgesplit/test", 0);
        Vm { sync, metrics: Metrics::define(host, "test") }
    }

    /// Fetches this body after the refresh interval. Gives the revision that is in force then, if it is new.
    fn fetch(&mut self, host: &TestHost, body: &[u8]) -> Option<String> {
        assert!(self.tick_after(host, REFRESH_MS));
        self.reply(host, &[status(200)], body)
    }

    /// A VM that has started the first fetch.
    fn start(host: &TestHost) -> Vm {
        let mut vm = Vm::new(host);
        assert!(vm.sync.start(host, 0, &mut vm.metrics).is_none());
        vm
    }

    /// Handles the reply to the last call, and ticks until the config is in force or refused. Gives its revision.
    fn reply(&mut self, host: &TestHost, headers: &[(&'static str, String)], body: &[u8]) -> Option<String> {
        self.snapshot(host, headers, body).and_then(|snapshot| snapshot.revision)
    }

    /// The same for the snapshot.
    fn snapshot(&mut self, host: &TestHost, headers: &[(&'static str, String)], body: &[u8]) -> Option<Snapshot> {
        let token = host.calls.borrow().len() as u32 - 1;
        let reply = TestReply { headers: headers.to_vec(), body: body.to_vec() };
        let mut snapshot = self.sync.on_reply(host, host.now_ms.get(), token, &reply, &mut self.metrics).unwrap();
        while self.sync.is_compiling() {
            snapshot = self.sync.tick(host, host.now_ms.get(), &mut self.metrics);
        }
        self.metrics.flush(host);
        snapshot
    }

    /// Ticks after `wait_ms`. True if that started a fetch.
    fn tick_after(&mut self, host: &TestHost, wait_ms: i64) -> bool {
        let calls = host.calls.borrow().len();
        host.now_ms.set(host.now_ms.get() + wait_ms);
        assert!(self.sync.tick(host, host.now_ms.get(), &mut self.metrics).is_none());
        host.calls.borrow().len() > calls
    }
}

fn status(status: u16) -> (&'static str, String) {
    (":status", status.to_string())
}

/// A config with one experiment, and blanks to make it `bytes` long.
fn config(revision: &str, bytes: usize) -> Vec<u8> {
    let mut text = format!(r#"{{"schema": 1, "revision": "{revision}", "experiments": []}}"#).into_bytes();
    text.resize(bytes.max(text.len()), b' ');
    text
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

fn encoded(encoding: &str) -> [(&'static str, String); 2] {
    [status(200), ("content-encoding", encoding.to_owned())]
}

#[test]
fn failed_fetch_is_retried_at_the_refresh_interval() {
    let host = TestHost::default();
    let mut vm = Vm::start(&host);
    for (headers, body) in [
        (vec![], &b""[..]),
        (vec![status(503)], b"upstream connect error"),
        (vec![status(404)], b""),
        (vec![status(304)], b""),
        (vec![status(200)], b"<html>"),
        (vec![status(200)], &[b' '; BYTES_MAX + 1]),
    ] {
        assert_eq!(vm.reply(&host, &headers, body), None);
        assert!(!vm.tick_after(&host, REFRESH_MS * 8 / 10), "{headers:?}: too early");
        assert!(vm.tick_after(&host, REFRESH_MS * 2 / 10), "{headers:?}");
    }
    assert_eq!(vm.reply(&host, &[status(200)], &config("r1", 0)).as_deref(), Some("r1"));
    assert_eq!((host.count("config.fetch_failure"), host.count("config.rejected")), (4, 2));
}

#[test]
fn exceeded_quota_turns_all_flags_of_posthog_off_until_a_fetch_succeeds() {
    let flag = |key: &str| json!({"key": key, "active": true, "filters": {"groups": [{"properties": []}]}});
    let posthog = json!({"flags": [flag("a"), flag("b")]}).to_string();
    let unleash = r#"{"version": 2, "features": [{"name": "a", "enabled": true, "strategies": []}]}"#;
    for (format, payload, failure, flags) in [
        ("posthog", posthog.as_str(), 402, [Some(2), Some(0), Some(2)]),
        ("posthog", posthog.as_str(), 403, [Some(2), None, None]),
        ("unleash", unleash, 402, [Some(1), None, None]),
    ] {
        let host = TestHost::default();
        let mut vm = Vm::with(&host, &json!({"format": format}), None);
        vm.sync.start(&host, 0, &mut vm.metrics);
        let found = [(200, payload), (failure, ""), (200, payload)].map(|(code, body)| {
            let snapshot = vm.snapshot(&host, &[status(code)], body.as_bytes());
            assert!(vm.tick_after(&host, REFRESH_MS));
            snapshot.map(|snapshot| snapshot.experiments.len())
        });
        assert_eq!(found, flags, "{format} {failure}");
        let is_logged = host.log.borrow().iter().any(|line| line.contains("quota"));
        assert_eq!(is_logged, flags[1].is_some(), "{:?}", host.log);
    }
}

#[test]
fn config_is_in_force_at_once_in_a_vm_that_starts_later() {
    let host = TestHost::default();
    let mut first = Vm::start(&host);
    let variants = r#"[{"key": "a", "weight": 5000, "baseline": true}, {"key": "b", "weight": 5000}]"#;
    let experiments: Vec<String> = (0..100)
        .map(|number| format!(r#"{{"key": "e{number}", "state": "running", "variants": {variants}}}"#))
        .collect();
    let body = format!(r#"{{"schema": 1, "revision": "r1", "experiments": [{}]}}"#, experiments.join(","));
    assert_eq!(first.reply(&host, &[status(200)], body.as_bytes()).as_deref(), Some("r1"));
    let mut second = Vm::new(&host);
    let snapshot = second.sync.start(&host, 0, &mut second.metrics).unwrap();
    assert_eq!(snapshot.revision.as_deref(), Some("r1"));
}

#[test]
fn validator_is_sent_back_unless_it_is_too_long() {
    for (etag, date, expected) in [
        ("\"v1\"".to_owned(), None, [Some("\"v1\"".to_owned()), None]),
        ("x".repeat(256), None, [Some("x".repeat(256)), None]),
        ("x".repeat(257), None, [None, None]),
        (
            "x".repeat(50_000),
            Some("Mon, 23 Nov 2026 08:00:00 GMT"),
            [None, Some("Mon, 23 Nov 2026 08:00:00 GMT".into())],
        ),
    ] {
        let host = TestHost::default();
        let mut vm = Vm::start(&host);
        let mut headers = vec![status(200), ("etag", etag.clone())];
        headers.extend(date.map(|date| ("last-modified", date.to_owned())));
        assert_eq!(vm.reply(&host, &headers, &config("r1", 0)).as_deref(), Some("r1"));
        assert!(vm.tick_after(&host, REFRESH_MS));
        assert_eq!(["if-none-match", "if-modified-since"].map(|name| host.last_call(name)), expected, "{}", etag.len());
    }
}

#[test]
fn validator_is_dropped_after_a_client_error() {
    for (answer, is_kept) in [(400, false), (431, false), (404, false), (503, true), (304, true)] {
        let host = TestHost::default();
        let mut vm = Vm::start(&host);
        vm.reply(&host, &[status(200), ("etag", "\"v1\"".to_owned())], &config("r1", 0));
        assert!(vm.tick_after(&host, REFRESH_MS));
        assert_eq!(vm.reply(&host, &[status(answer)], b""), None);
        assert!(vm.tick_after(&host, REFRESH_MS));
        assert_eq!(host.last_call("if-none-match").is_some(), is_kept, "{answer}");
    }
}

#[test]
fn gzip_is_requested_and_read() {
    for (encoding, body, expected) in [
        ("gzip", gzip(&config("r1", 0)), Some("r1")),
        (" GZIP", gzip(&config("r1", 0)), Some("r1")),
        ("x-gzip", [gzip(&config("r1", 0)), gzip(b"   ")].concat(), Some("r1")),
        ("gzip", [gzip(b"").repeat(990), gzip(&config("r1", 0))].concat(), Some("r1")),
        ("gzip", [gzip(b"").repeat(1_000), gzip(&config("r1", 0))].concat(), None),
        ("identity", config("r1", 0), Some("r1")),
        ("gzip", config("r1", 0), None),
        ("gzip", gzip(&config("r1", 0)).iter().copied().take(30).collect(), None),
    ] {
        let host = TestHost::default();
        let mut vm = Vm::start(&host);
        assert_eq!(host.last_call("accept-encoding").as_deref(), Some("gzip"));
        assert_eq!(vm.reply(&host, &encoded(encoding), &body).as_deref(), expected, "{encoding} {}", body.len());
        assert_eq!(host.count("config.rejected"), i64::from(expected.is_none()), "{:?}", host.log.borrow());
    }
}

#[test]
fn max_bytes_limits_the_decompressed_config() {
    for (bytes, expected) in [(BYTES_MAX, Some("r1")), (BYTES_MAX + 1, None), (50 << 20, None)] {
        let host = TestHost::default();
        let mut vm = Vm::start(&host);
        let body = gzip(&config("r1", bytes));
        assert_eq!(vm.reply(&host, &encoded("gzip"), &body).as_deref(), expected, "{bytes}");
        if expected.is_none() {
            assert!(host.log.borrow().iter().any(|line| line.contains("experiments.max_bytes (20100)")), "{bytes}");
        }
    }
}

#[test]
fn other_encodings_are_refused_by_name() {
    let host = TestHost::default();
    let mut vm = Vm::start(&host);
    assert_eq!(vm.reply(&host, &encoded("br"), b"\x0b\x02\x80"), None);
    let expected = |rest: &str| {
        format!(
            "the fetched experiments are refused: the content-encoding \"br\" is not supported, only gzip is; {rest}"
        )
    };
    assert_eq!(host.log.borrow().last(), Some(&expected("no earlier fetch succeeded")));
    assert!(vm.tick_after(&host, REFRESH_MS));
    assert!(vm.reply(&host, &[status(200)], &config("r1", 0)).is_some());
    assert!(vm.tick_after(&host, REFRESH_MS));
    assert_eq!(vm.reply(&host, &encoded("br"), b"\x0b\x02\x80"), None);
    assert_eq!(host.log.borrow().last(), Some(&expected("the last good ones stay")));
}

#[test]
fn changes_are_counted_once_per_process() {
    let host = TestHost::default();
    let mut first = Vm::start(&host);
    first.reply(&host, &[status(200)], &config("r1", 0));
    let mut second = Vm::new(&host);
    assert!(second.sync.start(&host, 0, &mut second.metrics).is_some());
    assert_eq!(host.count("config.changes"), 0, "the first config is no change");
    for (revision, changes) in [("r2", 1), ("r2", 1), ("r1", 2), ("r2", 3)] {
        first.fetch(&host, &config(revision, 0));
        second.sync.tick(&host, host.now_ms.get(), &mut second.metrics);
        second.metrics.flush(&host);
        assert_eq!(host.count("config.changes"), changes, "{revision}");
    }
    // A VM that stores the same config once more changes nothing.
    second.sync.text_hash = 0;
    second.fetch(&host, &config("r2", 0));
    assert_eq!(host.count("config.changes"), 3);
}

#[test]
fn monotonic_config_refuses_lower_revisions() {
    for (is_monotonic, inline, expected) in [
        (true, None, [Some("r9"), Some("r10"), None, None, Some("r10"), Some("r11")]),
        (true, Some("r10"), [None, Some("r10"), None, None, Some("r10"), Some("r11")]),
        (false, None, [Some("r9"), Some("r10"), Some("r9"), Some(""), Some("r10"), Some("r11")]),
    ] {
        let host = TestHost::default();
        let mut vm = Vm::with(&host, &json!({"monotonic": is_monotonic}), inline);
        vm.sync.start(&host, 0, &mut vm.metrics);
        vm.reply(&host, &[status(503)], b"");
        let without_revision = br#"{"schema": 1, "revision": "", "experiments": []}"#.to_vec();
        let bodies = [
            config("r9", 0),
            config("r10", 0),
            config("r9", 0),
            without_revision,
            config("r10", 200),
            config("r11", 0),
        ];
        let in_force = bodies.map(|body| vm.fetch(&host, &body));
        assert_eq!(in_force.each_ref().map(Option::as_deref), expected, "{inline:?}");
        let refused = expected.iter().filter(|revision| revision.is_none()).count();
        assert_eq!(host.count("config.rejected"), refused as i64);
        let reason = "revision \"r9\" is lower than \"r10\", the one in force, and experiments.monotonic is on";
        assert_eq!(host.log.borrow().iter().any(|line| line.contains(reason)), is_monotonic, "{:?}", host.log.borrow());
    }
}

#[test]
fn monotonic_config_is_not_replaced_by_a_slower_vm() {
    let host = TestHost::default();
    let mut vms = [(); 2].map(|()| Vm::with(&host, &json!({"monotonic": true}), None));
    for vm in &mut vms {
        // Both fetch before their first tick.
        vm.sync.start(&host, 0, &mut vm.metrics);
    }
    let [slow, fast] = &mut vms;
    assert_eq!(fast.reply(&host, &[status(200)], &config("r10", 0)).as_deref(), Some("r10"));
    let reply = TestReply { headers: vec![status(200)], body: config("r9", 0) };
    assert!(slow.sync.on_reply(&host, 0, 0, &reply, &mut slow.metrics).unwrap().is_none());
    let loaded = slow.sync.tick(&host, 0, &mut slow.metrics).unwrap();
    assert_eq!(loaded.revision.as_deref(), Some("r10"));
}

#[test]
fn byte_order_mark_is_ignored() {
    let host = TestHost::default();
    let mut vm = Vm::start(&host);
    let body = ["\u{feff}".as_bytes(), &config("r1", 0)].concat();
    assert_eq!(vm.reply(&host, &[status(200)], &body).as_deref(), Some("r1"));
    assert_eq!(vm.fetch(&host, &config("r1", 0)), None, "the same config");
}

#[test]
fn disabled_experiments_are_logged_with_their_number() {
    let host = TestHost::default();
    let mut vm = Vm::start(&host);
    let experiment =
        |key: &str, weight: u32| json!({"key": key, "state": "running", "variants": [{"key": "a", "weight": weight}]});
    let document =
        json!({"schema": 1, "revision": "r1", "experiments": [experiment("good", 10_000), experiment("bad", 1)]});
    assert_eq!(vm.reply(&host, &[status(200)], document.to_string().as_bytes()).as_deref(), Some("r1"));
    let log = host.log.borrow();
    let lines: Vec<&str> =
        log.iter().filter_map(|line| line.split_once("the config that was fetched: ")).map(|(_, rest)| rest).collect();
    let expected = "disabled experiments or flags: 1; the others are in force";
    assert_eq!(lines, ["experiments[1].variants: weights add up to 1, not to 10000", expected]);
}

#[test]
fn failed_fetches_name_their_cause() {
    for (headers, body, expected) in [
        (vec![status(503)], "no healthy upstream", "cluster \"experiments\" has no healthy host"),
        (vec![status(504)], "upstream request timeout", "cluster \"experiments\" did not answer in time"),
        (vec![status(503)], "busy", "(status 503)"),
        (vec![], "", "or is larger than the 32 MiB that the proxy accepts"),
    ] {
        let host = TestHost::default();
        let mut vm = Vm::with(&host, &json!({"scheme": "https"}), None);
        vm.sync.start(&host, 0, &mut vm.metrics);
        assert_eq!(host.last_call(":scheme").as_deref(), Some("https"));
        vm.reply(&host, &headers, body.as_bytes());
        assert!(host.log.borrow().iter().any(|line| line.contains(expected)), "{:?}", host.log.borrow());
    }
}
