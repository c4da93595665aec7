//! The built command.

use crate::project::{COMMAND_SOURCES, check_current};
use serde_json::Value;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::LazyLock;

/// The file of the built command, which must be newer than its sources.
#[track_caller]
pub fn program() -> PathBuf {
    static PROGRAM: LazyLock<Result<PathBuf, String>> = LazyLock::new(|| {
        let program = super::root().join("dist/edgesplit");
        check_current(&program, &COMMAND_SOURCES).map(|()| program)
    });
    PROGRAM.clone().unwrap_or_else(|error| panic!("{error}"))
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

/// The lines of JSON that it printed.
#[track_caller]
pub fn results(output: &Output) -> Vec<Value> {
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"))).collect()
}
