//! The native module in a process of its own, in a host that stands in for Envoy (`tests/native_host/`): the host's programs,
//! and a process that plays single steps.
//!
//! A step is a line with a command and its numbers, the last of which are the lengths of the texts that follow it. Headers are
//! lines with `NAME=VALUE`. The process answers each step with a line `done CALLS ALLOCATIONS`: how often the module called the
//! host, and how often it allocated memory.

use crate::envoy::Directory;
use crate::{Failure, root};
use edgesplit_filter::http::headers::HeaderBlock;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// Compiles `tests/native_host/NAME.c` with the host into `folder`.
pub fn compile(name: &str, folder: &Directory) -> PathBuf {
    let program = folder.file(name);
    let flags = ["-std=gnu11", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-rdynamic"];
    let sources = [format!("tests/native_host/{name}.c"), "tests/native_host/envoy.c".to_owned()];
    let mut compiler = Command::new("cc");
    compiler.args(flags).args(sources).arg("-o").arg(&program).args(["-ldl", "-lpthread"]);
    let output = compiler.current_dir(root()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    program
}

/// The cost of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepCost {
    /// The calls of the module to the host.
    pub host_calls: u64,
    /// The allocations of the thread.
    pub allocations: u64,
}

/// A process with the native module.
#[derive(Debug)]
pub struct NativeProcess {
    process: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl NativeProcess {
    /// Starts the program `player` with `module`.
    pub fn start(player: &Path, module: &Path) -> NativeProcess {
        let mut command = Command::new(player);
        let mut process = command.arg(module).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (commands, answers) = (process.stdin.take().unwrap(), process.stdout.take().unwrap());
        NativeProcess { process, commands, answers: BufReader::new(answers) }
    }

    /// Configures the plugin.
    pub fn configure(&mut self, plugin: &[u8]) -> Result<StepCost, Failure> {
        self.step("config", &[], plugin)
    }

    /// Plays a request on the thread of a worker, up to its headers.
    pub fn request(&mut self, stream: u64, worker: u64, headers: &HeaderBlock) -> Result<StepCost, Failure> {
        self.step("request", &[stream, worker], &lines(headers))
    }

    /// Plays the response to it, up to its end.
    pub fn response(&mut self, stream: u64, headers: &HeaderBlock) -> Result<StepCost, Failure> {
        self.step("response", &[stream], &lines(headers))
    }

    /// Plays a tick.
    pub fn tick(&mut self) -> Result<StepCost, Failure> {
        self.step("tick", &[], b"")
    }

    fn step(&mut self, command: &str, numbers: &[u64], text: &[u8]) -> Result<StepCost, Failure> {
        let numbers = numbers.iter().map(|number| format!(" {number}")).collect::<String>();
        let head = format!("{command}{numbers} {}\n", text.len());
        let written = self.commands.write_all(&[head.as_bytes(), text].concat()).and_then(|()| self.commands.flush());
        written.map_err(|error| format!("{command}: {error}"))?;
        let mut line = String::new();
        self.answers.read_line(&mut line).map_err(|error| format!("{command}: {error}"))?;
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        match words.as_slice() {
            ["done", calls, allocations] => {
                Ok(StepCost { host_calls: calls.parse().unwrap(), allocations: allocations.parse().unwrap() })
            }
            _ => Err(format!("{command}: the process answers {line:?}")),
        }
    }
}

impl Drop for NativeProcess {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn lines(headers: &HeaderBlock) -> Vec<u8> {
    let headers = headers.map();
    headers.iter().flat_map(|(name, value)| [name, b"=", value, b"\n"].concat()).collect()
}
