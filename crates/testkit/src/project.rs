//! The project's own files, for tests that check them.

use crate::root;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The folders whose sources become the command `dist/edgesplit`, which contains the module.
pub const COMMAND_SOURCES: [&str; 6] =
    ["src", "crates/cli/src", "crates/engine/src", "crates/filter/src", "crates/formats/src", "crates/js-regex/src"];

/// The folders whose sources become the module `dist/edgesplit.wasm`.
pub const MODULE_SOURCES: [&str; 5] =
    ["src", "crates/engine/src", "crates/filter/src", "crates/formats/src", "crates/js-regex/src"];

/// A file's name from the project's folder on.
pub fn relative(file: &Path) -> String {
    file.strip_prefix(root()).unwrap_or(file).display().to_string()
}

/// All Rust files in these folders of the project, except build outputs.
pub fn rust_files(folders: &[&str]) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut open: Vec<PathBuf> = folders.iter().map(|folder| root().join(folder)).collect();
    while let Some(path) = open.pop() {
        if path.is_dir() && !path.ends_with("target") {
            let entries = std::fs::read_dir(&path).expect("a readable folder");
            open.extend(entries.map(|entry| entry.expect("a readable folder").path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// Checks that `built` is not older than a source in `folders`, since a test of it would prove nothing. Files of unit tests do
/// not count.
pub fn check_current(built: &Path, folders: &[&str]) -> Result<(), String> {
    const BUILD: &str = "run `make build test-module`";
    let modified = |file: &Path| -> Result<SystemTime, String> {
        let time = std::fs::metadata(file).and_then(|metadata| metadata.modified());
        time.map_err(|error| format!("{}: {error}: {BUILD}", file.display()))
    };
    let is_test = |file: &Path| {
        let name = relative(file);
        name.ends_with("/tests.rs") || name.contains("/tests/")
    };
    let built_at = modified(built)?;
    for source in rust_files(folders).iter().filter(|file| !is_test(file)) {
        if modified(source)? > built_at {
            return Err(format!("{} is older than {}: {BUILD}", relative(built), relative(source)));
        }
    }
    Ok(())
}
