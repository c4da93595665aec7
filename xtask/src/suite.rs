//! All tests of the workspace, with a list of the skipped ones and the totals at the end.

use crate::module::{cargo, target_dir};
use anyhow::{Context, Result, ensure};
use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

/// Passed, failed and ignored tests.
#[derive(Debug, Default, PartialEq, Eq)]
struct Totals {
    passed: u64,
    failed: u64,
    ignored: u64,
}

impl Totals {
    /// Adds the numbers of a result line of libtest, such as `test result: ok. 3 passed; 0 failed; 1 ignored; …`.
    fn add(&mut self, line: &str) {
        let Some((_, counts)) = line.strip_prefix("test result: ").and_then(|rest| rest.split_once(". ")) else {
            return;
        };
        for count in counts.split("; ") {
            let Some((number, kind)) = count.split_once(' ') else { continue };
            let Ok(number) = number.parse::<u64>() else { continue };
            match kind {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.ignored += number,
                _ => (),
            }
        }
    }
}

/// Runs all tests, with these further arguments for `cargo test`.
pub(crate) fn run(args: &[&str]) -> Result<()> {
    // `edgesplit_testkit::skip` appends to this file.
    let list = target_dir().join("skipped.txt");
    if list.exists() {
        std::fs::remove_file(&list).with_context(|| list.display().to_string())?;
    }
    let mut tests = cargo();
    tests.args(["test", "--locked", "--workspace", "--no-fail-fast"]).args(args).stdout(Stdio::piped());
    let mut child = tests.spawn().context("cannot start cargo")?;
    let output = child.stdout.take().context("cargo has no output")?;
    let mut totals = Totals::default();
    let mut terminal = std::io::stdout().lock();
    for line in BufReader::new(output).split(b'\n') {
        let line = line?;
        totals.add(&String::from_utf8_lossy(&line));
        terminal.write_all(&line)?;
        terminal.write_all(b"\n")?;
    }
    let status = child.wait()?;

    let skipped = if list.exists() { std::fs::read_to_string(&list)? } else { String::new() };
    let mut skipped: Vec<&str> = skipped.lines().collect();
    skipped.sort_unstable();
    // A test that asks twice is skipped once.
    skipped.dedup();
    if !skipped.is_empty() {
        writeln!(terminal, "\nskipped, because something is missing here:")?;
        for line in &skipped {
            writeln!(terminal, "  {line}")?;
        }
    }
    writeln!(terminal, "\n{} skipped, {} ignored", skipped.len(), totals.ignored)?;
    writeln!(terminal, "{} passed, {} failed", totals.passed, totals.failed)?;
    terminal.flush()?;
    ensure!(status.success(), "tests failed");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::Totals;

    #[test]
    fn totals_add_up_result_lines() {
        let mut totals = Totals::default();
        totals.add("test result: ok. 12 passed; 0 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.00s");
        totals.add("test result: FAILED. 3 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.22s");
        totals.add("test outbox::overflow_drops_oldest ... ok");
        assert_eq!(totals, Totals { passed: 15, failed: 1, ignored: 2 });
    }
}
