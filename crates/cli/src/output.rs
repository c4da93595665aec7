//! Standard output, with colours on terminals only.

use clap::builder::styling::{AnsiColor, Style};
use serde_json::Value;
use std::io::{ErrorKind, Write};

/// For the subject of an output.
pub(super) const STRONG: Style = Style::new().bold();
/// For good results.
pub(super) const GOOD: Style = AnsiColor::Green.on_default();
/// For results that need attention.
pub(super) const BAD: Style = AnsiColor::Red.on_default().bold();
/// For details.
pub(super) const QUIET: Style = Style::new().dimmed();

/// Prints `text`, without its colours if standard output is not a terminal or `NO_COLOR` is set.
pub(super) fn print(text: &str) -> Result<(), String> {
    let mut out = anstream::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // A reader that closes the pipe, such as `head`, has read enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written.map_err(|error| format!("cannot write standard output: {error}")),
    }
}

/// Prints JSON, for programs.
pub(super) fn print_json(value: &Value) -> Result<(), String> {
    print(&format!("{value:#}\n"))
}

/// `1 event`, `2 events`.
pub(super) fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{} {}", super::simulate::grouped(count), if count == 1 { one } else { many })
}

/// Whether standard output is a terminal.
pub(super) fn is_terminal() -> bool {
    std::io::IsTerminal::is_terminal(&std::io::stdout())
}
