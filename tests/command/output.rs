//! The output of the command as text, as JSON and on a terminal.

use super::{NOW, edgesplit, experiments, file};
use edgesplit_testkit::command::program;
use serde_json::{Value, json};
use std::io::Read;
use std::process::Stdio;

#[test]
fn validate_decrypts_with_the_key_of_the_plugin_configuration() {
    // {"f": {"defaultValue": "ü"}}, as GrowthBook's SDKs decrypt it.
    let config = file(
        "encrypted.json",
        r#"{"features": {}, "encryptedFeatures": "EBESExQVFhcYGRobHB0eHw==.dn+mCWdaqSmwZtJ+VpM4B66uhuSd0k6CKAiAo+4apqE="}"#,
    );
    let printed = edgesplit(&["validate", &config]);
    assert_eq!(printed.code, 1);
    assert!(printed.out.contains("encryptedFeatures: is encrypted, and no key is configured"), "{}", printed.out);
    let plugin =
        json!({"experiments": {"inline": {}, "format": "growthbook", "decryption_key": "AAECAwQFBgcICQoLDA0ODw=="}});
    let plugin = file("encrypted-plugin.json", &plugin.to_string());
    let printed = edgesplit(&["validate", "--plugin", &plugin, &config]);
    assert_eq!((printed.code, printed.out.as_str()), (0, ""), "{}", printed.err);
}

#[test]
fn json_output_and_completions() {
    let wrong = file(
        "wrong.json",
        r#"{"schema": 1, "experiments": [{"key": "a", "state": "runing", "variants": [{"key": "b", "weight": 9}]}]}"#,
    );
    let parsed = |out: &str| -> Value { serde_json::from_str(out).unwrap_or_else(|error| panic!("{out}: {error}")) };
    let printed = edgesplit(&["validate", "--json", &wrong]);
    let answer = parsed(&printed.out);
    assert_eq!((printed.code, &answer["disabled"], &answer["refused"]), (1, &json!(1), &json!(false)));
    let problems = answer["problems"].as_array().unwrap().iter();
    let places: Vec<_> = problems.map(|one| (one["path"].as_str().unwrap(), &one["line"], &one["column"])).collect();
    let (line, variants, state) = (json!(1), json!(63), json!(53));
    assert_eq!(places, [("experiments[0].state", &line, &state), ("experiments[0].variants", &line, &variants)]);
    assert_eq!(answer["problems"][0]["severity"], "error");

    let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/experiments.json");
    let of_page = parsed(&edgesplit(&["explain", "--config", examples, "--route", "/checkout", "--json"]).out);
    assert_eq!(
        (&of_page["count"], &of_page["budget"]),
        (&json!(of_page["cache_keys"].as_array().unwrap().len()), &json!(64))
    );
    assert_eq!(of_page["cache_keys"][0], json!({"cache_key": "", "variants": {}}));
    let of_ben =
        parsed(&edgesplit(&["explain", "--config", examples, "--id", "ben", "--path", "/checkout", "--json"]).out);
    assert_eq!(of_ben["cache_key"], "checkout-button.green~navigation.mega");
    assert!(
        of_page["cache_keys"].as_array().unwrap().iter().any(|key| key["cache_key"] == of_ben["cache_key"]),
        "{of_page}"
    );

    let printed = edgesplit(&["size", "--rate", "10/s", "--outage", "48h", "--json"]);
    let answer = parsed(&printed.out);
    assert_eq!((printed.code, &answer["events"], &answer["too_old"]), (1, &json!(1_728_000), &json!(true)));

    let secret = "0123456789abcdef0123456789abcdef";
    let arguments = [
        "preview",
        "--secret",
        secret,
        "--expires",
        "2h",
        "--json",
        "--url",
        "https://shop.example/cart?a=1",
        "nav=mega",
    ];
    let answer = parsed(&edgesplit(&arguments).out);
    let (url, value) = (answer["url"].as_str().unwrap(), answer["value"].as_str().unwrap());
    assert_eq!(url, format!("https://shop.example/cart?a=1&{}={value}", answer["parameter"].as_str().unwrap()));

    for (of, field) in [("plugin", "downstream_caching"), ("experiments", "sticky_version")] {
        let printed = edgesplit(&["schema", of]);
        let schema = parsed(&printed.out);
        assert!(schema["$schema"].is_string() && schema.to_string().contains(field), "{of}");
    }
    for shell in ["bash", "zsh", "fish"] {
        let printed = edgesplit(&["completions", shell]);
        assert!(printed.code == 0 && printed.out.contains("simulate") && printed.out.contains("edgesplit"), "{shell}");
    }
}

/// The output of the command on a terminal.
fn on_a_terminal(arguments: &str) -> String {
    let (mut terminal, command_side) = pty_process::blocking::open().unwrap();
    terminal.resize(pty_process::Size::new(24, 80)).unwrap();
    let command = pty_process::blocking::Command::new(program());
    let command = command.args(arguments.split(' ')).env_remove("NO_COLOR").env("TERM", "xterm");
    let mut child = command.stdin(Stdio::null()).spawn(command_side).unwrap();
    let mut output = Vec::new();
    // The end of the output reads as an error on Linux.
    let _ = terminal.read_to_end(&mut output);
    child.wait().unwrap();
    String::from_utf8(output).unwrap().replace('\r', "")
}

#[test]
fn problems_are_drawn_in_colours_on_a_terminal() {
    let wrong = file(
        "drawn.json",
        "{\n  \"schema\": 1,\n  \"experiments\": [\n    {\"key\": \"a\", \"state\": \"runing\",\n     \"variants\": [{\"key\": \"b\", \"weight\": 9}]}\n  ]\n}\n",
    );
    let drawn = on_a_terminal(&format!("validate {wrong}"));
    assert!(drawn.contains("\u{1b}["), "{drawn:?}");
    let plain = anstream::adapter::strip_str(&drawn).to_string();
    let expected = format!(
        "\
error: expected one of running, paused, concluded, found the string \"runing\"; did you mean `running`?
 --> {wrong}:4:27
  |
4 |     {{\"key\": \"a\", \"state\": \"runing\",
  |                           ^^^^^^^^ experiments[0].state
  |
  = note: effect: the experiment is disabled

error: weights add up to 9, not to 10000
 --> {wrong}:5:6
  |
5 |      \"variants\": [{{\"key\": \"b\", \"weight\": 9}}]}}
  |      ^^^^^^^^^^ experiments[0].variants
  |
  = note: effect: the experiment is disabled

{wrong}: 0 experiments in force, 1 disabled, 0 goals
"
    );
    assert_eq!(plain, expected);
    // Without a terminal: one line each, without colours.
    let printed = edgesplit(&["validate", &wrong]);
    let expected = "experiments[0].variants: weights add up to 9, not to 10000 (effect: the experiment is disabled)";
    assert_eq!(printed.out.lines().nth(1), Some(expected));
    assert!(!printed.out.contains('\u{1b}') && !printed.err.contains('\u{1b}'));
    // Without a terminal, the same text is printed without colours.
    let config = file("coloured.json", &experiments());
    for arguments in [
        format!("simulate {config} --visitors 1000"),
        format!("diff {config} {config} --visitors 1000"),
        format!("explain --config {config} --route /checkout"),
        format!("explain --config {config} --id u1 --path /checkout --now {NOW}"),
    ] {
        let terminal = on_a_terminal(&arguments);
        let printed = edgesplit(&arguments.split(' ').collect::<Vec<_>>());
        assert!(terminal.contains("\u{1b}[") && !printed.out.contains('\u{1b}'), "{arguments}");
        let plain = anstream::adapter::strip_str(&terminal).to_string();
        // The progress bar comes first, and is erased.
        assert!(plain.ends_with(&printed.out), "{arguments}: {plain:?} {:?}", printed.out);
    }
}

#[test]
fn texts_escape_control_and_bidi_characters() {
    let odd = "e\u{1b}[2J\u{202e}\u{9b}";
    let variants = json!([{"key": odd, "weight": 5000, "baseline": true}, {"key": "b", "weight": 5000}]);
    let experiment = json!({"key": odd, "state": "running", "audience": {odd: {"$ne": odd}}, "variants": variants});
    let config = file("odd.json", &json!({"schema": 1, odd: 1, "experiments": [experiment]}).to_string());
    for arguments in ["validate", "explain --id u1 --config", "explain --route / --config", "simulate --visitors 100"] {
        let printed = edgesplit(&arguments.split(' ').chain([config.as_str()]).collect::<Vec<_>>());
        for text in [printed.out, printed.err] {
            let is_odd = |char: char| char.is_control() && char != '\n' || char == '\u{202e}';
            assert!(!text.contains(is_odd), "{arguments}: {text:?}");
        }
    }
}
