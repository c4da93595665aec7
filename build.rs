//! Sees to it that the filter's module is linked as it has to be.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=RUSTC_LINKER");
    let var = |name| std::env::var(name).unwrap_or_default();
    // Any other linker would export the SDK's callbacks for streams, which know nothing of this filter's.
    if var("CARGO_CFG_TARGET_ARCH") == "wasm32" && !var("RUSTC_LINKER").ends_with("link-wasm.sh") {
        println!(
            "cargo::error=the module has to be linked by .cargo/link-wasm.sh, which cargo finds when it is called in \
             Edgesplit's own folder: run `make build` there"
        );
    }
}
