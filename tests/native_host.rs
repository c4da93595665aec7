//! The native module in a host that stands in for Envoy (`tests/native_host/stress.c`): requests of many visitors, hostile ones
//! among them, from several threads, with a new config every few seconds. It shows memory that grows, and with valgrind
//! every invalid access. `make memcheck` runs the long ones.
#![allow(missing_docs)]
// Helpers of tests fail as tests do: by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use edgesplit_testkit::envoy::Directory;
use edgesplit_testkit::native_process::compile;
use edgesplit_testkit::{installed, root};
use serde_json::{Value, json};
use std::process::Command;

/// Memory that a million requests may add after the first million, by when the memory of exposures and the outbox are full.
const GROWTH_KB_MAX: u64 = 512;

/// Runs the host under the command `wrapper`, and gives its output. `extent`: requests of a worker in a round, rounds, and
/// seconds at least.
fn run(wrapper: &[&str], extent: [u64; 3]) -> String {
    let folder = Directory::new().unwrap();
    let (host, plugin) = (compile("stress", &folder), folder.file("plugin.json"));
    let text = std::fs::read(root().join("tests/native_host/plugin.json")).unwrap();
    let mut configuration: Value = serde_json::from_slice(&text).unwrap();
    configuration["events"]["outbox"]["spool"] = json!(folder.file("spool"));
    std::fs::write(&plugin, configuration.to_string()).unwrap();
    let module = std::env::var("EDGESPLIT_MODULE").unwrap_or_else(|_| "dist/libedgesplit.so".to_owned());
    // `env` runs the host as it is.
    let mut command = Command::new(wrapper.first().unwrap_or(&"env"));
    command.args(wrapper.iter().skip(1)).arg(&host).arg(root().join(module)).arg(&plugin);
    command.arg("examples/experiments.json").args(extent.map(|number| number.to_string()));
    let output = command.current_dir(root()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}\n{text}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    println!("{text}");
    text
}

#[test]
fn module_serves_requests_of_several_threads() {
    let output = run(&[], [2_000, 3, 0]);
    assert!(output.ends_with(" 0 panics\n"), "{output}");
}

#[test]
#[ignore = "takes a minute: run it with `make memcheck`"]
fn memory_stays_flat_over_a_million_requests() {
    // With an arena for each thread, the peak would include the fragments of all arenas.
    let output = run(&["env", "MALLOC_ARENA_MAX=1"], [20_000, 50, 0]);
    let kb = |line: &str| line.strip_suffix(" kB resident")?.rsplit(' ').next()?.parse::<u64>().ok();
    let rounds: Vec<u64> = output.lines().filter_map(kb).collect();
    let (first, second) = rounds.split_at(25);
    let (before, after) = (first.iter().max().unwrap(), second.iter().max().unwrap());
    assert!(*after < before + GROWTH_KB_MAX, "{before} kB at most in the first million, {after} kB in the second");
}

#[test]
#[ignore = "takes 10 minutes: run it with `make memcheck`"]
fn valgrind_finds_no_errors() {
    let Some(valgrind) = installed("valgrind", "valgrind") else { return };
    let seconds = std::env::var("SECONDS").map_or(600, |text| text.parse().expect("SECONDS is a number"));
    // Tables are known by addresses inside them, so they count as possibly lost.
    let leaks = ["--leak-check=full", "--show-leak-kinds=definite", "--errors-for-leak-kinds=definite"];
    let options = ["--quiet", "--error-exitcode=9"].into_iter().chain(leaks);
    let wrapper: Vec<&str> = std::iter::once(valgrind.to_str().unwrap()).chain(options).collect();
    run(&wrapper, [2_000, 3, seconds]);
}
