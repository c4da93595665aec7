//! Where answers go: standard output, in colours on a terminal alone.

use clap::builder::styling::{AnsiColor, Style};
use serde_json::Value;
use std::io::{ErrorKind, Write};

/// What an answer is about.
pub(super) const STRONG: Style = Style::new().bold();
/// What is as it should be.
pub(super) const GOOD: Style = AnsiColor::Green.on_default();
/// What somebody has to look at.
pub(super) const BAD: Style = AnsiColor::Red.on_default().bold();
/// What is there for who looks closer.
pub(super) const QUIET: Style = Style::new().dimmed();

/// Prints `text`. Its colours are for terminals: elsewhere they are left out, as where `NO_COLOR` is set.
pub(super) fn print(text: &str) -> Result<(), String> {
    let mut out = anstream::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // Who has stopped reading has seen enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written.map_err(|error| format!("cannot write standard output: {error}")),
    }
}

/// Prints an answer for a program.
pub(super) fn print_json(value: &Value) -> Result<(), String> {
    print(&format!("{value:#}\n"))
}

/// `1 event`, `2 events`.
pub(super) fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{} {}", super::simulate::grouped(count), if count == 1 { one } else { many })
}

/// Whether a person reads standard output.
pub(super) fn is_terminal() -> bool {
    std::io::IsTerminal::is_terminal(&std::io::stdout())
}
