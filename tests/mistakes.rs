//! Mistakes of beginners, each with the complete output of the command: `tests/mistakes/*.txt`. `UPDATE_MISTAKES=1` writes
//! the outputs anew.
#![allow(missing_docs)]
// Helpers of tests fail as tests do: by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// How many mistakes the files have at least.
const MISTAKES_MIN: usize = 60;

/// A mistake: its name, the arguments of the command, the files that it reads, and the expected output with the exit code.
struct Mistake {
    name: String,
    arguments: String,
    files: Vec<(String, String)>,
    expected: String,
}

/// The mistakes in `text`: `## name`, `$ edgesplit arguments`, `--- file` with its content, and `===` with the output.
fn mistakes(text: &str) -> Vec<Mistake> {
    let parts = text.split("## ").filter(|part| !part.trim().is_empty());
    parts
        .map(|part| {
            let (head, expected) = part.split_once("\n===").unwrap_or_else(|| panic!("no === in {part}"));
            let mut sections = head.split("\n--- ");
            let (name, arguments) = sections.next().unwrap().split_once("\n$ edgesplit ").unwrap();
            let file = |section: &str| {
                let (name, content) = section.split_once('\n').unwrap_or((section, ""));
                (name.to_owned(), content.to_owned())
            };
            Mistake {
                name: name.to_owned(),
                arguments: arguments.to_owned(),
                files: sections.map(file).collect(),
                expected: expected.trim().to_owned(),
            }
        })
        .collect()
}

impl Mistake {
    /// The exit code and the output of the command, in a folder of its own.
    fn output(&self) -> String {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("mistakes");
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        for (name, content) in &self.files {
            std::fs::write(folder.join(name), content).unwrap();
        }
        let mut command = Command::new(edgesplit_testkit::command::program());
        let command = command.args(self.arguments.split(' ')).current_dir(&folder).stdin(Stdio::null());
        let output = command.env_remove("EDGESPLIT_PREVIEW_SECRET").output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
        let printed = [text(&output.stdout), text(&output.stderr)];
        let printed: Vec<&str> = printed.iter().map(String::as_str).filter(|text| !text.is_empty()).collect();
        format!("{}\n{}", output.status.code().unwrap(), printed.join("\n"))
    }

    fn write(&self, text: &mut String, output: &str) {
        let separator = if text.is_empty() { "" } else { "\n" };
        let _ = writeln!(text, "{separator}## {}\n$ edgesplit {}", self.name, self.arguments);
        for (name, content) in &self.files {
            let _ = writeln!(text, "--- {name}\n{content}");
        }
        let _ = writeln!(text, "=== {output}");
    }
}

#[test]
fn mistakes_have_their_messages() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mistakes");
    let (mut count, mut wrong) = (0, String::new());
    for entry in std::fs::read_dir(folder).unwrap() {
        let file = entry.unwrap().path();
        let mut updated = String::new();
        for mistake in mistakes(&std::fs::read_to_string(&file).unwrap()) {
            let output = mistake.output();
            if output != mistake.expected {
                let _ = writeln!(wrong, "## {}\nexpected {}\nfound {output}\n", mistake.name, mistake.expected);
            }
            // A summary agrees with the effects above it.
            if output.contains(": plugin configuration ") && output.contains("the filter does not start") {
                assert!(output.contains("the filter would not start"), "{}: {output}", mistake.name);
            }
            mistake.write(&mut updated, &output);
            count += 1;
        }
        if std::env::var_os("UPDATE_MISTAKES").is_some() {
            std::fs::write(&file, updated).unwrap();
        }
    }
    assert!(count >= MISTAKES_MIN, "only {count} mistakes");
    assert!(wrong.is_empty() || std::env::var_os("UPDATE_MISTAKES").is_some(), "{wrong}");
}
