//! Build steps that cargo cannot express, run as `cargo xtask STEP`.
//!
//! - [`module`]: builds the plugin's module, and the modules that tests and benchmarks compare it with.
//! - [`exports`]: removes the callbacks that a module exports and does not use.

mod exports;
mod module;

use anyhow::{Result, bail};
use std::path::Path;
use std::process::ExitCode;

const USAGE: &str = "\
cargo xtask STEP

  module                      build the plugin's module into dist/
  test-module                 build the module with test hooks into dist/test/
  bench-modules               build the modules that the benchmark compares with into dist/bench/
  strip-exports MODULE OUT    copy MODULE without the callbacks that the plugin does not use";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[&str]) -> Result<()> {
    match args {
        ["module"] => module::build_plugin(),
        ["test-module"] => module::build_with_test_hooks(),
        ["bench-modules"] => module::build_bench_filters(),
        ["strip-exports", module, out] => exports::strip_file(Path::new(module), Path::new(out)),
        [] | ["help" | "--help" | "-h"] => {
            println!("{USAGE}");
            Ok(())
        }
        _ => bail!("unknown step\n\n{USAGE}"),
    }
}
