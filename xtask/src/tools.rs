//! Cargo's subcommands for dependencies and fuzzing, in pinned versions. A missing one is installed into `.setup/`.

use crate::module::{cargo, root, run};
use anyhow::{Context, Result};
use std::process::Command;

const CARGO_DENY: (&str, &str) = ("cargo-deny", "0.20.2");
const CARGO_FUZZ: (&str, &str) = ("cargo-fuzz", "0.13.2");

/// Cargo with this subcommand on its path.
fn cargo_with((name, version): (&str, &str)) -> Result<Command> {
    let setup = root().join(".setup");
    let mut folders = vec![setup.join("bin")];
    folders.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    if !folders.iter().any(|folder| folder.join(name).is_file()) {
        eprintln!("xtask: installing {name} {version} into .setup/");
        run(cargo().args(["install", "--locked", "--quiet", "--version", version, "--root"]).arg(setup).arg(name))?;
    }
    let mut command = cargo();
    command.env("PATH", std::env::join_paths(folders)?);
    Ok(command)
}

/// Checks licences, sources and advisories of all crates.
pub(crate) fn deny() -> Result<()> {
    run(cargo_with(CARGO_DENY)?.args(["deny", "check", "licenses", "bans", "sources"]))?;
    // Last, because it is the only check that needs the network.
    run(cargo_with(CARGO_DENY)?.args(["deny", "check", "advisories"])).context(
        "an advisory applies, or its database at github.com/RustSec/advisory-db is out of reach; the rest is fine",
    )
}

/// Fuzzes one target for this many seconds.
pub(crate) fn fuzz(target: &str, seconds: &str) -> Result<()> {
    let (folder, found) = (root().join("tests/fuzz"), format!("found/{target}"));
    std::fs::create_dir_all(folder.join(&found))?;
    let mut fuzz = cargo_with(CARGO_FUZZ)?;
    fuzz.args(["fuzz", "run", "--fuzz-dir", ".", target, &found, &format!("corpus/{target}"), "--"]);
    fuzz.args([&format!("-max_total_time={seconds}"), "-timeout=10", "-rss_limit_mb=4096"]);
    // cargo-fuzz needs compiler flags that a stable toolchain only accepts this way.
    run(fuzz.current_dir(folder).env("RUSTC_BOOTSTRAP", "1"))
}
