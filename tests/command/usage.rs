//! Usability of the command: help texts, invalid input, and readers that close the pipe.

use super::{edgesplit, file};
use edgesplit_testkit::command::program;
use serde_json::json;
use std::path::Path;
use std::process::{Command, Stdio};

fn experiments() -> String {
    let halves = json!([{"key": "control", "weight": 5000, "baseline": true}, {"key": "green", "weight": 5000}]);
    json!({"schema": 1, "experiments": [{"key": "nav", "state": "running", "variants": halves}]}).to_string()
}

#[test]
fn help_has_an_example_and_the_exit_codes() {
    let help = edgesplit(&["--help"]).out;
    assert!(help.starts_with("A/B tests inside Envoy") && help.contains("Examples:\n  edgesplit "), "{help}");
    let (_, rest) = help.split_once("Commands:\n").unwrap();
    let names: Vec<&str> =
        rest.lines().take_while(|line| !line.is_empty()).filter_map(|line| line.split_whitespace().next()).collect();
    assert!(names.len() >= 11, "{names:?}");
    for name in names.into_iter().filter(|name| *name != "help") {
        let help = edgesplit(&[name, "--help"]).out;
        assert!(
            help.contains(&format!("  edgesplit {name} "))
                || help.contains(&format!("edgesplit {name} --config"))
                || help.contains(&format!("<(edgesplit {name} ")),
            "{help}"
        );
        assert!(
            help.ends_with("Exit codes: 0 success, 1 problems found, 2 incorrect usage or unreadable file.\n"),
            "{help}"
        );
    }
}

#[test]
fn byte_order_mark_is_ignored() {
    let config = file("marked.json", &format!("\u{feff}{}", experiments()));
    let plugin = json!({"experiments": {"cluster": "experiments"}, "visitor": {"id": [{"cookie": "uid"}]}});
    let plugin = file("marked_plugin.json", &format!("\u{feff}{plugin}"));
    let printed = edgesplit(&["validate", "--plugin", &plugin, &config]);
    assert_eq!(printed.code, 0, "{} {}", printed.out, printed.err);
}

#[test]
fn spool_is_accepted_with_a_note() {
    for (spool, code, note) in [
        ("/var/lib/edgesplit", 0, "events.outbox.spool needs the native module"),
        ("spool", 1, "plugin configuration refused"),
    ] {
        let events = json!({"cluster": "collector", "outbox": {"spool": spool}});
        let plugin = json!({"experiments": {"cluster": "experiments"}, "visitor": {"mint": {}}, "events": events});
        let printed = edgesplit(&["validate", "--strict", "--plugin", &file("spool.json", &plugin.to_string())]);
        assert_eq!((printed.code, printed.err.contains(note)), (code, true), "{} {}", printed.out, printed.err);
    }
}

#[test]
fn config_in_another_format_than_the_filter_would_read_is_an_error() {
    let payload = json!({"features": {"nav": {"defaultValue": true}}});
    let config = file("features.json", &payload.to_string());
    for (experiments, code, message) in [
        (
            json!({"cluster": "c"}),
            1,
            "experiments.format of the plugin configuration is native by default: set it to growthbook",
        ),
        (
            json!({"inline": payload}),
            1,
            "is native by default: set it to growthbook (effect: the filter does not start)",
        ),
        (json!({"cluster": "c", "format": "growthbook"}), 0, "1 experiment in force"),
    ] {
        let is_inline = experiments.get("inline").is_some();
        let plugin = json!({"experiments": experiments, "visitor": {"id": [{"cookie": "uid"}]}});
        let plugin = file("default-format.json", &plugin.to_string());
        let arguments = ["validate", "--plugin", &plugin, &config];
        let printed = edgesplit(&arguments[..if is_inline { 3 } else { 4 }]);
        let text = printed.out + &printed.err;
        assert_eq!((printed.code, text.contains(message)), (code, true), "{text}");
    }
    // Other commands recognise the format.
    let plugin =
        file("default-format.json", r#"{"experiments": {"cluster": "c"}, "visitor": {"id": [{"cookie": "uid"}]}}"#);
    let printed = edgesplit(&["explain", "--plugin", &plugin, &config, "--id", "u1"]);
    assert_eq!(
        (printed.code, printed.err.contains("by default: the filter would refuse it")),
        (0, true),
        "{}",
        printed.err
    );
}

#[test]
fn port_that_is_none_is_refused() {
    for port in ["99999", "0", "x", ""] {
        let url = format!("http://127.0.0.1:{port}/x.json");
        for arguments in
            [&["validate", &url][..], &["dashboard", "--json", "--envoy", &url], &["init", "--origin", &url]]
        {
            let printed = edgesplit(arguments);
            assert_eq!((printed.code, printed.err.contains("expected a")), (2, true), "{arguments:?}: {}", printed.err);
        }
    }
}

#[test]
fn closed_pipe_is_no_error() {
    let config = file("pipe.json", &experiments());
    for arguments in [
        "completions bash",
        "schema plugin",
        &format!("simulate {config} --visitors 100"),
        &format!("evaluate --config {config}"),
    ] {
        let requests = file("pipe.jsonl", "{\"id\": \"u1\"}\n{\"id\": \"u2\"}\n");
        let mut child = Command::new(program())
            .args(arguments.split(' '))
            .stdin(std::fs::File::open(requests).unwrap())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // The pipe may close before or during the output.
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), err.contains("panicked")), (Some(0), false), "{arguments}: {err}");
    }
}

#[test]
fn invalid_input_gives_a_message_and_an_exit_code() {
    let config = file("right.json", &experiments());
    let [broken, list, empty] =
        [("broken.json", "{\"schema\": 1,\n \"experiments\": [}"), ("list.json", "[]"), ("empty.json", "")]
            .map(|(name, text)| file(name, text));
    let binary = Path::new(env!("CARGO_TARGET_TMPDIR")).join("binary.json");
    std::fs::write(&binary, [0xff_u8, 0x00, 0xfe, b'{', 0x80]).unwrap();
    let (binary, folder) = (binary.to_str().unwrap(), env!("CARGO_TARGET_TMPDIR"));
    for (arguments, code, expected) in [
        (format!("validate {config}.not"), 2, "cannot read"),
        (format!("validate {folder}"), 2, "Is a directory"),
        (format!("validate {binary}"), 1, "refused as a whole"),
        (format!("validate {broken}"), 1, "not JSON: expected value at line 2 column 18"),
        (format!("validate {list}"), 1, "expected an object"),
        (format!("validate {empty}"), 1, "not JSON"),
        (format!("validate --jsn {config}"), 2, "'--json'"),
        (
            format!("validate --format yaml {config}"),
            2,
            "[possible values: native, optimizely, growthbook, unleash, eppo, flagd, posthog]",
        ),
        (format!("validate --plugin {folder} {config}"), 2, "Is a directory"),
        (format!("evaluate --config {binary}"), 1, "not JSON"),
        (format!("evaluate --config {config} --now yesterday"), 2, "expected a time in RFC 3339"),
        (format!("explain --config {config}"), 2, "--route <PATH>|--id <ID>|--path <PATH>"),
        (format!("explain --config {config} --id u1 --attributes []"), 2, "expected a JSON object"),
        (format!("simulate {binary}"), 1, "not JSON"),
        (format!("simulate {config} --visitors 0"), 2, "0 is not in 1..="),
        (format!("simulate {config} --visitors 10 --svg {folder}/no/such.svg"), 2, "cannot write"),
        (format!("simulate {config} --requests {broken}"), 2, "line 1"),
        (format!("diff {config}"), 2, "<NEW>"),
        (format!("diff {config} {list}"), 1, "expected an object"),
        (format!("diff {config} {config} --visitors 10 --list {folder}"), 2, "cannot write"),
        ("preview a=b".to_owned(), 2, "--expires"),
        ("preview --secret short --expires 2h a=b".to_owned(), 2, "fewer than 16 bytes"),
        ("size --rate 5 --outage 10m".to_owned(), 2, "expected a rate such as 1000/s"),
        ("size --rate 5/s --outage soon".to_owned(), 2, "expected a duration such as 90s"),
        (format!("dashboard --config {config}"), 2, "--envoy <URL>"),
        (format!("dashboard --envoy http://127.0.0.1:1 --config {config} --listen nowhere"), 2, "invalid"),
        (format!("dashboard --envoy http://127.0.0.1:1 --config {config} --json"), 1, "No Envoy has answered"),
        ("frobnicate".to_owned(), 2, "unrecognized subcommand"),
        (String::new(), 2, "Usage: edgesplit <COMMAND>"),
    ] {
        let printed = edgesplit(&arguments.split_whitespace().collect::<Vec<_>>());
        let all = format!("{}{}", printed.out, printed.err);
        assert_eq!((printed.code, all.contains(expected)), (code, true), "{arguments}: {all}");
        assert!(!all.contains("panicked"), "{arguments}: {all}");
    }
    // `evaluate` accepts --json, although it always prints JSON.
    assert_eq!(edgesplit(&["evaluate", "--json", "--config", &config]).code, 0);
}
