//! The examples and the commands, JSON and links of README and docs work. The demo has its own tests, in `demo.rs`.
#![allow(missing_docs)]
// A test fails by panicking, in its helpers too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use edgesplit_filter::plugin_config::{self, PluginConfig};
use edgesplit_formats::effect_policy::EffectRules;
use edgesplit_formats::native;
use edgesplit_testkit::envoy::Envoy;
use edgesplit_testkit::module_under_test::built_module;
use edgesplit_testkit::project::relative;
use edgesplit_testkit::skip::skip;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The pages of the project and of its examples, each with its name.
fn documents() -> Vec<(PathBuf, String)> {
    let list = |folder: PathBuf| fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path());
    let examples = list(project().join("examples")).flat_map(list);
    let files = list(project().to_owned()).chain(list(project().join("docs"))).chain(examples);
    let files = files.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    files.map(|file| (file.clone(), fs::read_to_string(file).unwrap())).collect()
}

/// The fenced blocks of `text` in this language.
fn blocks<'a>(text: &'a str, language: &'a str) -> impl Iterator<Item = &'a str> {
    // Every second piece stands inside a fence.
    let pieces = text.split("\n```").skip(1).step_by(2);
    pieces.filter_map(move |piece| piece.strip_prefix(language)?.strip_prefix('\n'))
}

#[test]
fn docs_have_valid_json() {
    let mut checked = 0;
    for (file, text) in documents() {
        for block in blocks(&text, "json") {
            let value: Value =
                serde_json::from_str(block).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            let problems: Vec<String> = if value["experiments"].is_array() {
                let compiled = native::compile(&value, plugin_config::Request::default().cache_key.budget);
                compiled.problems.iter().map(ToString::to_string).collect()
            } else {
                let problems = PluginConfig::from_value(&value).err();
                problems.iter().flat_map(|problems| problems.iter().map(ToString::to_string)).collect()
            };
            assert!(problems.is_empty(), "{}: {problems:?}", file.display());
            checked += 1;
        }
    }
    assert!(checked >= 2, "the blocks are found");
}

#[test]
fn docs_have_valid_links() {
    let mut checked = 0;
    for (file, text) in documents() {
        let links = text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(link, _)| link);
        for link in links.filter(|link| !link.contains("://")) {
            let (place, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if place.is_empty() { file.clone() } else { file.parent().unwrap().join(place) };
            assert!(target.exists(), "{}: {link}", file.display());
            let headings = fs::read_to_string(&target).unwrap_or_default().to_lowercase();
            // Anchors have no punctuation.
            let anchor_of = |line: &str| -> String {
                let kept = |char: &char| char.is_alphanumeric() || matches!(char, ' ' | '-' | '_');
                line.trim_start_matches('#').trim().chars().filter(kept).collect::<String>().replace(' ', "-")
            };
            let found = headings.lines().filter(|line| line.starts_with('#')).any(|line| anchor_of(line) == anchor);
            assert!(anchor.is_empty() || found, "{}: {link}", file.display());
            checked += 1;
        }
    }
    assert!(checked >= 10, "the links are found");
}

/// Tables, images and code may be longer.
#[test]
fn docs_wrap_paragraphs_at_100_columns() {
    let mut long = Vec::new();
    for (file, text) in documents() {
        // Every second piece stands inside a fence.
        let pieces = text.split("```").step_by(2);
        let lines = pieces.flat_map(str::lines).filter(|line| !line.trim_start().starts_with(['|', '!', '<', '#']));
        long.extend(lines.filter(|line| line.chars().count() > 100).map(|line| format!("{}: {line}", relative(&file))));
    }
    assert!(long.is_empty(), "{}", long.join("\n"));
}

#[test]
fn docs_show_the_output_of_their_commands() {
    let mut checked = 0;
    for (document, text) in documents() {
        // Blocks may be indented, as parts of lists are.
        let flush = |text: &str| text.lines().map(str::trim_start).collect::<Vec<_>>().join("\n");
        let text = flush(&text);
        for block in blocks(&text, "console") {
            for part in block.strip_prefix("$ ").unwrap().split("\n$ ") {
                let (command, expected) = part.split_once('\n').unwrap_or((part, ""));
                let output = Command::new("sh")
                    .args(["-c", &format!("{command} 2>&1")])
                    .current_dir(project())
                    .output()
                    .unwrap();
                let printed = flush(&String::from_utf8_lossy(&output.stdout));
                // A command without shown output must succeed.
                assert!(
                    !expected.is_empty() || output.status.success(),
                    "{}: {command}: {printed}",
                    document.display()
                );
                assert!(expected.is_empty() || printed.trim_end() == expected.trim_end(), "{command}: {printed}");
                checked += 1;
            }
        }
    }
    assert!(checked >= 10, "the commands are found: {checked}");
}

#[test]
fn example_experiments_are_valid() {
    let output = Command::new(edgesplit_testkit::command::program())
        .args(["validate", "examples/experiments.json"])
        .current_dir(project())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "", "neither problems nor warnings");
}

#[test]
fn example_payloads_fit_the_envoy_configurations_of_their_vendors() {
    for vendor in ["eppo", "flagd", "growthbook", "optimizely", "posthog", "unleash"] {
        let (plugin, payload) = (format!("envoy/{vendor}.yaml"), format!("examples/{vendor}.json"));
        let output = Command::new(edgesplit_testkit::command::program())
            .args(["validate", "--strict", "--plugin", &plugin, &payload])
            .current_dir(project())
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
    }
}

#[test]
fn annotated_configuration_has_the_defaults() {
    let yaml = fs::read_to_string(project().join("envoy/envoy.yaml")).unwrap();
    let module = Value::from(edgesplit_testkit::module_under_test::built_module().to_string_lossy()).to_string();
    let mut yaml = yaml.replace("filename: dist/edgesplit.wasm", &format!("filename: {module}"));
    for port in ["10000", "9901"] {
        yaml = yaml.replace(&format!("port_value: {port}}}"), "port_value: 0}");
    }
    // Nothing listens on port 1.
    for port in ["8001", "8002", "8003"] {
        yaml = yaml.replace(&format!("port_value: {port}}}"), "port_value: 1}");
    }
    let envoy = Envoy::try_start_with(&yaml, 1).unwrap();
    let dump = envoy.admin("/config_dump?resource=static_listeners").json();
    let configuration = find(&dump, "configuration").expect("the dump has the plugin configuration");
    let config = PluginConfig::from_value(&configuration["value"])
        .unwrap_or_else(|problems| panic!("{:?}", problems.iter().map(ToString::to_string).collect::<Vec<_>>()));
    let defaults = plugin_config::Request::default();
    // The limits have their defaults, but count as given because the configuration names them.
    let cache_key = plugin_config::CacheKey { is_budget_given: true, ..defaults.cache_key };
    let is_assignments_limit_given = true;
    let defaults = plugin_config::Request::default();
    assert_eq!(config.request, plugin_config::Request { cache_key, is_assignments_limit_given, ..defaults });
    assert_eq!(config.effects, Some(EffectRules::default()));
    assert_eq!(config.response, plugin_config::Response::default());
    let events = config.events.unwrap();
    assert_eq!(
        (events.batch, events.dedupe, events.outbox),
        (plugin_config::Batch::default(), plugin_config::Dedupe::default(), plugin_config::OutboxLimits::default())
    );
    drop(envoy);

    // The fields in comments can be uncommented as they are.
    let uncommented = yaml.replace("# headers:", "headers:").replace("# inline:", "inline:");
    let uncommented = uncommented.replace("# consent:", "consent:").replace("# fallback:", "fallback:");
    let envoy = Envoy::try_start_with(&uncommented, 1).unwrap();
    let dump = envoy.admin("/config_dump?resource=static_listeners").json();
    let configuration = find(&dump, "configuration").expect("the dump has the plugin configuration");
    let config = PluginConfig::from_value(&configuration["value"]).unwrap();
    assert_eq!(refused_by_schema(&dump), [""; 0]);
    let (experiments, events) = (config.experiments, config.events.unwrap());
    assert!(experiments.inline.is_some() && config.visitor.consent.is_some() && events.fallback.is_some());
    assert_eq!((experiments.source.unwrap().endpoint.headers.len(), events.endpoint.headers.len()), (1, 1));
}

/// The problems that the editors' schema finds in the plugin configuration of this dump of Envoy's.
fn refused_by_schema(dump: &Value) -> Vec<String> {
    let schema = fs::read(project().join("docs/schema/plugin.schema.json")).unwrap();
    let schema = jsonschema::validator_for(&serde_json::from_slice(&schema).unwrap()).unwrap();
    let configuration = find(dump, "configuration").or_else(|| find(dump, "filter_config"));
    let configuration = &configuration.expect("the dump has the plugin configuration")["value"];
    // A text, if it is not a Struct.
    let text = configuration.as_str().map(|text| serde_json::from_str(text).unwrap());
    let document = text.as_ref().unwrap_or(configuration);
    schema.iter_errors(document).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

/// The first member called `name`, at any depth.
fn find<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    match value {
        Value::Object(members) => members.get(name).or_else(|| members.values().find_map(|member| find(member, name))),
        Value::Array(elements) => elements.iter().find_map(|element| find(element, name)),
        _ => None,
    }
}

/// The file of the system's certificates, which the vendors' configurations name.
const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Envoy and the filter accept every configuration file.
#[test]
fn envoy_configurations_start() {
    let mut checked = 0;
    let folders = ["envoy", "envoy/compose"].map(|folder| fs::read_dir(project().join(folder)).unwrap());
    for entry in folders.into_iter().flatten() {
        let path = entry.unwrap().path();
        let is_compose = relative(&path).starts_with("envoy/docker-compose.");
        if is_compose || path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        checked += 1;
        let text = fs::read_to_string(&path).unwrap();
        if text.contains(CERTIFICATES) && !Path::new(CERTIFICATES).exists() {
            skip(&format!("{} needs the system's package ca-certificates", relative(&path)));
            continue;
        }
        let module = format!("filename: {}", built_module().display());
        let yaml = ["filename: /modules/edgesplit.wasm", "filename: dist/edgesplit.wasm"]
            .iter()
            .fold(text, |yaml, there| yaml.replace(there, &module));
        let native = format!("filename: {}", project().join("dist/libedgesplit.so").display());
        let yaml = yaml.replace("filename: /usr/local/lib/libedgesplit.so", &native);
        let yaml = ["10000", "9901"]
            .iter()
            .fold(yaml, |yaml, port| yaml.replace(&format!("port_value: {port}}}"), "port_value: 0}"));
        // Envoy starts without the services.
        let envoy = Envoy::try_start_with(&yaml, 1).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert!(!envoy.log().contains("deprecated"), "{}: {}", path.display(), envoy.log());
        let dump = envoy.admin("/config_dump?resource=static_listeners").json();
        assert_eq!(refused_by_schema(&dump), [""; 0], "{}", path.display());
    }
    assert!(checked >= 6, "the files are found");
}
