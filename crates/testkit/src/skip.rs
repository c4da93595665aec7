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
    let line = format!("{}: {reason}", thread.name().unwrap_or("a test"));
    eprintln!("skipped {line}");
    let list = list_file();
    let written = OpenOptions::new().create(true).append(true).open(&list);
    // One write, because tests run in parallel.
    if let Err(error) = written.and_then(|mut file| file.write_all(format!("{line}\n").as_bytes())) {
        eprintln!("{}: {error}", list.display());
    }
}
