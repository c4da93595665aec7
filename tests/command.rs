//! The command as people call it: what it prints, where, and with which exit code.
#![allow(missing_docs)]
// Helpers of tests fail as tests do: by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice)]

use edgesplit::visit::preview::{self, NotValid};
use serde_json::json;
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
    let mut command = Command::new(env!("CARGO_BIN_EXE_edgesplit"));
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
fn a_preview_is_signed_with_the_secret_from_wherever_it_comes() {
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
        // What is asked for beats the variable.
        (&["--secret", SECRET], &[("EDGESPLIT_PREVIEW_SECRET", "another")]),
    ] {
        let printed = edgesplit(&[&["preview"], options, &rest].concat(), variables);
        assert_eq!((printed.code, printed.err.as_str()), (0, "good until 2026-12-01T02:00:00Z\n"), "{options:?}");
        let token = printed.out.trim_end();
        let found = preview::check(SECRET.as_bytes(), token.as_bytes(), NOW_MS + 7_199_999).unwrap();
        assert_eq!((found.variant("checkout-button"), found.variant("nav")), (Some("green"), Some("mega")));
        let late = preview::check(SECRET.as_bytes(), token.as_bytes(), NOW_MS + 7_200_000);
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
    for (options, code, says) in [
        (&["--secret", "short", "nav=mega"][..], 0, "can be guessed"),
        (&["--secret", SECRET, "--config", &config, "nav=mega"], 0, "good until"),
        (&["--secret", SECRET, "--config", &config, "nav=huge"], 1, "no variant \"huge\", but plain, mega"),
        (&["--secret", SECRET, "--config", &config, "nav-2=mega"], 1, "no experiment \"nav-2\""),
        (&["nav=mega"], 2, "no secret"),
        (&["--secret", "", "nav=mega"], 2, "the secret is empty"),
        (&["--secret", SECRET], 2, "required"),
        (&["--secret", SECRET, "nav"], 2, "EXPERIMENT=VARIANT"),
        (&["--secret", SECRET, "nav=mega", "nav=plain"], 2, "twice"),
        (&["--secret", SECRET, "--plugin", &plugin, "nav=mega"], 2, "cannot be used with"),
        (&["--secret", SECRET, "--url", "shop", "nav=mega"], 2, "expected a URL"),
    ] {
        let printed = edgesplit(&[&["preview", "--expires", "2h", "--now", NOW], options].concat(), &[]);
        assert_eq!(printed.code, code, "{options:?}: {}", printed.err);
        assert!(printed.err.contains(says), "{options:?}: {}", printed.err);
        assert_eq!(printed.out.is_empty(), code != 0, "{options:?}");
    }
}

#[test]
fn explain_lists_the_cache_keys_of_a_route() {
    let config = file("explain-route.json", &experiments());
    let printed = edgesplit(&["explain", "--config", &config, "--route", "/checkout"], &[]);
    let expected = "\
GET /checkout on any host: 2 experiments
  checkout-button: green, or nothing for its baseline control and who is not in it
  nav: mega, or nothing for its baseline plain and who is not in it

4 cache keys; the budget allows 64
  (none)  baselines, and who is in no experiment
  checkout-button.green  green of checkout-button
  nav.mega  mega of nav
  checkout-button.green~nav.mega  green of checkout-button and mega of nav
";
    assert_eq!((printed.code, printed.out.as_str()), (0, expected), "{}", printed.err);
}

#[test]
fn explain_tells_a_visitor_s_decisions_step_by_step() {
    let config = file("explain-visitor.json", &experiments());
    let ask = |more: &[&str]| edgesplit(&[&["explain", "--config", &config, "--now", NOW], more].concat(), &[]);
    let printed = ask(&["--id", "u2", "--path", "/checkout"]);
    // The buckets are those of the formulas in docs/configuration.md, computed elsewhere.
    let expected = "\
checkout-button: green (bucketed)
  path      the filter acts on it
  state     not paused
  route     GET /checkout on \"\" matches
  schedule  it is its time
  bot       no bot
  consent   nothing against it
  unit      id is \"u2\"
  forced    no variant is forced
  audience  everybody
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
