//! Runs the commands of `docs/tutorial.md` in their order, and compares their output with the page.
//!
//! Blocks with the language `console` hold commands, each with lines of its output; a line `…` stands for any number of
//! lines. A command that does not end, such as `edgesplit run`, stays in the background. Blocks `text run` hold lines that
//! `edgesplit run` prints then. A block with a file's name holds the file.
#![allow(missing_docs)]
// A test fails by panicking, in its helpers too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use edgesplit_testkit::command::program;
use edgesplit_testkit::envoy::Directory;
use edgesplit_testkit::page::{blocks, commands, contains, has_curl};
use edgesplit_testkit::{DEADLINE, eventually, lock, send_signal};
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

/// A command in the background, with its output.
struct Background {
    child: Child,
    output: Arc<Mutex<String>>,
}

impl Drop for Background {
    fn drop(&mut self) {
        send_signal("TERM", self.child.id());
        let _ = self.child.wait();
    }
}

/// The terminal windows of the reader.
struct Reader {
    folder: Directory,
    background: Vec<Background>,
    /// Ports of the page, each with the one that is used here.
    ports: Vec<(String, String)>,
}

impl Reader {
    /// The text of the page with the ports of this machine.
    fn here(&self, text: &str) -> String {
        self.ports.iter().fold(text.to_owned(), |text, (page, here)| text.replace(page, here))
    }

    fn command(&self, text: &str) -> Command {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = program().parent().map(ToOwned::to_owned).into_iter().chain(std::env::split_paths(&path));
        let mut command = Command::new("sh");
        // The shell gives way to the command: a signal for the one reaches the other.
        let exec = if is_endless(text) { "exec " } else { "" };
        command.args(["-c", &format!("{exec}{}", self.here(text))]).current_dir(self.folder.file(""));
        command.env("PATH", std::env::join_paths(folders).unwrap()).env("NO_COLOR", "1").stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&mut self, command: &str, expected: &[String]) {
        if is_endless(command) {
            let mut child = self.command(command).spawn().unwrap();
            let output = Arc::new(Mutex::new(String::new()));
            for stream in
                [Box::new(child.stdout.take().unwrap()) as Box<dyn Read + Send>, Box::new(child.stderr.take().unwrap())]
            {
                let output = Arc::clone(&output);
                std::thread::spawn(move || {
                    for line in BufReader::new(stream).lines().map_while(Result::ok) {
                        lock(&output).push_str(&format!("{line}\n"));
                    }
                });
            }
            self.background.push(Background { child, output });
            if command.starts_with("edgesplit run") {
                self.learn_ports(expected);
            }
            self.expect_in_background(expected);
            return;
        }
        // A change of the experiments takes a moment to reach the proxy: a request is repeated until it shows.
        let attempt = || {
            let output = self.command(command).output().unwrap();
            let text =
                format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            if let Err(missing) = contains(&text, expected, |line| self.here(line)) {
                assert!(command.starts_with("curl"), "$ {command}\n{text}\nthe page has also: {missing}");
                return None;
            }
            Some(())
        };
        eventually(DEADLINE, &format!("$ {command} prints {expected:#?}"), attempt);
    }

    /// Reads the ports that `run` chose, from the lines with the same descriptions as on the page.
    fn learn_ports(&mut self, expected: &[String]) {
        for line in expected {
            let Some((address, purpose)) =
                line.trim().split_once(' ').filter(|(word, _)| word.starts_with("http://127"))
            else {
                continue;
            };
            let here = eventually(DEADLINE * 4, line, || {
                let output = self.background.last()?;
                let text = lock(&output.output).clone();
                let found =
                    text.lines().find(|line| line.ends_with(purpose.trim()))?.trim().split(' ').next()?.to_owned();
                Some(found)
            });
            self.ports.push((address.to_owned(), here));
        }
    }

    fn expect_in_background(&self, expected: &[String]) {
        let output = &self.background.last().expect("a command in the background").output;
        eventually(DEADLINE * 4, &format!("run prints {expected:#?}"), || {
            let text = lock(output).clone();
            contains(&text, expected, |line| self.here(line)).ok()
        });
    }
}

/// Whether a command runs until it is stopped.
fn is_endless(command: &str) -> bool {
    command.starts_with("edgesplit run") || command.starts_with("python3 site.py")
}

#[test]
fn tutorial_shows_what_its_commands_print() {
    if !has_curl() {
        return;
    }
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    let ports = vec![("3000".to_owned(), free.to_string())];
    let mut reader = Reader { folder: Directory::new().unwrap(), background: Vec::new(), ports };
    for block in blocks("tutorial") {
        match block.info.split_once(' ').unwrap_or((&block.info, "")) {
            ("console", _) => {
                for (command, expected) in commands(&block) {
                    reader.run(&command, &expected);
                    if command.starts_with("python3 site.py") {
                        eventually(DEADLINE, "the site", || TcpStream::connect((Ipv4Addr::LOCALHOST, free)).ok());
                    }
                }
            }
            ("text", "run") => reader.expect_in_background(&block.lines),
            (_, file) if !file.is_empty() => {
                let text: String = block.lines.iter().map(|line| format!("{line}\n")).collect();
                fs::write(reader.folder.file(file), reader.here(&text)).unwrap();
            }
            _ => {}
        }
    }
    assert!(reader.background.len() == 2, "the page starts a site and `edgesplit run`");
}
