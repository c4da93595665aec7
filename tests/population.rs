//! `simulate` and `diff` count the same as the formulas, which are implemented here independently.
#![allow(missing_docs)]
// Helpers of tests fail as tests do: by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use edgesplit_testkit::command;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const VISITORS: u64 = 20_000;

fn file(name: &str, content: &Value) -> PathBuf {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&file, content.to_string()).unwrap();
    file
}

fn run(arguments: &[&str]) -> Value {
    let output = command::edgesplit(arguments, "");
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn bucket(text: &str) -> u64 {
    (u64::from(murmur3::murmur3_32(&mut text.as_bytes(), 0).unwrap()) * 10_000) >> 32
}

/// The variant of a visitor, by the formulas of bucketing version 1.
fn variant(config: &Value, key: &str, id: &str) -> Option<String> {
    let experiment = config["experiments"].as_array().unwrap().iter().find(|one| one["key"] == key)?;
    let text = |value: &Value| value.as_str().map(str::to_owned);
    match experiment["state"].as_str().unwrap() {
        "paused" => return None,
        "concluded" => return text(&experiment["winner"]),
        _ => {}
    }
    let unit = |start: &str| bucket(&format!("{start}/{id}"));
    // The only audience here: ids that end with an even digit.
    if experiment.get("audience").is_some() && !id.ends_with(['0', '2', '4', '6', '8']) {
        return None;
    }
    if let Some(holdout) = config.get("holdout")
        && unit(&format!("holdout/{}", holdout["key"].as_str().unwrap())) < holdout["share"].as_u64().unwrap()
    {
        return None;
    }
    if let Some(layer) = experiment.get("layer") {
        let slot = unit(&format!("layer/{}", layer["name"].as_str().unwrap()));
        if slot < layer["slots"][0].as_u64().unwrap() || slot >= layer["slots"][1].as_u64().unwrap() {
            return None;
        }
    }
    let salt = experiment["salt"].as_str().unwrap_or(key);
    if unit(&format!("{salt}/traffic")) >= experiment["traffic"].as_u64().unwrap_or(10_000) {
        return None;
    }
    let bucket = unit(&format!("{salt}/variant"));
    let mut end = 0;
    experiment["variants"].as_array().unwrap().iter().find_map(|variant| {
        end += variant["weight"].as_u64().unwrap();
        (bucket < end).then(|| text(&variant["key"])).flatten()
    })
}

/// An experiment of two variants and another beside it, with changes.
fn config(change: impl Fn(&mut Value)) -> Value {
    let variants = json!([{"key": "control", "weight": 6000, "baseline": true}, {"key": "green", "weight": 4000}]);
    let mut config = json!({"schema": 1, "experiments": [
        {"key": "button", "state": "running", "traffic": 3000, "layer": {"name": "checkout", "slots": [0, 7000]}, "variants": variants},
        {"key": "nav", "state": "running", "variants": variants},
    ]});
    change(&mut config);
    config
}

type Change = Box<dyn Fn(&mut Value)>;

type Moves = BTreeMap<String, BTreeMap<(Option<String>, Option<String>), u64>>;

#[test]
fn diff_counts_the_moves_of_the_formulas() {
    let button =
        |field: &'static str, value: Value| move |config: &mut Value| config["experiments"][0][field] = value.clone();
    let changes: [(&str, Change); 10] = [
        ("more traffic", Box::new(button("traffic", json!(8000)))),
        (
            "other weights",
            Box::new(button(
                "variants",
                json!([{"key": "control", "weight": 2000, "baseline": true}, {"key": "green", "weight": 8000}]),
            )),
        ),
        ("another salt", Box::new(button("salt", json!("again")))),
        ("paused", Box::new(button("state", json!("paused")))),
        (
            "concluded",
            Box::new(|config: &mut Value| {
                config["experiments"][0]["state"] = json!("concluded");
                config["experiments"][0]["winner"] = json!("green");
            }),
        ),
        ("removed", Box::new(|config: &mut Value| drop(config["experiments"].as_array_mut().unwrap().remove(0)))),
        (
            "added, in front",
            Box::new(|config: &mut Value| {
                let new = json!({"key": "new", "state": "running", "variants": [{"key": "a", "weight": 10000}]});
                config["experiments"].as_array_mut().unwrap().insert(0, new);
            }),
        ),
        ("another slot", Box::new(button("layer", json!({"name": "checkout", "slots": [3000, 10000]})))),
        ("an audience", Box::new(button("audience", json!({"id": {"$regex": "[02468]$"}})))),
        ("a holdout", Box::new(|config: &mut Value| config["holdout"] = json!({"key": "q4", "share": 1500}))),
    ];
    let old = config(|_| ());
    let old_file = file("diff-old.json", &old);
    for (number, (what, change)) in changes.iter().enumerate() {
        let new = config(change);
        let new_file = file(&format!("diff-new-{number}.json"), &new);
        let list = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("diff-{number}.jsonl"));
        let visitors = VISITORS.to_string();
        let files = [&old_file, &new_file, &list].map(|file| file.to_str().unwrap());
        let found = run(&["diff", files[0], files[1], "--list", files[2], "--json", "--visitors", &visitors]);
        let (mut expected, mut changed) = (Moves::new(), 0);
        // Who moves, by name, in what order ever.
        let mut movers = BTreeSet::new();
        for visitor in 0..VISITORS {
            let id = format!("visitor-{visitor}");
            let mut moves = false;
            for key in ["button", "nav", "new"] {
                let is_known =
                    [&old, &new].iter().any(|config| config.to_string().contains(&format!("\"key\":\"{key}\"")));
                if is_known {
                    let pair = (variant(&old, key, &id), variant(&new, key, &id));
                    if pair.0 != pair.1 {
                        moves = true;
                        movers.insert((id.clone(), key.to_owned(), pair.0.clone(), pair.1.clone()));
                    }
                    *expected.entry(key.to_owned()).or_default().entry(pair).or_insert(0) += 1;
                }
            }
            changed += u64::from(moves);
        }
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let mut moves = Moves::new();
        for experiment in found["experiments"].as_array().unwrap() {
            for one in experiment["moves"].as_array().unwrap() {
                let pair = (text(&one["from"]), text(&one["to"]));
                let count = one["visitors"].as_u64().unwrap();
                moves.entry(text(&experiment["key"]).unwrap()).or_default().insert(pair, count);
            }
        }
        println!("{what}: {changed} of {VISITORS} see something else");
        assert_eq!(moves, expected, "{what}");
        assert_eq!(found["changed"], changed, "{what}");
        let listed = std::fs::read_to_string(list).unwrap();
        let listed: Vec<Value> = listed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let mover = |line: &Value| {
            let [id, experiment] = ["id", "experiment"].map(|name| text(&line[name]).unwrap());
            (id, experiment, text(&line["from"]), text(&line["to"]))
        };
        assert_eq!(listed.len(), movers.len(), "{what}: each once");
        assert_eq!(listed.iter().map(mover).collect::<BTreeSet<_>>(), movers, "{what}");
        assert!(changed > 0, "{what} moves somebody");
    }
    let same = run(&["diff", old_file.to_str().unwrap(), old_file.to_str().unwrap(), "--json", "--visitors", "1000"]);
    assert_eq!(same["changed"], 0);
}

#[test]
fn simulate_counts_the_shares_of_the_formulas() {
    let config = config(|config| config["holdout"] = json!({"key": "q4", "share": 1500}));
    let file = file("simulate.json", &config);
    let svg = Path::new(env!("CARGO_TARGET_TMPDIR")).join("simulate.svg");
    let visitors = VISITORS.to_string();
    let arguments = ["simulate", "--config", file.to_str().unwrap(), "--visitors", &visitors];
    let found = run(&[&arguments[..], &["--json", "--svg", svg.to_str().unwrap()]].concat());
    let mut expected = BTreeMap::<(&str, String), u64>::new();
    let mut both = 0;
    for visitor in 0..VISITORS {
        let id = format!("visitor-{visitor}");
        let got: Vec<_> =
            ["button", "nav"].into_iter().filter_map(|key| Some((key, variant(&config, key, &id)?))).collect();
        both += u64::from(got.len() == 2);
        got.into_iter().for_each(|got| *expected.entry(got).or_insert(0) += 1);
    }
    for experiment in found["experiments"].as_array().unwrap() {
        let key = experiment["key"].as_str().unwrap();
        for one in experiment["variants"].as_array().unwrap() {
            let of = expected.iter().find(|((experiment, variant), _)| *experiment == key && one["key"] == **variant);
            assert_eq!(one["visitors"], *of.unwrap().1, "{key}: {one}");
        }
        assert_eq!(experiment["chi_squared"]["plausible"], true, "{experiment}");
    }
    assert_eq!(found["overlap"], json!([{"experiments": ["button", "nav"], "visitors": both}]));
    let everywhere = json!({"hosts": [], "paths": [], "methods": []});
    assert_eq!(
        found["cache_keys"],
        json!([{"route": everywhere, "experiments": ["button", "nav"], "cache_keys": 4, "budget": 64}])
    );
    let svg = std::fs::read_to_string(svg).unwrap();
    assert!(svg.starts_with("<svg") && svg.contains(">green</text>") && svg.contains("prefers-color-scheme"));
    // For a person the same, with words.
    let output = command::edgesplit(&arguments, "");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("as expected for these weights") && text.contains("button and nav: "), "{text}");
}

#[test]
fn visitors_make_the_given_requests() {
    let mut config = config(|_| ());
    config["experiments"][1]["route"] = json!({"paths": ["/shop*"]});
    config["experiments"][1]["audience"] = json!({"country": "DE"});
    let file = file("requests.json", &config);
    let requests = Path::new(env!("CARGO_TARGET_TMPDIR")).join("requests.jsonl");
    std::fs::write(
        &requests,
        "{\"path\": \"/shop\", \"attributes\": {\"country\": \"DE\"}}\n\n{\"path\": \"/shop\", \"attributes\": {\"country\": \"FR\"}}\n{\"path\": \"/\"}\n{\"path\": \"/about\"}\n",
    )
    .unwrap();
    let arguments = ["simulate", file.to_str().unwrap(), "--json", "--visitors", "4000", "--requests"];
    let found = run(&[&arguments[..], &[requests.to_str().unwrap()]].concat());
    let nav = &found["experiments"][1];
    assert_eq!((&nav["visitors"], &nav["out"]), (&json!(1000), &json!({"audience": 1000, "route": 2000})));
    // A bad line is reported with its number, and is incorrect usage.
    std::fs::write(&requests, "{}\n{\"path\": 1}\n").unwrap();
    let output = command::edgesplit(&[&arguments[..], &[requests.to_str().unwrap()]].concat(), "");
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{message}");
    assert!(message.contains("line 2") && message.contains("path"), "{message}");
}

/// Vendors' formats have no formulas here: what `evaluate` decides about the same visitors, one by one, is what counts.
#[test]
fn simulate_counts_the_same_as_evaluate_in_every_format() {
    const VISITORS: usize = 3_000;
    let visitors: String = (0..VISITORS).map(|number| format!("{{\"id\": \"visitor-{number}\"}}\n")).collect();
    let native = file("every-native.json", &config(|_| ()));
    let example = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("examples/{name}.json"));
    let vendors = edgesplit_formats::formats().skip(1).map(|format| (format.name(), example(format.name())));
    for (format, config) in [("native", native)].into_iter().chain(vendors) {
        let config = config.to_str().unwrap();
        let answers = command::edgesplit(&["evaluate", "--format", format, "--config", config], &visitors);
        let (mut expected, mut both) = (BTreeMap::<(String, String), u64>::new(), BTreeMap::<[String; 2], u64>::new());
        for answer in command::results(&answers) {
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            let rows = answer["decisions"].as_array().unwrap().iter().filter(|row| row["in_experiment"] == true);
            let rows: Vec<(String, String)> = rows.map(|row| (text(&row["key"]), text(&row["variant"]))).collect();
            for (at, (first, _)) in rows.iter().enumerate() {
                for (second, _) in &rows[at + 1..] {
                    *both.entry([first.clone(), second.clone()]).or_insert(0) += 1;
                }
            }
            rows.into_iter().for_each(|row| *expected.entry(row).or_insert(0) += 1);
        }
        let visitors = VISITORS.to_string();
        let found = run(&["simulate", "--format", format, "--config", config, "--json", "--visitors", &visitors]);
        let mut counts = BTreeMap::new();
        for experiment in found["experiments"].as_array().unwrap() {
            for one in experiment["variants"].as_array().unwrap() {
                let key = [&experiment["key"], &one["key"]].map(|key| key.as_str().unwrap().to_owned());
                counts.insert(key.into(), one["visitors"].as_u64().unwrap());
            }
        }
        counts.retain(|_, count| *count > 0);
        assert_eq!(counts, expected, "{format}");
        let overlap: BTreeMap<[String; 2], u64> = (found["overlap"].as_array().unwrap().iter())
            .map(|pair| {
                (serde_json::from_value(pair["experiments"].clone()).unwrap(), pair["visitors"].as_u64().unwrap())
            })
            .collect();
        assert_eq!(overlap, both, "{format}");
        assert!(!counts.is_empty(), "{format}: somebody is in an experiment");
        let same = run(&["diff", "--format", format, config, config, "--json", "--visitors", &visitors]);
        assert_eq!(same["changed"], 0, "{format}");
    }
}

#[test]
fn diff_names_disabled_experiments() {
    let good = file("able.json", &config(|_| ()));
    let bad = file("disabled.json", &config(|config| config["experiments"][1]["variants"][0]["weight"] = json!(1)));
    for (old, new, what) in [(&good, &bad, "disabled"), (&bad, &good, "enabled")] {
        let found = run(&["diff", old.to_str().unwrap(), new.to_str().unwrap(), "--json", "--visitors", "1000"]);
        let nav = found["experiments"].as_array().unwrap().iter().find(|one| one["key"] == "nav").unwrap();
        assert_eq!((&nav["experiment"], &found["changed"]), (&json!(what), &json!(1000)));
    }
    // A plugin configuration with problems is a problem, not wrong usage.
    let plugin =
        file("wrong-plugin.json", &json!({"experiments": {"inline": {}}, "request": {"cache_key": {"budget": 0}}}));
    let output = command::edgesplit(&["simulate", good.to_str().unwrap(), "--plugin", plugin.to_str().unwrap()], "");
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((output.status.code(), message.contains("request.cache_key.budget")), (Some(1), true), "{message}");
}

#[test]
fn simulate_decides_a_million_visitors_in_seconds() {
    let experiments: Vec<Value> = (0..20)
        .map(|number| {
            json!({"key": format!("experiment-{number}"), "state": "running", "route": {"paths": [format!("/page-{}*", number / 3)]},
                   "variants": [{"key": "control", "weight": 5000, "baseline": true}, {"key": "green", "weight": 5000}]})
        })
        .collect();
    let file = file("twenty.json", &json!({"schema": 1, "experiments": experiments}));
    let started = Instant::now();
    let found = run(&["simulate", file.to_str().unwrap(), "--json", "--visitors", "1000000"]);
    let took = started.elapsed();
    println!("1,000,000 visitors of 20 experiments: {} ms", took.as_millis());
    assert_eq!(found["experiments"].as_array().unwrap().len(), 20);
    assert!(took < Duration::from_secs(5), "{took:?}");
}
