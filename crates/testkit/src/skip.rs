//! Tests that are skipped because the machine lacks something they need.

use crate::root;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;

/// The list of skipped tests, one a line, which `cargo xtask test` prints.
pub fn list_file() -> PathBuf {
    root().join(std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into())).join("skipped.txt")
}

/// Notes that this test is skipped: `reason` names the thing that is missing and how to get it.
pub fn skip(reason: &str) {
    // libtest runs each test in a thread of its name.
    let thread = std::thread::current();
    skip_test(thread.name().unwrap_or("a test"), reason);
}

/// Notes that the test called `name` is skipped.
pub fn skip_test(name: &str, reason: &str) {
    let line = format!("{name}: {reason}");
    eprintln!("skipped {line}");
    let list = list_file();
    let written = OpenOptions::new().create(true).append(true).open(&list);
    // One write, because tests run in parallel.
    if let Err(error) = written.and_then(|mut file| file.write_all(format!("{line}\n").as_bytes())) {
        eprintln!("{}: {error}", list.display());
    }
}

/// The program of this name on the `PATH`, or in the folders of services. Without it, the test is skipped, and the
/// list of skipped tests names the `target` of make that installs it.
pub fn installed(name: &str, target: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin"), PathBuf::from("/usr/local/sbin")]);
    let found = folders.map(|folder| folder.join(name)).find(|file| file.is_file());
    if found.is_none() {
        skip(&format!("needs {name}: `make {target}` installs it"));
    }
    found
}
