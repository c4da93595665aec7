//! The plugin's module and the modules that it is compared with.

use crate::exports;
use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;

pub(crate) const TARGET: &str = "wasm32-wasip1";

/// The project's folder: cargo names this package's folder when it runs the program.
pub(crate) fn root() -> PathBuf {
    let own = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| "xtask".into()));
    own.parent().map_or_else(PathBuf::new, Path::to_path_buf)
}

/// The folder into which cargo builds.
pub(crate) fn target_dir() -> PathBuf {
    root().join(std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()))
}

/// The target of the machine that builds.
pub(crate) fn host_target() -> Result<String> {
    let version = output(Command::new("rustc").arg("-vV").current_dir(root()))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("`rustc -vV` names no host")
}

/// The packages that are optimized for size, to keep the module below 1 MB. `*` are all that are not the project's.
const SMALL_PACKAGES: [&str; 3] = ["*", "edgesplit-formats", "js-regex"];

/// Builds the module that ships.
pub(crate) fn build_plugin() -> Result<()> {
    build(&[], &target_dir(), "dist/edgesplit.wasm")?;
    // Tests run the module as the linker leaves it, too: a plain `cargo build` must work.
    let unstripped = root().join("dist/test/unstripped.wasm");
    std::fs::create_dir_all(root().join("dist/test"))?;
    std::fs::copy(target_dir().join(TARGET).join("release/edgesplit.wasm"), &unstripped)
        .with_context(|| unstripped.display().to_string())?;
    Ok(())
}

/// Builds the module for tests: it crashes on request and counts its allocations. It never goes to `dist/` itself.
pub(crate) fn build_with_test_hooks() -> Result<()> {
    build(&["--features", "test-hooks"], &target_dir().join("hooks"), "dist/test/edgesplit-hooks.wasm")
}

fn build(options: &[&str], target_dir: &Path, output: &str) -> Result<()> {
    let mut cargo = cargo();
    cargo.args(["build", "--locked", "--release", "--package", "edgesplit", "--lib", "--target", TARGET]);
    cargo.arg("--target-dir").arg(target_dir).args(options);
    for package in SMALL_PACKAGES {
        cargo.args(["--config", &format!("profile.release.package.\"{package}\".opt-level=\"z\"")]);
    }
    cargo.args(["--config", "profile.release.package.proxy-wasm.opt-level=2"]);
    cargo.env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "2").env("CARGO_ENCODED_RUSTFLAGS", compiler_flags()?.join("\x1f"));
    run(&mut cargo)?;
    let (built, output) = (target_dir.join(TARGET).join("release/edgesplit.wasm"), root().join(output));
    if is_newer(&output, &[&built, &std::env::current_exe()?]) {
        // The command contains the module: a file that was written again would have cargo build the command again.
        return Ok(());
    }
    exports::strip_file(&built, &output)
}

/// Whether `file` was written after all of `sources`.
pub(crate) fn is_newer(file: &Path, sources: &[&Path]) -> bool {
    let modified = |file: &Path| std::fs::metadata(file).and_then(|metadata| metadata.modified()).ok();
    modified(file).is_some_and(|written| sources.iter().all(|source| modified(source).is_some_and(|at| at < written)))
}

/// Flags of the compiler for the module.
fn compiler_flags() -> Result<Vec<String>> {
    let mut flags = remapped_paths()?;
    // Ciphers and hashes in little code: they process configs, tokens and links, a few blocks each.
    flags
        .extend(["--cfg", "aes_backend_soft=\"compact\"", "--cfg", "sha2_backend_soft=\"compact\""].map(str::to_owned));
    // Functions are not copied, neither into callers nor by unrolling: copies make up a third of a module. The sources
    // mark the functions of the request path that are inlined.
    for argument in [
        "-inline-threshold=10",
        "-inlinehint-threshold=60",
        "-unroll-max-count=1",
        "-unroll-threshold=10",
        "-unroll-partial-threshold=10",
    ] {
        flags.extend(["-C".to_owned(), format!("llvm-args={argument}")]);
    }
    Ok(flags)
}

/// Renames the folder of the crates' sources, whose paths are in panic messages: the module is the same wherever it is
/// built. Cargo names the project's own sources by relative paths. No flag names the project's folder, which would make a
/// moved checkout build everything again.
fn remapped_paths() -> Result<Vec<String>> {
    Ok(vec![format!("--remap-path-prefix={}=crates", cargo_home()?.join("registry/src").display())])
}

/// The folder of cargo's own files.
pub(crate) fn cargo_home() -> Result<PathBuf> {
    match std::env::var_os("CARGO_HOME") {
        Some(home) => Ok(PathBuf::from(home)),
        None => Ok(std::env::home_dir().context("no home folder: set CARGO_HOME")?.join(".cargo")),
    }
}

/// Builds the filters that the benchmark compares with: in wasm, one that does nothing and one that makes Edgesplit's host
/// calls; natively, the latter.
pub(crate) fn build_bench_filters() -> Result<()> {
    let wasm = format!("{TARGET}/release/filters.wasm");
    let filters = [
        ("empty.wasm", &["--target", TARGET][..], wasm.as_str()),
        ("bare.wasm", &["--features", "bare", "--target", TARGET], wasm.as_str()),
        ("libbare.so", &[], "release/libfilters.so"),
    ];
    let out = root().join("dist/bench");
    std::fs::create_dir_all(&out)?;
    for (name, options, built) in filters {
        let target_dir = target_dir().join(format!("bench-{name}"));
        let mut cargo = cargo();
        cargo.args(["build", "--release", "--manifest-path", "benches/filters/Cargo.toml"]);
        cargo.arg("--target-dir").arg(&target_dir).args(options);
        run(&mut cargo)?;
        std::fs::copy(target_dir.join(built), out.join(name))?;
    }
    Ok(())
}

/// Cargo, started in the project's folder.
pub(crate) fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root());
    cargo
}

/// Runs a command to its end.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start {:?}", command.get_program()))?;
    ensure!(status.success(), "{:?} failed: {status}", command.get_program());
    Ok(())
}

/// Runs a command to its end, and gives the text that it writes to standard output.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot start {:?}", command.get_program()))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}
