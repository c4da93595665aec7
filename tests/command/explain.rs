//! `edgesplit explain`: visitors, routes, and the same as JSON.

use super::{NOW, datafile, edgesplit, experiments, file};
use serde_json::{Value, json};

#[test]
fn explain_lists_the_cache_keys_of_a_route() {
    let config = file("explain-route.json", &experiments());
    let printed = edgesplit(&["explain", "--config", &config, "--route", "/checkout"]);
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
    let ask = |more: &[&str]| edgesplit(&[&["explain", "--config", &config, "--now", NOW], more].concat());
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
            edgesplit(&["explain", "--config", &config, "--id", "u1", "--attributes", &attributes, "--now", NOW]);
        printed.out.lines().find_map(|line| line.strip_prefix("  audience  ").map(str::to_owned)).unwrap_or(printed.err)
    };
    assert_eq!(ask(json!({"country": "FR", "plan": "pro"})), r#"country is "FR", expected one of "AT", "DE""#);
    assert_eq!(ask(json!({"country": "DE"})), r#"plan is missing, expected "pro""#);
    assert_eq!(ask(json!({"country": "DE", "plan": "pro"})), "matches");
}

#[test]
fn explain_shows_the_operand_of_the_failed_clause() {
    for (condition, value, expected) in [
        (json!({"$vgte": "v2.1.0+build"}), json!("2.0.9"), r#""2.0.9", expected a version >= 2.1.0"#),
        (json!({"$vlt": "1.0.0-beta.2"}), json!("1.0.0"), r#""1.0.0", expected a version < 1.0.0-beta.2"#),
        (json!({"$veq": "10.4"}), json!("10.3"), r#""10.3", expected a version = 10.4"#),
        (json!({"$all": ["a", "b"]}), json!(["a"]), r#"["a"], expected a list with "a" and "b""#),
        (json!({"$gte": 18, "$lt": 30}), json!(35), "35, expected >= 18 and < 30"),
        (json!({"$regex": "^/[a-z]+$"}), json!("/"), r#""/", expected a match of "^/[a-z]+$""#),
    ] {
        let variants = json!([{"key": "a", "weight": 10000}]);
        let experiment = json!({"key": "nav", "state": "running", "audience": {"x": condition}, "variants": variants});
        let config = file("explain-operand.json", &json!({"schema": 1, "experiments": [experiment]}).to_string());
        let attributes = json!({"x": value}).to_string();
        let printed = edgesplit(&["explain", &config, "--id", "u1", "--attributes", &attributes]);
        assert!(printed.out.contains(&format!("  audience  x is {expected}\n")), "{expected}: {}", printed.out);
    }
}

#[test]
fn explain_shows_the_result_of_each_check_of_a_vendor() {
    for format in ["eppo", "flagd", "growthbook", "optimizely", "posthog", "unleash"] {
        let config = format!("{}/examples/{format}.json", env!("CARGO_MANIFEST_DIR"));
        let printed =
            edgesplit(&["explain", &config, "--id", "u1", "--attributes", r#"{"country": "DE"}"#, "--now", NOW]);
        let checks: Vec<&str> = printed
            .out
            .lines()
            .filter(|line| line.starts_with("  ") && !line.starts_with("  value") && !line.starts_with("  experiment "))
            .collect();
        let of = |result: &str| checks.iter().filter(|line| line.ends_with(result)).count();
        assert_eq!(of(" passed") + of(" failed"), checks.len(), "{format}: {}", printed.out);
        assert!(of(" passed") > 0 && of(" failed") > 0, "{format}: {}", printed.out);
        let doubled = |line: &&&str| line.split_whitespace().zip(line.split_whitespace().skip(1)).any(|(a, b)| a == b);
        assert_eq!(checks.iter().find(doubled), None, "{format}");
    }
}

#[test]
fn explain_shows_how_the_visitor_is_identified() {
    let config = file("explain-identity.json", &experiments());
    let ask = |visitor: Value, more: &[&str]| {
        let plugin = json!({"visitor": visitor, "experiments": {"inline": {}}}).to_string();
        let plugin = file("explain-identity-plugin.json", &plugin);
        let arguments = [&["explain", "--config", &config, "--plugin", &plugin, "--path", "/"], more].concat();
        let printed = edgesplit(&arguments);
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
        let printed = edgesplit(&["explain", "--config", &config, option, "checkout"]);
        assert_eq!(printed.code, 0);
        assert_eq!(printed.err, "note: the path has no leading slash; this is for /checkout\n");
    }
    let printed = edgesplit(&["explain", "--config", &config, "--path", "https://shop.example/checkout"]);
    assert!(printed.code == 2 && printed.err.contains("--host takes the host"), "{}", printed.err);
}

#[test]
fn explain_prints_the_same_as_json() {
    let config = file("explain-json.json", &experiments());
    let ask = |more: &[&str]| -> Value {
        let printed = edgesplit(&[&["explain", "--json", "--config", &config, "--now", NOW], more].concat());
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
    let json: Value = serde_json::from_str(&edgesplit(&arguments).out).unwrap();
    assert_eq!(json["decisions"][0]["variant"], "on");
}
