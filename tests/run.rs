//! `edgesplit init` and `edgesplit run`: the first files are valid, and a real Envoy follows the config file.
#![allow(missing_docs)]
// A test fails by panicking, in its helpers too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use edgesplit_testkit::client::Client;
use edgesplit_testkit::command::program;
use edgesplit_testkit::envoy::{Directory, Envoy};
use edgesplit_testkit::module_under_test::built_module;
use edgesplit_testkit::roles::Origin;
use edgesplit_testkit::stack::echoed;
use edgesplit_testkit::{DEADLINE, eventually, lock, root, send_signal};
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

fn edgesplit(folder: &Directory, arguments: &[&str]) -> Output {
    Command::new(program()).args(arguments).current_dir(folder.file("")).output().unwrap()
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A folder with the files of `init`.
fn initialized(origin: &str) -> Directory {
    let folder = Directory::new().unwrap();
    let output = edgesplit(&folder, &["init", "--origin", origin]);
    assert!(output.status.success(), "{}", text(&output));
    folder
}

/// A command that runs, with the lines that it has printed.
struct Running {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    /// Reads the lines until the command ends.
    reader: JoinHandle<()>,
}

impl Running {
    fn start(folder: &Directory, arguments: &[&str]) -> Running {
        let mut command = Command::new(program());
        command.args(arguments).current_dir(folder.file("")).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (output, read) = (BufReader::new(child.stdout.take().unwrap()), Arc::clone(&lines));
        let reader =
            std::thread::spawn(move || output.lines().map_while(Result::ok).for_each(|line| lock(&read).push(line)));
        Running { child, lines, reader }
    }

    /// Waits for a line with this text. Fails at once if the command ends without one.
    #[track_caller]
    fn line(&self, part: &str) -> String {
        let found = || {
            let has_ended = self.reader.is_finished();
            let line = lock(&self.lines).iter().find(|line| line.contains(part)).cloned();
            line.map(Some).or_else(|| has_ended.then_some(None))
        };
        eventually(DEADLINE * 4, part, found)
            .unwrap_or_else(|| panic!("edgesplit ended without {part:?}: its message is above"))
    }

    /// The port in the line with this text.
    #[track_caller]
    fn port(&self, part: &str) -> u16 {
        let line = self.line(part);
        line.split_whitespace().next().unwrap().rsplit(':').next().unwrap().parse().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            send_signal("TERM", self.child.id());
            let _ = self.child.wait();
        }
    }
}

#[test]
fn first_files_are_valid_and_not_overwritten() {
    let origin = Origin::start().unwrap();
    let folder = initialized(&format!("localhost:{}", origin.port()));
    let valid = edgesplit(&folder, &["validate", "--strict", "--plugin", "plugin.yaml", "experiments.json"]);
    assert!(valid.status.success(), "{}", text(&valid));
    let valid = edgesplit(&folder, &["validate", "--strict", "--plugin", "envoy.yaml", "experiments.json"]);
    assert!(valid.status.success(), "{}", text(&valid));

    // Editors find the schemas.
    let read = |name: &str| fs::read_to_string(folder.file(name)).unwrap();
    let experiments: Value = serde_json::from_str(&read("experiments.json")).unwrap();
    assert_eq!(experiments["$schema"], "./experiments.schema.json");
    assert!(read("plugin.yaml").starts_with("# yaml-language-server: $schema=./plugin.schema.json\n"));
    for document in ["experiments", "plugin"] {
        let name = format!("{document}.schema.json");
        assert_eq!(read(&name), fs::read_to_string(root().join("docs/schema").join(&name)).unwrap(), "{name}");
    }

    fs::write(folder.file("plugin.yaml"), "mine").unwrap();
    let refused = edgesplit(&folder, &["init"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused).contains("plugin.yaml") && text(&refused).contains("--force"), "{}", text(&refused));
    assert_eq!(fs::read_to_string(folder.file("plugin.yaml")).unwrap(), "mine");
    assert!(edgesplit(&folder, &["init", "--force"]).status.success());
    assert!(fs::read_to_string(folder.file("plugin.yaml")).unwrap().contains("visitor:"));
}

#[test]
fn first_envoy_configuration_starts() {
    let origin = Origin::start().unwrap();
    let folder = initialized(&format!("http://localhost:{}", origin.port()));
    let yaml = fs::read_to_string(folder.file("envoy.yaml")).unwrap();
    let yaml = yaml.replace("\"edgesplit.wasm\"", &format!("{:?}", built_module()));
    let yaml = yaml.replace("port_value: 10000", "port_value: 0").replace("port_value: 9901", "port_value: 0");
    let envoy = Envoy::try_start_with(&yaml, 1).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(envoy.client().get("/").send().status, 200);
    assert_eq!(origin.server.requests_received(), 1);
}

#[test]
fn config_is_followed_while_it_runs() {
    let origin = Origin::start().unwrap();
    let url = format!("http://localhost:{}", origin.port());
    let folder = initialized(&url);
    let file = folder.file("experiments.json");
    let arguments = ["run", "--origin", &url, "--config", "experiments.json", "--plugin", "plugin.yaml"];
    let mut running = Running::start(&folder, &arguments);
    let proxy = running.port("your site, through the filter");
    let welcome = |id: &str| echoed(&Client::new(proxy).get("/").header("x-user-id", id).send(), "x-ab-assignments");
    let bold = eventually(DEADLINE, "a visitor has the variant", || {
        (0..20).map(|number| format!("u{number}")).find(|id| welcome(id) == ["welcome=bold"])
    });
    running.line("first exposure of welcome=bold: visitor ");

    // A mistake is printed, and changes nothing.
    let good = fs::read_to_string(&file).unwrap();
    fs::write(&file, good.replace("\"traffic\": 5000", "\"traffic\": 50000")).unwrap();
    running.line("experiments.json: refused, and the last good version stays in force");
    assert!(running.line("experiments[0].traffic").ends_with("(effect: the experiment is disabled)"));
    assert_eq!(welcome(&bold), ["welcome=bold"]);

    fs::write(&file, good.replace("\"running\"", "\"paused\"").replace("r1", "r2")).unwrap();
    running.line("1 experiment in force within a second");
    eventually(DEADLINE, "it is paused", || welcome(&bold).is_empty().then_some(()));

    let dashboard = running.port("the dashboard");
    let state = || Client::new(dashboard).get("/state.json").host(format!("127.0.0.1:{dashboard}")).send().json();
    eventually(DEADLINE, "the dashboard follows", || (state()["revision"] == "r2").then_some(()));
    send_signal("INT", running.child.id());
    assert!(running.child.wait().unwrap().success());
    running.line("stopped");
    assert!(Client::new(proxy).connect().is_err(), "Envoy ended too");
}

#[test]
fn mistakes_end_it_before_envoy_starts() {
    let folder = initialized("http://localhost:3000");
    fs::write(folder.file("broken.json"), r#"{"schema": 1, "experiments": [{"key": "a"}]}"#).unwrap();
    let origin = ["run", "--origin", "http://localhost:3000"];
    let output = edgesplit(&folder, &[&origin[..], &["--config", "broken.json"]].concat());
    assert_eq!(output.status.code(), Some(1));
    let problem = "broken.json: error: experiments[0].state: missing; expected one of running, paused, concluded (effect: the experiment is disabled)";
    assert!(text(&output).contains(problem), "{}", text(&output));
    let output = edgesplit(&folder, &[&origin[..], &["--config", "-"]].concat());
    assert!(output.status.code() == Some(2) && text(&output).contains("run watches a file"), "{}", text(&output));
    let output = edgesplit(&folder, &["run", "--origin", "http://a/b", "--config", "experiments.json"]);
    assert!(output.status.code() == Some(2) && text(&output).contains("without a path"), "{}", text(&output));
}

#[test]
#[should_panic(expected = "edgesplit ended without \"your site, through the filter\"")]
fn command_that_ends_early_is_not_waited_for() {
    let folder = Directory::new().unwrap();
    let origin = ["run", "--origin", "http://localhost:1", "--config", "missing.json"];
    Running::start(&folder, &origin).line("your site, through the filter");
}

#[test]
fn envoy_that_does_not_start_shows_its_log() {
    let folder = initialized("localhost:1");
    fs::write(folder.file("broken.wasm"), "broken").unwrap();
    let arguments =
        ["run", "--origin", "http://localhost:1", "--config", "experiments.json", "--module", "broken.wasm"];
    let output = edgesplit(&folder, &arguments);
    let text = text(&output);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains(" at its start:\n  [") && !text.contains("\\u{"), "{text}");
}
