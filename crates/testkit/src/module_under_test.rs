//! The module under test: wasm, or with `MODULE=native` the native one. Tests configure the wasm filter, and the harness puts
//! the native one into its place when it starts an Envoy.

use crate::project::{MODULE_SOURCES, check_current};
use crate::skip::skip;
use edgesplit_cli::local::native;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// Whether the native module is under test.
pub fn is_native() -> bool {
    match std::env::var("MODULE").unwrap_or_default().as_str() {
        "" | "wasm" => false,
        "native" => true,
        other => panic!("MODULE={other}: expected wasm or native"),
    }
}

/// How many memories of reported exposures this many workers have: each VM has one, and a native module has one for all.
pub fn exposure_memories(workers: u64) -> u64 {
    if is_native() { 1 } else { workers }
}

/// Notes that a test is skipped if the native module is under test: `subject` is the part of the wasm module that it is about.
pub fn skips_native(subject: &str) -> bool {
    if is_native() {
        skip(&format!("the native module has no {subject}"));
    }
    is_native()
}

/// The module that `make build` writes, which must be newer than its sources, or the one that `EDGESPLIT_MODULE` names.
pub fn built_module() -> PathBuf {
    static WASM: LazyLock<Result<PathBuf, String>> = LazyLock::new(|| current("dist/edgesplit.wasm"));
    match std::env::var_os("EDGESPLIT_MODULE") {
        Some(module) => crate::root().join(module),
        None if is_native() => native_module(),
        None => WASM.clone().unwrap_or_else(|error| panic!("{error}")),
    }
}

/// The native module that `make build` writes, which must be newer than its sources.
pub fn native_module() -> PathBuf {
    static NATIVE: LazyLock<Result<PathBuf, String>> = LazyLock::new(|| current("dist/libedgesplit.so"));
    NATIVE.clone().unwrap_or_else(|error| panic!("{error}"))
}

/// The built module of this name, if it is newer than its sources.
fn current(name: &str) -> Result<PathBuf, String> {
    let module = crate::root().join(name);
    check_current(&module, &MODULE_SOURCES).map(|()| module)
}

/// Puts the native filter into the place of every wasm filter.
pub fn use_native(bootstrap: &mut Value) {
    native::use_native(bootstrap, &native_counterpart);
}

/// The native module that stands for a module: the one for tests stands for the one for tests.
fn native_counterpart(module: &Path) -> PathBuf {
    match module.file_stem().and_then(|stem| stem.to_str()) {
        Some("edgesplit-hooks") => crate::root().join("dist/test/libedgesplit-hooks.so"),
        _ if module.extension().is_some_and(|extension| extension == "so") => module.to_owned(),
        _ => native_module(),
    }
}
