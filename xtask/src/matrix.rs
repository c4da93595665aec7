//! The end-to-end tests on several versions of Envoy, and on the last of them with few capabilities.

use crate::module::{cargo, root, run};
use anyhow::{Context, Result, bail};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

/// The newest of each minor version whose package runs modules: the one of 1.38.3 has no V8.
const VERSIONS: [&str; 3] = ["1.38.2", "1.39.3", "1.40.0"];

/// Runs the tests of the module that `MODULE` names on these versions, or on [`VERSIONS`], and prints the results as a table.
pub(crate) fn check(versions: &[&str]) -> Result<()> {
    let module = std::env::var("MODULE").ok().filter(|module| !module.is_empty());
    let module = module.unwrap_or_else(|| "wasm".to_owned());
    let versions = if versions.is_empty() { &VERSIONS[..] } else { versions };
    let mut results = Vec::new();
    for version in versions {
        let envoy = install(version)?;
        results.push(test(&envoy, version, None)?);
    }
    // Capabilities restrict VMs only.
    if let Some(version) = versions.last().filter(|_| module == "wasm") {
        let capabilities = root().join("envoy/capabilities.json");
        results.push(test(&install(version)?, &format!("{version}, restricted"), Some(&capabilities))?);
    }
    for result in &results {
        println!("{module:6} {}", result.line);
    }
    if results.iter().any(|result| !result.passed) {
        bail!("tests failed");
    }
    Ok(())
}

struct RunResult {
    passed: bool,
    line: String,
}

/// Installs this version into `.setup/`, and gives its binary.
fn install(version: &str) -> Result<PathBuf> {
    run(Command::new("python3").args(["envoy/install.py", version]).current_dir(root()))?;
    Ok(root().join(format!(".setup/envoy-{version}/envoy")))
}

/// Runs the end-to-end tests with this Envoy, and under this list of capabilities.
fn test(envoy: &Path, title: &str, capabilities: Option<&Path>) -> Result<RunResult> {
    let begun = Instant::now();
    let log = envoy.with_file_name(if capabilities.is_some() { "tests-restricted.log" } else { "tests.log" });
    eprintln!("matrix: Envoy {title}: the end-to-end tests (log: {})", log.display());
    let output = File::create(&log).with_context(|| log.display().to_string())?;
    let mut tests = cargo();
    tests.args(["test", "--locked", "--no-fail-fast"]);
    for entry in std::fs::read_dir(root().join("tests"))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if let Some(name) = name.strip_suffix(".rs").filter(|name| name.starts_with("e2e_")) {
            tests.args(["--test", name]);
        }
    }
    tests.args(["--", "--show-output"]).env("ENVOY", envoy);
    tests.env("EDGESPLIT_CAPABILITIES", capabilities.unwrap_or_else(|| Path::new("")));
    let status = tests.stderr(output.try_clone()?).stdout(output).status()?;

    let text = std::fs::read_to_string(&log)?;
    let passed: usize = text.lines().filter_map(passed_tests).sum();
    let mut skipped: Vec<&str> = text.lines().filter(|line| line.starts_with("skipped")).collect();
    if !status.success() {
        let failures = text.lines().filter(|line| line.starts_with("test ") && line.ends_with("FAILED"));
        failures.for_each(|line| eprintln!("matrix: {line}"));
        if text.contains("compiled without support") {
            eprintln!("matrix: this Envoy was built without V8: it runs no modules");
        }
    }
    let line = format!(
        "{title:26} {:7} {passed:3} tests passed, {} skipped, {} s",
        if status.success() { "passed" } else { "FAILED" },
        skipped.len(),
        begun.elapsed().as_secs()
    );
    skipped.sort_unstable();
    skipped.dedup();
    skipped.iter().for_each(|line| eprintln!("matrix: {line}"));
    Ok(RunResult { passed: status.success(), line })
}

/// The number of tests that a line of libtest's results counts as passed.
fn passed_tests(line: &str) -> Option<usize> {
    line.strip_prefix("test result: ")?.split(' ').nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passed_tests_reads_results_only() {
        assert_eq!(passed_tests("test result: ok. 12 passed; 0 failed; 0 ignored"), Some(12));
        assert_eq!(passed_tests("test result: FAILED. 3 passed; 1 failed"), Some(3));
        assert_eq!(passed_tests("test outbox::overflow ... ok"), None);
    }
}
