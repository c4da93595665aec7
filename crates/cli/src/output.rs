//! Standard output and standard error, with colours on terminals only.

use clap::builder::styling::{AnsiColor, Style};
use edgesplit_engine::printable::printable;
use edgesplit_formats::diagnostics::{Problems, Severity};
use serde_json::Value;
use std::io::{ErrorKind, Write};

/// For the subject of an output.
pub(crate) const STRONG: Style = Style::new().bold();
/// For good results.
pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
/// For results that need attention.
pub(crate) const BAD: Style = AnsiColor::Red.on_default().bold();
/// For details.
pub(crate) const QUIET: Style = Style::new().dimmed();

/// Prints `text`, without its colours if standard output is not a terminal or `NO_COLOR` is set.
pub(crate) fn print(text: &str) -> Result<(), String> {
    let mut out = anstream::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // A reader that closes the pipe, such as `head`, has read enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written.map_err(|error| format!("cannot write standard output: {error}")),
    }
}

/// Prints JSON, for programs.
pub(crate) fn print_json(value: &Value) -> Result<(), String> {
    print(&format!("{value:#}\n"))
}

/// `1 event`, `2 events`.
pub(crate) fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{} {}", grouped(count), if count == 1 { one } else { many })
}

/// Whether standard output is a terminal.
pub(crate) fn is_terminal() -> bool {
    std::io::IsTerminal::is_terminal(&std::io::stdout())
}

/// Prints the problems of `file` on standard error. True if one of them is an error.
pub(crate) fn print_problems(file: &str, problems: &Problems) -> bool {
    for problem in problems.iter() {
        let style = if problem.severity == Severity::Error { BAD } else { STRONG };
        let (kind, problem) = (problem.severity.name(), problem.to_string());
        anstream::eprintln!("{}: {style}{kind}{style:#}: {}", printable(file), printable(&problem));
    }
    problems.errors() > 0
}

/// A number with thousands separators.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A share as a percentage.
pub(crate) fn percent(part: u64, whole: u64) -> String {
    format!("{:.2} %", if whole == 0 { 0.0 } else { 100.0 * part as f64 / whole as f64 })
}
