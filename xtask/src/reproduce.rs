//! Reproducibility: two builds of the module, in two folders and with two homes of cargo, must be the same bytes.

use crate::image::sha256;
use crate::module::{cargo_home, output, root, run};
use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Builds the module here and in a copy of the project, and compares both.
pub(crate) fn check() -> Result<()> {
    let work = std::env::temp_dir().join(format!("edgesplit-reproduce-{}", std::process::id()));
    let result = compare(&work);
    std::fs::remove_dir_all(&work).with_context(|| work.display().to_string())?;
    result
}

fn compare(work: &Path) -> Result<()> {
    let copy = work.join("a/copy");
    copy_project(&copy)?;
    // The second build uses the crates that are already there. Its cargo home is inside the project, which must not show.
    let home = cargo_home()?;
    let other_home = copy.join("cargo-home");
    std::os::unix::fs::symlink(home, &other_home)?;

    let here = build(&root(), &[])?;
    let there = build(&copy, &[("CARGO_HOME", other_home), ("CARGO_TARGET_DIR", work.join("target"))])?;
    ensure!(here == there, "two builds gave two modules");
    eprintln!("reproduce: two builds gave the same module");
    Ok(())
}

/// Copies the files that belong to the project: those that git tracks, and new ones that it does not ignore.
fn copy_project(copy: &Path) -> Result<()> {
    let list = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
    let files = output(Command::new("git").args(list).current_dir(root()))?;
    for file in files.split('\0').filter(|file| !file.is_empty()) {
        let (from, to) = (root().join(file), copy.join(file));
        // A deleted file may still be in git's index.
        if from.is_file() {
            std::fs::create_dir_all(to.parent().unwrap_or(copy))?;
            std::fs::copy(&from, &to).with_context(|| from.display().to_string())?;
        }
    }
    Ok(())
}

/// Builds the module of the project in `folder`, and gives its digest.
fn build(folder: &Path, environment: &[(&str, PathBuf)]) -> Result<String> {
    eprintln!("reproduce: building in {}", folder.display());
    let mut build = Command::new(std::env::current_exe()?);
    build.arg("module").current_dir(folder).env("CARGO_MANIFEST_DIR", folder.join("xtask"));
    run(build.envs(environment.iter().map(|(name, value)| (name, value))))?;
    let digest = sha256(&std::fs::read(folder.join("dist/edgesplit.wasm"))?);
    println!("{digest}  {}", folder.join("dist/edgesplit.wasm").display());
    Ok(digest)
}
