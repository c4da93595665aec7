//! Copies the files outside this package that the command contains into the build folder. Cargo notes files of a package and
//! of the build folder by relative paths, others by absolute ones: without the copies, a moved checkout would be compiled
//! again.

use std::path::Path;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let out = env::var_os("OUT_DIR").ok_or_else(|| io::Error::other("cargo sets OUT_DIR"))?;
    let module = env::var_os("CARGO_FEATURE_MODULE").map(|_| "dist/edgesplit.wasm");
    for file in ["envoy/envoy.yaml", "examples/experiments.json"].into_iter().chain(module) {
        let source = Path::new("../..").join(file);
        println!("cargo::rerun-if-changed={}", source.display());
        let name = source.file_name().unwrap_or_default();
        let copied = fs::copy(&source, Path::new(&out).join(name));
        copied.map_err(|error| io::Error::new(error.kind(), format!("{file}: {error}")))?;
    }
    Ok(())
}
