//! The `edgesplit` command.

#[cfg(not(target_arch = "wasm32"))]
fn main() -> std::process::ExitCode {
    edgesplit::cli::run()
}

/// The module has no command; cargo still wants every target to build.
#[cfg(target_arch = "wasm32")]
fn main() {}
