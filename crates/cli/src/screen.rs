//! Standard output of a command that runs until it is stopped: lines, and a status line that is rewritten in place.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

/// Interval between status lines where they cannot be rewritten in place.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// Clears the line and turns wrapping off; turns wrapping on again.
const REWRITE: &str = "\r\x1b[2K\x1b[?7l";
const REWRITTEN: &str = "\x1b[?7h";

/// Standard output.
#[derive(Debug)]
pub(crate) struct Screen {
    rewrites: bool,
    next_line: Instant,
    /// Whether the cursor is at the end of a status line.
    on_line: bool,
}

impl Screen {
    pub(crate) fn new() -> Screen {
        Screen { rewrites: io::stdout().is_terminal(), next_line: Instant::now(), on_line: false }
    }

    /// Writes the status: in place on a terminal, else at most every [`LINE_INTERVAL`].
    pub(crate) fn status(&mut self, line: &str) -> Result<(), String> {
        if self.rewrites {
            self.on_line = true;
            return write(&format!("{REWRITE}{line}{REWRITTEN}"));
        }
        if Instant::now() < self.next_line {
            return Ok(());
        }
        self.next_line = Instant::now() + LINE_INTERVAL;
        write(&format!("{line}\n"))
    }

    /// Writes a line of its own.
    pub(crate) fn print(&mut self, text: &str) -> Result<(), String> {
        let end = if std::mem::take(&mut self.on_line) { "\n" } else { "" };
        write(&format!("{end}{text}\n"))
    }
}

fn write(text: &str) -> Result<(), String> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|error| format!("cannot write: {error}"))
}
