//! The built command.

use serde_json::Value;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

/// The file of the built command.
pub fn program() -> PathBuf {
    super::root().join("dist/edgesplit")
}

/// Runs `dist/edgesplit` with this input.
#[track_caller]
pub fn edgesplit(arguments: &[&str], input: &str) -> Output {
    let command = program();
    let mut process = Command::new(&command)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{}: {error}: run `make build`", command.display()));
    let mut stdin = process.stdin.take().unwrap();
    let input = input.to_owned();
    // The command answers while it reads.
    let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = process.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    output
}

/// What it printed: JSON, a value on each line.
#[track_caller]
pub fn results(output: &Output) -> Vec<Value> {
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"))).collect()
}
