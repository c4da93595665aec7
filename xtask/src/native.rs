//! The native module.
//!
//! The one that ships is built twice. The first build counts how often a request takes each branch, in the host of
//! `tests/native_host`. With these counts, the compiler places the code of requests together, apart from rare code. This is
//! known as profile-guided optimization.

use crate::module::{cargo, host_target, is_newer, output, root, run, target_dir};
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The requests that are counted: how many each of the host's threads sends in a round, rounds, and seconds at least.
const COUNTED: [&str; 3] = ["20000", "3", "0"];

/// The sources of the host and its compiler's flags, its plugin configuration and its experiments.
const INPUTS: [&str; 5] = [
    "tests/native_host/stress.c",
    "tests/native_host/envoy.c",
    "tests/native_host/cc.flags",
    "tests/native_host/plugin.json",
    "examples/experiments.json",
];

/// Builds the native module that ships.
pub(crate) fn build() -> Result<()> {
    let profile = match profile_tool()? {
        Some(tool) => Some(profile(&tool)?),
        None => {
            eprintln!(
                "xtask: no profile, so the native module takes more CPU time: `rustup component add llvm-tools` failed"
            );
            None
        }
    };
    let flags = profile.map(|profile| format!("-Cprofile-use={}", profile.display()));
    let built = build_as(flags.as_deref(), &[], &target_dir())?;
    replace(&built, &root().join("dist/libedgesplit.so"))
}

/// Builds the native module for tests: it panics on request.
pub(crate) fn build_with_test_hooks() -> Result<()> {
    let built = build_as(None, &["--features", "test-hooks"], &target_dir().join("hooks"))?;
    replace(&built, &root().join("dist/test/libedgesplit-hooks.so"))
}

/// Builds the native module with a flag of the compiler. Build scripts do not get it, because a target is named.
fn build_as(flag: Option<&str>, options: &[&str], target_dir: &Path) -> Result<PathBuf> {
    let target = host_target()?;
    let mut cargo = cargo();
    cargo.args(["build", "--locked", "--release", "--package", "edgesplit", "--lib", "--target", &target]);
    cargo.args(options).arg("--target-dir").arg(target_dir).env("CARGO_ENCODED_RUSTFLAGS", flag.unwrap_or_default());
    run(&mut cargo)?;
    Ok(target_dir.join(target).join("release/libedgesplit.so"))
}

/// Copies a file to `output` by a rename, which does not disturb an Envoy that has the old one mapped.
fn replace(built: &Path, output: &Path) -> Result<()> {
    let new = output.with_extension("so.new");
    if let Some(folder) = output.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::copy(built, &new).with_context(|| new.display().to_string())?;
    std::fs::rename(&new, output).with_context(|| output.display().to_string())
}

/// The tool that reads counts. It is a component of the toolchain, which is added if it is missing. None without one.
fn profile_tool() -> Result<Option<PathBuf>> {
    let libraries = output(Command::new("rustc").args(["--print", "target-libdir"]).current_dir(root()))?;
    let tool = Path::new(libraries.trim()).with_file_name("bin").join("llvm-profdata");
    if !tool.exists() {
        eprintln!("xtask: adding llvm-tools to the toolchain");
        // Without rustup, there is no tool.
        let _ = Command::new("rustup").args(["component", "add", "llvm-tools"]).current_dir(root()).status();
    }
    Ok(Some(tool).filter(|tool| tool.exists()))
}

/// Counts the branches of requests, and gives the file with the counts.
fn profile(tool: &Path) -> Result<PathBuf> {
    let folder = target_dir().join("profile");
    let [host, counts, profile] = ["host", "counts.profraw", "native.profdata"].map(|name| folder.join(name));
    eprintln!("xtask: building the native module a first time, to count how often requests take each branch");
    let module = build_as(Some("-Cprofile-generate"), &[], &folder)?;
    let inputs = INPUTS.map(|name| root().join(name));
    let sources: Vec<&Path> = inputs.iter().chain([&module]).map(PathBuf::as_path).collect();
    if is_newer(&profile, &sources) {
        // A file that was written again would have cargo build the module again.
        return Ok(profile);
    }
    let mut compiler = Command::new("cc");
    let [stress, envoy, flags, plugin, experiments] = &inputs;
    run(compiler.arg("-o").arg(&host).args([stress, envoy]).arg(format!("@{}", flags.display())))?;
    let mut requests = Command::new(host);
    requests.args([&module, plugin, experiments]).args(COUNTED);
    output(requests.env("LLVM_PROFILE_FILE", &counts).current_dir(root()))?;
    run(Command::new(tool).args(["merge", "-o"]).args([&profile, &counts]))?;
    Ok(profile)
}
