//! The demo runs, its suggested commands work, its dashboard shows their effects, and it ends.
#![allow(missing_docs)]
// A test fails by panicking, in its helpers too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use edgesplit_testkit::browser::Browser;
use edgesplit_testkit::client::Client;
use edgesplit_testkit::command::program;
use edgesplit_testkit::envoy::{Directory, find_binary};
use edgesplit_testkit::page::has_curl;
use edgesplit_testkit::{DEADLINE, eventually, installed, send_signal};
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Mutex, PoisonError};

/// A process that does not outlive its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Its number may be another's by now.
        if self.0.try_wait().is_ok_and(|ended| ended.is_none()) {
            // SIGTERM, so that it ends its Envoy.
            send_signal("TERM", self.0.id());
            let _ = self.0.wait();
        }
    }
}

/// Demos look for the same ports: one at a time.
static DEMO: Mutex<()> = Mutex::new(());

/// The path of the Envoy, which is valid in any folder.
fn envoy() -> PathBuf {
    fs::canonicalize(find_binary().unwrap()).unwrap()
}

fn demo() -> Command {
    let mut demo = Command::new(program());
    demo.arg("demo").env_remove("EXPERIMENTS");
    demo
}

#[test]
fn demo_runs_on_the_envoy_of_func_e_and_ends_by_itself() {
    let _one = DEMO.lock().unwrap_or_else(PoisonError::into_inner);
    // A stand-in that does what `func-e which` does.
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("func-e");
    fs::create_dir_all(&folder).unwrap();
    let (asked, launcher) = (folder.join("asked"), folder.join("func-e"));
    let script = format!("#!/bin/sh\necho \"$@ $ENVOY_VERSION\" >{}\necho {}\n", asked.display(), envoy().display());
    fs::write(&launcher, script).unwrap();
    fs::set_permissions(&launcher, fs::Permissions::from_mode(0o755)).unwrap();
    let path = std::env::join_paths(
        std::iter::once(folder.clone()).chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
    );
    let path = path.unwrap();

    let run = |runner: &str| {
        let mut demo = demo();
        // Enough for the first events on a busy machine.
        demo.envs([("ENVOY_RUNNER", runner), ("DEMO_SECONDS", "5"), ("ENVOY", "/nowhere")]).env("PATH", &path);
        demo.env_remove("ENVOY_VERSION").stdin(Stdio::null()).output().unwrap()
    };
    let output = run("func-e");
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("checked: every request was answered"), "{output:?}");
    assert_eq!(fs::read_to_string(&asked).unwrap(), "which 1.40.0\n");
    let output = run("docker");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("ENVOY_RUNNER=docker: expected func-e"), "{said}");
}

#[test]
fn demo_runs_until_a_signal_ends_it() {
    let _one = DEMO.lock().unwrap_or_else(PoisonError::into_inner);
    let mut demo = start();
    let introduction = Introduction::of(&mut demo);
    let (proxy, admin) = (introduction.port("through the filter"), introduction.port("admin interface"));

    let ben = eventually(DEADLINE, "the experiments are there", || {
        let reply = Client::new(proxy).get("/checkout").header("x-user-id", "ben").send().text();
        reply.contains("x-ab-assignments").then_some(reply)
    });
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    for line in ben.lines().filter(|line| line.starts_with("GET ") || line.starts_with("x-ab-")) {
        assert!(readme.contains(&format!("\n{line}\n")), "the README shows another line than {line:?}");
    }
    for labelled in [
        r#"edgesplit_exposures{plugin="demo",experiment="navigation",variant="mega"}"#,
        r#"edgesplit_decisions{plugin="demo",reason="bucketed"}"#,
        r#"edgesplit_events_delivered{plugin="demo"}"#,
    ] {
        eventually(DEADLINE, labelled, || {
            let metrics = Client::new(admin).get("/stats/prometheus?usedonly").try_send().ok()?.text();
            metrics.contains(labelled).then_some(())
        });
    }

    end(demo, introduction);
    assert!(Client::new(proxy).connect().is_err(), "Envoy ended too");
}

/// Ends a demo as Ctrl-C does.
fn end(mut demo: Running, introduction: Introduction) {
    send_signal("INT", demo.0.id());
    let (mut rest, mut output) = (String::new(), introduction.rest);
    output.read_to_string(&mut rest).unwrap();
    let status = demo.0.wait().unwrap();
    assert!(status.success() && rest.contains("stopped; the collector has "), "{status}: {rest}");
}

/// The introduction that a demo prints.
struct Introduction {
    /// Addresses, each with what it is.
    addresses: Vec<(String, String)>,
    /// What to try, in its order.
    commands: Vec<String>,
    /// What comes after.
    rest: BufReader<ChildStdout>,
}

impl Introduction {
    fn of(demo: &mut Running) -> Introduction {
        let mut introduction = Introduction {
            addresses: Vec::new(),
            commands: Vec::new(),
            rest: BufReader::new(demo.0.stdout.take().unwrap()),
        };
        let mut line = String::new();
        while !line.starts_with("Ctrl-C") {
            line.clear();
            assert_ne!(introduction.rest.read_line(&mut line).unwrap(), 0, "the demo ended");
            match line.trim().split_once(' ') {
                Some((address, what)) if address.starts_with("http://127.0.0.1:") => {
                    introduction.addresses.push((address.to_owned(), what.trim().to_owned()));
                }
                Some(("curl", _)) => introduction.commands.push(line.trim().to_owned()),
                _ => {}
            }
        }
        introduction
    }

    fn address(&self, what: &str) -> &str {
        &self.addresses.iter().find(|(_, is)| is.contains(what)).unwrap_or_else(|| panic!("no {what}")).0
    }

    fn port(&self, what: &str) -> u16 {
        self.address(what).rsplit(':').next().unwrap().parse().unwrap()
    }
}

fn start() -> Running {
    Running(demo().stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap())
}

#[test]
fn demos_that_start_at_once_share_no_port() {
    let _one = DEMO.lock().unwrap_or_else(PoisonError::into_inner);
    let mut demos = [start(), start()];
    let introductions = demos.each_mut().map(Introduction::of);
    let ports: Vec<&str> = introductions
        .iter()
        .flat_map(|one| &one.addresses)
        .map(|(address, _)| address.trim_start_matches("http://").split('/').next().unwrap())
        .collect();
    let mut different = ports.clone();
    different.sort_unstable();
    different.dedup();
    assert_eq!((ports.len(), different.len()), (14, 14), "{ports:?}");
    demos.into_iter().zip(introductions).for_each(|(demo, introduction)| end(demo, introduction));
}

/// The line of the recipe of `make build` that replaces the command, for a command in `target/` of the present folder.
fn replace_command() -> String {
    let mut make = Command::new("make");
    make.args(["--dry-run", "--no-print-directory", "build", "CARGO_TARGET_DIR=target"])
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    let output = make.env_remove("MAKEFLAGS").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let recipe = String::from_utf8_lossy(&output.stdout).into_owned();
    recipe.lines().find(|line| line.contains("dist/edgesplit")).unwrap_or_else(|| panic!("{recipe}")).to_owned()
}

#[test]
fn build_beside_a_running_demo_does_not_disturb_it() {
    let _one = DEMO.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = Directory::new().unwrap();
    let command = folder.file("dist/edgesplit");
    for copy in [command.clone(), folder.file("target/release/edgesplit")] {
        fs::create_dir_all(copy.parent().unwrap()).unwrap();
        fs::copy(program(), copy).unwrap();
    }
    let demo = Command::new(&command)
        .arg("demo")
        .env_remove("EXPERIMENTS")
        .env("ENVOY", envoy())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn();
    let mut demo = Running(demo.unwrap());
    let introduction = Introduction::of(&mut demo);
    let inode = || fs::metadata(&command).unwrap().ino();
    let before = inode();
    let output = Command::new("sh").args(["-c", &replace_command()]).current_dir(folder.file("")).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_ne!(inode(), before, "the file is another one");
    let proxy = introduction.port("through the filter");
    eventually(DEADLINE, "the demo goes on", || {
        let reply = Client::new(proxy).get("/checkout").header("x-user-id", "ben").send();
        reply.text().contains("x-ab-assignments").then_some(())
    });
    end(demo, introduction);
}

#[test]
fn suggested_commands_work_and_show_on_the_dashboard() {
    if !has_curl() {
        return;
    }
    let _one = DEMO.lock().unwrap_or_else(PoisonError::into_inner);
    let mut demo = start();
    let introduction = Introduction::of(&mut demo);
    let mut page =
        installed("chromium", "browser").map(|browser| Browser::open(&browser, introduction.address("the dashboard")));
    let (port, proxy) = (introduction.port("the dashboard"), introduction.port("through the filter"));
    let state = || Client::new(port).get("/state.json").host(format!("127.0.0.1:{port}")).send().json();
    let mut shows = |what: &str, selector: &str, text: &str, is: &dyn Fn(&Value) -> bool| {
        eventually(DEADLINE, what, || is(&state()).then_some(()));
        if let Some(page) = &mut page {
            page.wait_for(selector, |shown| shown.contains(text));
        }
    };
    let run = |command: &str| {
        let output = Command::new("sh").args(["-c", &format!("set -e; {command}")]).output().unwrap();
        assert!(output.status.success(), "{command}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let word = |state: &Value, is: &str| state["delivery"]["verdict"]["word"] == is;
    shows("it is healthy", "#delivery-badge", "healthy", &|state| {
        word(state, "healthy") && state["delivery"]["delivered"].as_u64() > Some(0)
    });
    shows("its experiments", "#experiment-1-title", "checkout-button", &|state| state["revision"] == "demo-1");

    assert!(introduction.commands.len() >= 12, "{:?}", introduction.commands);
    let is_assigned = || {
        let reply = Client::new(proxy).get("/checkout").header("x-user-id", "ben").send();
        reply.text().contains("x-ab-assignments")
    };
    // Of so many connections, each worker has some.
    let is_given = |expected: bool| {
        eventually(DEADLINE, "both workers follow", || (0..16).all(|_| is_assigned() == expected).then_some(()));
    };
    is_given(true);
    for command in &introduction.commands {
        let printed = run(command);
        let has = |what: &str| assert!(printed.contains(what), "{command}: {printed}");
        let lacks = |what: &str| assert!(!printed.contains(what), "{command}: {printed}");
        if command.contains("x-user-id: ben") {
            has("x-ab-cache-key: checkout-button.green~navigation.mega");
        } else if command.contains("x-user-id: ada") {
            has("cache-control: private");
        } else if command.contains("x-user-id: dan") {
            has("x-ab-assignments: checkout-button=control, navigation=control");
            lacks("x-ab-cache-key");
        } else if command.contains("stolen") {
            lacks("stolen");
            lacks("free");
        } else if command.contains("sec-gpc") {
            lacks("set-cookie");
            lacks("x-ab-assignments");
        } else if command.starts_with("curl -i http") {
            has("set-cookie: ab_visitor=");
        } else if command.ends_with("/demo/collector/down") {
            shows("the outage", "#delivery-badge", "not delivering", &|state| {
                word(state, "not delivering") && state["delivery"]["queued_events"].as_u64() > Some(0)
            });
            assert!(is_assigned(), "requests go on");
        } else if command.ends_with("/demo/collector/up") {
            shows("its end", "#delivery-badge", "healthy", &|state| {
                word(state, "healthy") && state["delivery"]["oldest_age_s"] == 0
            });
        } else if command.contains("demo-2") {
            is_given(false);
            shows("the experiments are paused", "#experiment-0 .state", "paused", &|state| {
                state["proxies"][0]["revisions"][0] == "demo-2" && state["experiments"][0]["state"] == "paused"
            });
        } else if command.contains("DELETE") {
            is_given(true);
        } else if command.ends_with("/demo/config/503") {
            shows("fetches fail", "#proxies-title", "Proxies", &|state| {
                state["proxies"][0]["fetch_failures"].as_u64() > Some(0)
            });
            is_given(true);
            run(&command.replace("/503", "/up"));
        } else if command.contains("stats/prometheus") {
            has("edgesplit_exposures{");
        } else {
            panic!("{command}: what does it do?");
        }
    }
    end(demo, introduction);
    assert!(
        page.is_none_or(|page| page.complaints.is_empty() || page.complaints.iter().all(|one| one.contains("ERR_")))
    );
}
