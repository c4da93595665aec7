//! The native module in a process of its own, in a host that stands in for Envoy (`tests/native_host/`): the host's programs,
//! and a process that plays single steps.
//!
//! A step is a line with a command, the length of its text, the time in milliseconds and its numbers; the text follows. Headers
//! are lines with `NAME=VALUE`. Configs, streams and calls have numbers that the tests choose:
//!
//! ```text
//! config CONFIG                         configures the plugin
//! request CONFIG STREAM WORKER          a request, up to its headers
//! response CONFIG STREAM STATUS         the response to it, up to its end
//! tick CONFIG
//! reply CONFIG CALL RESET HEADERS_LEN   the reply to a call, or its end without one: headers, then the body
//! disk ERRNO BYTES                      lets the thread of the spool pass its gate
//! end CONFIG LAST                       ends a config, and with the last one the spool
//! ```
//!
//! The process answers with the module's calls of the host (see [`HostCall`]) and a line `done CALLS ALLOCATIONS`: how often the
//! module called the host, and how often it allocated memory. A call of a service is answered by the line `NUMBER`: the call's,
//! or 0 if there is no such cluster.

use crate::envoy::Directory;
use crate::{Failure, root};
use edgesplit_filter::http::headers::HeaderBlock;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// Compiles `tests/native_host/NAME.c` with the host into `folder`.
pub fn compile(name: &str, folder: &Directory) -> PathBuf {
    let program = folder.file(name);
    let sources = [&format!("tests/native_host/{name}.c"), "tests/native_host/envoy.c", "@tests/native_host/cc.flags"];
    let mut compiler = Command::new("cc");
    compiler.args(["-g", "-Wall", "-Wextra", "-Werror", "-o"]).arg(&program).args(sources);
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

/// A call of the module to its host. `config` is the number of a config.
#[derive(Debug, Clone)]
pub enum HostCall {
    Log {
        level: u64,
        line: String,
    },
    Header {
        is_response: bool,
        name: String,
        value: String,
    },
    Counter {
        config: u64,
        by: u64,
        name: String,
    },
    Gauge {
        config: u64,
        value: u64,
        name: String,
    },
    Call {
        config: u64,
        timeout_ms: u64,
        cluster: String,
        headers: Vec<(String, String)>,
        body: Vec<u8>,
    },
    /// The thread of the spool waits at the gate before this change of the disk.
    Gate(String),
}

/// A process with the native module.
#[derive(Debug)]
pub struct NativeProcess {
    process: Child,
    commands: ChildStdin,
    output: BufReader<ChildStdout>,
    /// The wall clock of the process.
    pub wall_ms: i64,
}

impl NativeProcess {
    /// Starts the program `player` with `module`, as process `number`. Random bits follow from `seed`.
    pub fn start(player: &Path, module: &Path, seed: u64, number: u64) -> NativeProcess {
        let mut command = Command::new(player);
        command.arg(module).args([seed.to_string(), number.to_string()]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let (commands, output) = (process.stdin.take().unwrap(), process.stdout.take().unwrap());
        NativeProcess { process, commands, output: BufReader::new(output), wall_ms: 1_795_392_000_000 }
    }

    /// Plays a step. `on` gets the calls of the host, and gives the number of a call of a service.
    pub fn play(
        &mut self,
        command: &str,
        numbers: &[u64],
        text: &[u8],
        on: &mut dyn FnMut(HostCall) -> u64,
    ) -> Result<StepCost, Failure> {
        self.send_step(command, numbers, text)
            .and_then(|()| self.answers(on))
            .map_err(|error| format!("{command}: {error}"))
    }

    fn send_step(&mut self, command: &str, numbers: &[u64], text: &[u8]) -> Result<(), Failure> {
        let numbers = numbers.iter().map(|number| format!(" {number}")).collect::<String>();
        self.send(&[format!("{command} {} {}{numbers}\n", text.len(), self.wall_ms).as_bytes(), text].concat())
    }

    /// Reads the answers to a step, up to its cost.
    fn answers(&mut self, on: &mut dyn FnMut(HostCall) -> u64) -> Result<StepCost, Failure> {
        loop {
            let mut line = String::new();
            self.output.read_line(&mut line).map_err(|error| error.to_string())?;
            let (name, numbers) = line.trim_end().split_once(' ').ok_or("the process ended")?;
            let numbers: Vec<u64> = numbers.split(' ').map(|number| number.parse().unwrap()).collect();
            if name == "done" {
                return Ok(StepCost { host_calls: numbers[0], allocations: numbers[1] });
            }
            let (numbers, lengths) = numbers.split_at(numbers.len() - 3);
            let texts = [self.text(lengths[0])?, self.text(lengths[1])?, self.text(lengths[2])?];
            let number = on(host_call(name, numbers, texts));
            if name == "call" {
                self.send(format!("{number}\n").as_bytes())?;
            }
        }
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.commands.write_all(bytes).and_then(|()| self.commands.flush()).map_err(|error| error.to_string())
    }

    fn text(&mut self, len: u64) -> Result<Vec<u8>, Failure> {
        let mut text = vec![0; len as usize];
        self.output.read_exact(&mut text).map_err(|error| error.to_string())?;
        Ok(text)
    }
}

impl Drop for NativeProcess {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Headers as steps have them.
pub fn lines(headers: &HeaderBlock) -> Vec<u8> {
    let headers = headers.map();
    headers.iter().flat_map(|(name, value)| [name, b"=", value, b"\n"].concat()).collect()
}

fn host_call(name: &str, numbers: &[u64], texts: [Vec<u8>; 3]) -> HostCall {
    let [first, second, body] = texts;
    let [first, second] = [first, second].map(|text| String::from_utf8_lossy(&text).into_owned());
    match name {
        "log" => HostCall::Log { level: numbers[0], line: first },
        "header" => HostCall::Header { is_response: numbers[0] != 0, name: first, value: second },
        "counter" => HostCall::Counter { config: numbers[0], by: numbers[1], name: first },
        "gauge" => HostCall::Gauge { config: numbers[0], value: numbers[1], name: first },
        "gate" => HostCall::Gate(first),
        "call" => {
            let headers = second.lines().filter_map(|line| line.split_once('='));
            let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
            HostCall::Call { config: numbers[0], timeout_ms: numbers[1], cluster: first, headers, body }
        }
        other => panic!("the process calls {other:?}"),
    }
}
