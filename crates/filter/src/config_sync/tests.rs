use super::*;
use crate::plugin_config::PluginConfig;
use crate::test_host::{TestHost, TestReply};
use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::Write;

const REFRESH_MS: i64 = 10_000;
const BYTES_MAX: usize = 20_000;

/// A VM that fetches.
struct Vm {
    sync: ConfigSync,
    metrics: Metrics,
}

impl Vm {
    fn new(host: &TestHost) -> Vm {
        let config = format!(r#"{{"experiments": {{"cluster": "experiments", "max_bytes": {BYTES_MAX}}}}}"#);
        let config = PluginConfig::parse(config.as_bytes()).unwrap();
        let source = config.experiments.source.clone().unwrap();
        let sync = ConfigSync::new(source, config.compile_options(), 1, "edgesplit/test", 0);
        Vm { sync, metrics: Metrics::define(host, "test") }
    }

    /// A VM that has started the first fetch.
    fn start(host: &TestHost) -> Vm {
        let mut vm = Vm::new(host);
        assert!(vm.sync.start(host, 0, &mut vm.metrics).is_none());
        vm
    }

    /// Handles the reply to the last call, and ticks until the config is in force or refused. Gives its revision.
    fn reply(&mut self, host: &TestHost, headers: &[(&'static str, String)], body: &[u8]) -> Option<String> {
        let token = host.calls.borrow().len() as u32 - 1;
        let reply = TestReply { headers: headers.to_vec(), body: body.to_vec() };
        let mut snapshot = self.sync.on_reply(host, host.now_ms.get(), token, &reply, &mut self.metrics).unwrap();
        while self.sync.is_compiling() {
            snapshot = self.sync.tick(host, host.now_ms.get(), &mut self.metrics);
        }
        self.metrics.flush(host);
        snapshot.and_then(|snapshot| snapshot.revision)
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
            assert!(host.log.borrow().iter().any(|line| line.contains("experiments.max_bytes (20000)")), "{bytes}");
        }
    }
}

#[test]
fn other_encodings_are_refused_by_name() {
    let host = TestHost::default();
    let mut vm = Vm::start(&host);
    assert_eq!(vm.reply(&host, &encoded("br"), b"\x0b\x02\x80"), None);
    let expected = "the fetched experiments are refused: the content-encoding \"br\" is not supported, only gzip is; the last \
                    good ones stay";
    assert_eq!(host.log.borrow().last().map(String::as_str), Some(expected));
}
