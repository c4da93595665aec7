//! How the native module is linked.

use std::path::Path;
use std::{env, fs, io};

/// The name of the compiler's library for unwinding panics, as a file that the linker reads in place of the shared library.
/// Envoy does not need that library, so small images may lack it: the static one becomes part of the module.
const UNWINDING_LIBRARY: (&str, &str) = ("libgcc_s.so", "INPUT(-lgcc_eh)\n");

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    let target = |part: &str| env::var(format!("CARGO_CFG_TARGET_{part}")).unwrap_or_default();
    if target("OS") != "linux" || target("ENV") != "gnu" {
        return Ok(());
    }
    let folder = env::var("OUT_DIR").map_err(io::Error::other)?;
    let (name, script) = UNWINDING_LIBRARY;
    fs::write(Path::new(&folder).join(name), script)?;
    println!("cargo::rustc-link-arg-cdylib=-L{folder}");
    // The state of the process outlives its configs: the module is never unloaded.
    println!("cargo::rustc-link-arg-cdylib=-Wl,-z,nodelete");
    Ok(())
}
