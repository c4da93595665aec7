//! The command line: output, its destination, and exit codes.
#![allow(missing_docs)]
// Helpers of tests fail as tests do: by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice)]

use edgesplit_filter::request_context::preview::{self, NotValid};
use serde_json::{Value, json};
use std::io::Read;
use std::path::PathBuf;
use std::process::Command;

const SECRET: &str = "correct horse battery staple";
const NOW: &str = "2026-12-01T00:00:00Z";
const NOW_MS: i64 = 1_796_083_200_000;

struct Printed {
    code: i32,
    out: String,
    err: String,
}

fn edgesplit(arguments: &[&str], variables: &[(&str, &str)]) -> Printed {
    let mut command = Command::new(edgesplit_testkit::command::program());
    let output = command
        .args(arguments)
        .env_remove("EDGESPLIT_PREVIEW_SECRET")
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Printed { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
}

fn file(name: &str, content: &str) -> String {
    let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&file, content).unwrap();
    file.to_str().unwrap().to_owned()
}

fn experiments() -> String {
    json!({"schema": 1, "experiments": [
        {"key": "checkout-button", "state": "running", "route": {"paths": ["/checkout*"]}, "forced": {"qa": "green"},
         "variants": [{"key": "control", "weight": 5000, "baseline": true}, {"key": "green", "weight": 5000}]},
        {"key": "nav", "state": "running", "traffic": 0,
         "variants": [{"key": "plain", "weight": 5000, "baseline": true}, {"key": "mega", "weight": 5000}]},
    ]})
    .to_string()
}

#[test]
fn preview_reads_the_secret_from_every_source() {
    let secret_file = file("preview-secret", &format!("{SECRET}\n"));
    let plugin = file(
        "preview-plugin.json",
        &json!({"experiments": {"inline": {}}, "request": {"preview": {"parameter": "show", "secret": SECRET}}})
            .to_string(),
    );
    let rest = ["--expires", "2h", "--now", NOW, "checkout-button=green", "nav=mega"];
    for (options, variables) in [
        (&["--secret", SECRET][..], &[][..]),
        (&["--secret-file", &secret_file], &[]),
        (&["--plugin", &plugin], &[]),
        (&[], &[("EDGESPLIT_PREVIEW_SECRET", SECRET)]),
        // An option takes precedence over the variable.
        (&["--secret", SECRET], &[("EDGESPLIT_PREVIEW_SECRET", "another")]),
    ] {
        let printed = edgesplit(&[&["preview"], options, &rest].concat(), variables);
        assert_eq!((printed.code, printed.err.as_str()), (0, "valid until 2026-12-01T02:00:00Z\n"), "{options:?}");
        let token = printed.out.trim_end();
        let found = preview::check(SECRET.as_bytes(), token.as_bytes(), b"h", NOW_MS + 7_199_999).unwrap();
        assert_eq!((found.variant("checkout-button"), found.variant("nav")), (Some("green"), Some("mega")));
        let late = preview::check(SECRET.as_bytes(), token.as_bytes(), b"h", NOW_MS + 7_200_000);
        assert_eq!(late, Err(NotValid::Expired));
        assert!(!printed.err.contains(SECRET));
    }
    let printed = edgesplit(
        &[&["preview", "--plugin", &plugin, "--url", "https://shop.example/cart?a=1#top"][..], &rest].concat(),
        &[],
    );
    assert!(printed.out.starts_with("https://shop.example/cart?a=1&show=1~1796090400~checkout-button.green~nav.mega~"));
    assert!(printed.out.ends_with("#top\n"), "{}", printed.out);
    let config = file("preview-experiments.json", &experiments());
    for (options, code, message) in [
        (&["--secret", "fifteen bytes..", "nav=mega"][..], 2, "fewer than 16 bytes"),
        (&["--secret", SECRET, "--config", &config, "nav=mega"], 0, "valid until"),
        (&["--secret", SECRET, "--config", &config, "nav=huge"], 1, "no variant \"huge\"; it has plain, mega"),
        (&["--secret", SECRET, "--config", &config, "nav-2=mega"], 1, "no experiment \"nav-2\""),
        (&["nav=mega"], 2, "no secret"),
        (&["--secret", "", "nav=mega"], 2, "fewer than 16 bytes"),
        (&["--secret", SECRET, "--host", "a/b", "nav=mega"], 2, "expected a host"),
        (&["--secret", SECRET], 2, "required"),
        (&["--secret", SECRET, "nav"], 2, "EXPERIMENT=VARIANT"),
        (&["--secret", SECRET, "nav=mega", "nav=plain"], 2, "twice"),
        (&["--secret", SECRET, "--plugin", &plugin, "nav=mega"], 2, "cannot be used with"),
        (&["--secret", SECRET, "--url", "shop", "nav=mega"], 2, "expected a URL"),
    ] {
        let printed = edgesplit(&[&["preview", "--expires", "2h", "--now", NOW], options].concat(), &[]);
        assert_eq!(printed.code, code, "{options:?}: {}", printed.err);
        assert!(printed.err.contains(message), "{options:?}: {}", printed.err);
        assert_eq!(printed.out.is_empty(), code != 0, "{options:?}");
    }
}

#[test]
fn explain_lists_the_cache_keys_of_a_route() {
    let config = file("explain-route.json", &experiments());
    let printed = edgesplit(&["explain", "--config", &config, "--route", "/checkout"], &[]);
    let expected = "\
GET /checkout on any host: 2 experiments
  checkout-button: adds green; nothing for its baseline control and visitors not in it
  nav: adds mega; nothing for its baseline plain and visitors not in it

4 cache keys; the budget allows 64
  (none)  baselines, and visitors in no experiment
  checkout-button.green  green of checkout-button
  nav.mega  mega of nav
  checkout-button.green~nav.mega  green of checkout-button and mega of nav
";
    assert_eq!((printed.code, printed.out.as_str()), (0, expected), "{}", printed.err);
}

#[test]
fn explain_shows_a_visitor_step_by_step() {
    let config = file("explain-visitor.json", &experiments());
    let ask = |more: &[&str]| edgesplit(&[&["explain", "--config", &config, "--now", NOW], more].concat(), &[]);
    let printed = ask(&["--id", "u2", "--path", "/checkout"]);
    // The buckets were computed independently, by the formulas in docs/configuration.md.
    let expected = "\
checkout-button: green (bucketed)
  path      the filter acts on this path
  state     not paused
  route     GET /checkout on \"\" matches
  schedule  no start or end is set
  bot       not a bot
  consent   given, or not required
  unit      id is \"u2\"
  forced    no variant is forced
  audience  all visitors
  traffic   bucket 8903; takes part below 10000: in
  variant   bucket 6055 of control [0, 5000), green [5000, 10000)
nav: not in it (traffic)
";
    assert_eq!(printed.code, 0, "{}", printed.err);
    assert!(printed.out.starts_with(expected), "{}", printed.out);
    assert!(printed.out.ends_with("\nassignments  checkout-button=green\ncache key    checkout-button.green\n"));
    let printed = ask(&["--path", "/", "--header", "user-agent=Googlebot"]);
    assert!(printed.out.contains("nav: not in it (no_unit)") && printed.out.ends_with("cache key    (none)\n"));
    let plugin = file("explain-plugin.json", &json!({"experiments": {"inline": {}}}).to_string());
    let printed = ask(&["--plugin", &plugin, "--id", "qa", "--path", "/checkout", "--header", "user-agent=Googlebot"]);
    assert!(printed.out.contains("checkout-button: not in it (bot)"), "{}", printed.out);
    let printed = ask(&["--attributes", "{\"id\": \"qa\"}", "--path", "/checkout"]);
    assert!(printed.out.contains("checkout-button: green (forced)"), "{}", printed.out);
    for wrong in [&[][..], &["--id", "u1", "--route", "/"], &["--path", "/", "--attributes", "[]"]] {
        assert_eq!(ask(wrong).code, 2, "{wrong:?}");
    }
}

#[test]
fn explain_names_the_failed_clause() {
    let audience = json!({"country": {"$in": ["DE", "AT"]}, "plan": "pro"});
    let variants = json!([{"key": "old", "weight": 5000, "baseline": true}, {"key": "new", "weight": 5000}]);
    let experiment = json!({"key": "nav", "state": "running", "audience": audience, "variants": variants});
    let config = file("explain-audience.json", &json!({"schema": 1, "experiments": [experiment]}).to_string());
    let ask = |attributes: Value| {
        let attributes = attributes.to_string();
        let printed =
            edgesplit(&["explain", "--config", &config, "--id", "u1", "--attributes", &attributes, "--now", NOW], &[]);
        printed.out.lines().find_map(|line| line.strip_prefix("  audience  ").map(str::to_owned)).unwrap_or(printed.err)
    };
    assert_eq!(ask(json!({"country": "FR", "plan": "pro"})), r#"country is "FR", expected one of "AT", "DE""#);
    assert_eq!(ask(json!({"country": "DE"})), r#"plan is missing, expected "pro""#);
    assert_eq!(ask(json!({"country": "DE", "plan": "pro"})), "matches");
}

#[test]
fn explain_shows_how_the_visitor_is_identified() {
    let config = file("explain-identity.json", &experiments());
    let ask = |visitor: Value, more: &[&str]| {
        let plugin = json!({"visitor": visitor, "experiments": {"inline": {}}}).to_string();
        let plugin = file("explain-identity-plugin.json", &plugin);
        let arguments = [&["explain", "--config", &config, "--plugin", &plugin, "--path", "/"], more].concat();
        let printed = edgesplit(&arguments, &[]);
        assert_eq!(printed.code, 0, "{}", printed.err);
        let (visitor, _) = printed.out.split_once("checkout-button").unwrap();
        visitor.to_owned()
    };
    let sources = || json!({"id": [{"header": "x-user"}, {"cookie": "uid"}]});
    let minted = || json!({"mint": {"cookie": "ab"}});
    for (visitor, more, expected) in [
        (sources(), &["--header", "X-User: u1"][..], "visitor: \"u1\", from the header x-user\n"),
        (sources(), &["--cookie", "uid=u2"], "visitor: \"u2\", from the cookie uid\n"),
        (sources(), &[], "visitor: none: the request has no id in the header x-user or the cookie uid\n"),
        (minted(), &[], "visitor: none yet; visitor.mint puts a new id into the cookie ab\n"),
        (sources(), &["--id", "a;b"], "visitor: \"a;b\", as a request supplies it in the header x-user\n"),
        (
            json!({}),
            &["--id", "u1"],
            "visitor: \"u1\", from --id only\n  no request can supply this id: the plugin configuration has neither \
             visitor.id nor visitor.mint\n",
        ),
        (
            minted(),
            &["--id", "u1"],
            "visitor: \"u1\", from --id only\n  no request can supply this id: the minted cookie ab only takes UUIDs \
             of version 4\n",
        ),
    ] {
        assert_eq!(ask(visitor, more), expected, "{more:?}");
    }
}

#[test]
fn explain_reports_a_path_without_its_leading_slash() {
    let config = file("explain-path.json", &experiments());
    for option in ["--path", "--route"] {
        let printed = edgesplit(&["explain", "--config", &config, option, "checkout"], &[]);
        assert_eq!(printed.code, 0);
        assert_eq!(printed.err, "note: the path has no leading slash; this is for /checkout\n");
    }
    let printed = edgesplit(&["explain", "--config", &config, "--path", "https://shop.example/checkout"], &[]);
    assert!(printed.code == 2 && printed.err.contains("--host takes the host"), "{}", printed.err);
}

/// Two flags of one rollout each, and an experiment that no flag uses.
fn datafile() -> serde_json::Value {
    let rule = |id: &str, key: &str, enabled: bool, variables: serde_json::Value| {
        json!({"id": id, "key": key, "status": "Running", "layerId": format!("layer-{id}"), "audienceIds": [],
               "forcedVariations": {}, "trafficAllocation": [{"entityId": format!("{id}1"), "endOfRange": 10000}],
               "variations": [{"id": format!("{id}1"), "key": "on", "featureEnabled": enabled, "variables": variables}]})
    };
    json!({"version": "4", "accountId": "10", "projectId": "11", "revision": "12", "audiences": [], "attributes": [],
           "events": [], "groups": [],
           "experiments": [rule("1", "checkout_test", true, json!([{"id": "7", "value": "green"}])),
                           rule("2", "alone", true, json!([]))],
           "rollouts": [{"id": "5", "experiments": [rule("3", "everyone", true, json!([]))]}],
           "featureFlags": [
               {"id": "40", "key": "checkout", "experimentIds": ["1"], "rolloutId": "", "variables": [
                   {"id": "7", "key": "color", "type": "string", "defaultValue": "grey"}]},
               {"id": "41", "key": "nav", "experimentIds": [], "rolloutId": "5", "variables": []},
               {"id": "42", "key": "broken", "experimentIds": 5, "rolloutId": "5", "variables": []}]})
}

fn evaluate(arguments: &[&str], line: &str) -> (serde_json::Value, String) {
    let mut child = Command::new(edgesplit_testkit::command::program())
        .arg("evaluate")
        .args(arguments)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), line.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    (serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {err}")), err)
}

#[test]
fn evaluate_decides_an_optimizely_datafile_by_flag() {
    let config = file("datafile.json", &datafile().to_string());
    let (result, err) = evaluate(&["--format", "optimizely", "--config", &config], r#"{"id": "u1"}"#);
    assert!(err.contains("featureFlags[2].experimentIds: expected a list"), "{err}");
    let row = |key: &str, experiment: Option<&str>, variant: Option<&str>, value, reason: &str, is_in: bool| {
        json!({"key": key, "experiment": experiment, "variant": variant, "value": value, "reason": reason,
               "in_experiment": is_in})
    };
    let expected = json!({
        "decisions": [
            row("checkout", Some("checkout_test"), Some("on"), json!({"color": "green"}), "feature_test", true),
            row("nav", Some("everyone"), Some("on"), json!({}), "rollout", false),
            row("broken", None, None, json!(null), "disabled", false),
            row("alone", None, Some("on"), json!(null), "experiment", true),
        ],
        "assignments": "alone=on, checkout=on",
        "cache_key": "alone.on~checkout.on",
    });
    assert_eq!(result, expected);

    // Without an id there is no decision. The routes are those of the plugin configuration.
    let plugin = file(
        "optimizely-plugin.json",
        &json!({"visitor": {"id": [{"header": "x-user-id"}]}, "experiments": {"inline": {}, "format": "optimizely", "routes": [
            {"keys": ["check*"], "paths": ["/checkout*"], "baseline": "on"}, {"keys": ["check*", "nav"], "hosts": ["h"]}]}})
        .to_string(),
    );
    let reasons = |line: &str| {
        let (result, _) = evaluate(&["--plugin", &plugin, "--config", &config], line);
        let rows = result["decisions"].as_array().unwrap();
        let reasons: Vec<_> = rows.iter().map(|row| row["reason"].as_str().unwrap().to_owned()).collect();
        (reasons, result["cache_key"].as_str().unwrap().to_owned())
    };
    let of = |reasons: [&str; 4], key: &str| (reasons.map(str::to_owned).to_vec(), key.to_owned());
    assert_eq!(reasons("{}"), of(["route", "route", "disabled", "no_unit"], ""));
    assert_eq!(
        reasons(r#"{"headers": {"X-User-Id": "u1"}, "path": "/checkout/2", "host": "h"}"#),
        of(["feature_test", "rollout", "disabled", "experiment"], "alone.on")
    );
    assert_eq!(reasons(r#"{"id": "u1", "headers": {"sec-gpc": "1"}}"#).0, ["route", "route", "disabled", "no_consent"]);
}

#[test]
fn evaluate_decides_a_growthbook_payload_by_feature() {
    let payload = json!({"features": {
        "button": {"defaultValue": "grey", "rules": [
            {"condition": {"plan": "pro", "path": {"$exists": false}}, "key": "colors", "hashAttribute": "id",
             "variations": ["grey", {"edgesplit": {"request_headers": {"x-button": "green"}}}], "weights": [0, 1],
             "meta": [{"key": "control"}, {"key": "green"}]}]},
        "wide": {"defaultValue": 1, "rules": [{"force": {"edgesplit": {"response_headers": {"x-wide": "yes"}}}}]},
        "wrong": {"defaultValue": {"edgesplit": {"request_headers": {"cookie": "x"}}}}}});
    let config = file("payload.json", &payload.to_string());
    let ask = |line: &str| evaluate(&["--format", "growthbook", "--config", &config], line);
    let plugin = json!({"experiments": {"cluster": "c", "format": "growthbook"}, "effects": {}});
    let plugin = file("effects.json", &plugin.to_string());
    let with_effects = |line: &str| evaluate(&["--plugin", &plugin, "--config", &config], line);
    let line = r#"{"id": "u1", "attributes": {"plan": "pro"}}"#;
    let (result, err) = with_effects(line);
    assert!(err.contains("features.wrong.edgesplit.request_headers.cookie: no variant may set this header"), "{err}");
    assert_eq!(result["assignments"], "button=green");
    assert_eq!(result["cache_key"], "button.green.c0b9e3a6c36c8dca~wide..ca7c8bfbb12511b8");
    let (result, err) = ask(line);
    assert!(err.contains("features.wide.edgesplit: not in force: the plugin configuration has no `effects`"), "{err}");
    assert_eq!(result["assignments"], "button=green");
    assert_eq!(result["cache_key"], "button.green");
    assert_eq!(
        result["decisions"][0],
        json!({"key": "button", "experiment": "colors", "variant": "green", "reason": "experiment", "in_experiment": true,
               "value": {"edgesplit": {"request_headers": {"x-button": "green"}}}})
    );
    assert_eq!(
        (&result["decisions"][1]["reason"], &result["decisions"][1]["variant"]),
        (&json!("force"), &json!(null))
    );
    assert_eq!(result["decisions"][2]["reason"], "default_value");
    // The path is an attribute only if the line has one. Typed attributes take precedence over the line's id.
    let reason = |line: &str| ask(line).0["decisions"][0]["reason"].clone();
    assert_eq!(reason(r#"{"id": "u1", "path": "/", "attributes": {"plan": "pro"}}"#), "default_value");
    assert_eq!(reason(r#"{"id": "u1", "attributes": {"plan": "pro", "id": null}}"#), "default_value");
    assert_eq!(reason(r#"{"attributes": {"plan": "pro", "id": 5}}"#), "experiment");
}

#[test]
fn validate_decrypts_with_the_key_of_the_plugin_configuration() {
    // {"f": {"defaultValue": "ü"}}, as GrowthBook's SDKs decrypt it.
    let config = file(
        "encrypted.json",
        r#"{"features": {}, "encryptedFeatures": "EBESExQVFhcYGRobHB0eHw==.dn+mCWdaqSmwZtJ+VpM4B66uhuSd0k6CKAiAo+4apqE="}"#,
    );
    let printed = edgesplit(&["validate", &config], &[]);
    assert_eq!(printed.code, 1);
    assert!(printed.out.contains("encryptedFeatures: is encrypted, and no key is configured"), "{}", printed.out);
    let plugin =
        json!({"experiments": {"inline": {}, "format": "growthbook", "decryption_key": "AAECAwQFBgcICQoLDA0ODw=="}});
    let plugin = file("encrypted-plugin.json", &plugin.to_string());
    let printed = edgesplit(&["validate", "--plugin", &plugin, &config], &[]);
    assert_eq!((printed.code, printed.out.as_str()), (0, ""), "{}", printed.err);
}

#[test]
fn json_output_and_completions() {
    let wrong = file(
        "wrong.json",
        r#"{"schema": 1, "experiments": [{"key": "a", "state": "runing", "variants": [{"key": "b", "weight": 9}]}]}"#,
    );
    let parsed = |out: &str| -> Value { serde_json::from_str(out).unwrap_or_else(|error| panic!("{out}: {error}")) };
    let printed = edgesplit(&["validate", "--json", &wrong], &[]);
    let answer = parsed(&printed.out);
    assert_eq!((printed.code, &answer["disabled"], &answer["refused"]), (1, &json!(1), &json!(false)));
    let problems = answer["problems"].as_array().unwrap().iter();
    let places: Vec<_> = problems.map(|one| (one["path"].as_str().unwrap(), &one["line"], &one["column"])).collect();
    let (line, variants, state) = (json!(1), json!(63), json!(53));
    assert_eq!(places, [("experiments[0].state", &line, &state), ("experiments[0].variants", &line, &variants)]);
    assert_eq!(answer["problems"][0]["severity"], "error");

    let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/experiments.json");
    let of_page = parsed(&edgesplit(&["explain", "--config", examples, "--route", "/checkout", "--json"], &[]).out);
    assert_eq!(
        (&of_page["count"], &of_page["budget"]),
        (&json!(of_page["cache_keys"].as_array().unwrap().len()), &json!(64))
    );
    assert_eq!(of_page["cache_keys"][0], json!({"cache_key": "", "variants": {}}));
    let of_ben =
        parsed(&edgesplit(&["explain", "--config", examples, "--id", "ben", "--path", "/checkout", "--json"], &[]).out);
    assert_eq!(of_ben["cache_key"], "checkout-button.green~navigation.mega");
    assert!(
        of_page["cache_keys"].as_array().unwrap().iter().any(|key| key["cache_key"] == of_ben["cache_key"]),
        "{of_page}"
    );

    let printed = edgesplit(&["size", "--rate", "10/s", "--outage", "48h", "--json"], &[]);
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
    let answer = parsed(&edgesplit(&arguments, &[]).out);
    let (url, value) = (answer["url"].as_str().unwrap(), answer["value"].as_str().unwrap());
    assert_eq!(url, format!("https://shop.example/cart?a=1&{}={value}", answer["parameter"].as_str().unwrap()));

    for (of, field) in [("plugin", "downstream_caching"), ("experiments", "sticky_version")] {
        let printed = edgesplit(&["schema", of], &[]);
        let schema = parsed(&printed.out);
        assert!(schema["$schema"].is_string() && schema.to_string().contains(field), "{of}");
    }
    for shell in ["bash", "zsh", "fish"] {
        let printed = edgesplit(&["completions", shell], &[]);
        assert!(printed.code == 0 && printed.out.contains("simulate") && printed.out.contains("edgesplit"), "{shell}");
    }
}

/// The output of the command on a terminal.
fn on_a_terminal(arguments: &str) -> String {
    let (mut terminal, command_side) = pty_process::blocking::open().unwrap();
    terminal.resize(pty_process::Size::new(24, 80)).unwrap();
    let command = pty_process::blocking::Command::new(edgesplit_testkit::command::program());
    let command = command.args(arguments.split(' ')).env_remove("NO_COLOR").env("TERM", "xterm");
    let mut child = command.stdin(std::process::Stdio::null()).spawn(command_side).unwrap();
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
    let printed = edgesplit(&["validate", &wrong], &[]);
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
        let printed = edgesplit(&arguments.split(' ').collect::<Vec<_>>(), &[]);
        assert!(terminal.contains("\u{1b}[") && !printed.out.contains('\u{1b}'), "{arguments}");
        let plain = anstream::adapter::strip_str(&terminal).to_string();
        // The progress bar comes first, and is erased.
        assert!(plain.ends_with(&printed.out), "{arguments}: {plain:?} {:?}", printed.out);
    }
}

#[test]
fn explain_prints_the_same_as_json() {
    let config = file("explain-json.json", &experiments());
    let ask = |more: &[&str]| -> Value {
        let printed = edgesplit(&[&["explain", "--json", "--config", &config, "--now", NOW], more].concat(), &[]);
        serde_json::from_str(&printed.out).unwrap_or_else(|error| panic!("{error}: {}", printed.err))
    };
    let json = ask(&["--id", "u2", "--path", "/checkout"]);
    let (button, nav) = (&json["decisions"][0], &json["decisions"][1]);
    assert_eq!((&button["variant"], &button["reason"]), (&json!("green"), &json!("bucketed")));
    let steps = button["steps"].as_array().unwrap();
    assert_eq!(steps[9], json!({"step": "traffic", "says": "bucket 8903; takes part below 10000: in"}));
    assert_eq!((&nav["variant"], &nav["reason"], steps.len()), (&json!(null), &json!("traffic"), 11));
    assert_eq!(json["cache_key"], "checkout-button.green");

    let json = ask(&["--route", "/checkout"]);
    let keys = json["cache_keys"].as_array().unwrap().iter();
    let keys: Vec<&str> = keys.map(|one| one["cache_key"].as_str().unwrap()).collect();
    assert_eq!(keys, ["", "checkout-button.green", "nav.mega", "checkout-button.green~nav.mega"]);
    assert_eq!(json["cache_keys"][3]["variants"], json!({"checkout-button": "green", "nav": "mega"}));
    assert_eq!((&json["count"], &json["budget"], &json["complete"]), (&json!(4), &json!(64), &json!(true)));

    let flags = file("explain-flags.json", &datafile().to_string());
    let arguments = ["explain", "--json", "--format", "optimizely", "--config", &flags, "--id", "u1", "--path", "/"];
    let json: Value = serde_json::from_str(&edgesplit(&arguments, &[]).out).unwrap();
    assert_eq!(json["decisions"][0]["variant"], "on");
}
