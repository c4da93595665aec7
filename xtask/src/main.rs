//! Build steps that cargo cannot express, run as `cargo xtask STEP`.
//!
//! - [`module`]: builds the plugin's module, and the modules that tests and benchmarks compare it with.
//! - [`exports`]: removes the callbacks that a module exports and does not use.
//! - [`image`], [`release`]: an OCI image of the module, and the files of a release. [`elf`]: the needs of the native module.
//! - [`suite`]: runs all tests and lists the skipped ones.
//! - [`tools`]: checks dependencies and fuzzes, with pinned tools.
//! - [`reproduce`]: compares two builds. [`matrix`]: runs the end-to-end tests on several versions of Envoy.

mod elf;
mod exports;
mod image;
mod matrix;
mod module;
mod native;
mod release;
mod reproduce;
mod suite;
mod tools;

use anyhow::{Result, bail};
use std::path::Path;
use std::process::ExitCode;

const USAGE: &str = "\
cargo xtask STEP

  module                      build the plugin's module into dist/
  test-module                 build the modules with test hooks into dist/test/
  native-module               build the native module into dist/
  bench-modules               build the modules that the benchmark compares with into dist/bench/
  strip-exports MODULE OUT    copy MODULE without the callbacks that the plugin does not use
  image MODULE FOLDER         write an OCI image of MODULE to FOLDER
  release MODULE NATIVE COMMAND IMAGE OUT
                              write the files of a release to OUT
  test [ARGUMENT…]            run all tests, and list the skipped ones at the end
  reproduce                   build the module in two folders and compare
  matrix [VERSION…]           run the end-to-end tests on several versions of Envoy
  deny                        check licences, sources and advisories of all crates
  fuzz TARGET SECONDS         fuzz one target";

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
        ["test-module"] => module::build_with_test_hooks().and_then(|()| native::build_with_test_hooks()),
        ["native-module"] => native::build(),
        ["bench-modules"] => module::build_bench_filters(),
        ["strip-exports", module, out] => exports::strip_file(Path::new(module), Path::new(out)),
        ["image", module, folder] => image::write(Path::new(module), Path::new(folder)),
        ["release", files @ .., out] => match files {
            [module, native, command, image] => {
                let [module, native, command, image] = [module, native, command, image].map(Path::new);
                release::write(&release::Built { module, native, command, image }, Path::new(out))
            }
            _ => bail!("release takes 5 paths\n\n{USAGE}"),
        },
        ["test", args @ ..] => suite::run(args),
        ["reproduce"] => reproduce::check(),
        ["matrix", versions @ ..] => matrix::check(versions),
        ["deny"] => tools::deny(),
        ["fuzz", target, seconds] => tools::fuzz(target, seconds),
        [] | ["help" | "--help" | "-h"] => {
            println!("{USAGE}");
            Ok(())
        }
        _ => bail!("unknown step\n\n{USAGE}"),
    }
}
