//! Removal of unused exports.
//!
//! The SDK exports every callback of the proxy-wasm ABI, and a proxy calls each exported callback: for every body chunk,
//! every trailer, every stream that ends. A callback that is not exported costs nothing, and its code leaves the module.

use anyhow::{Context, Result, ensure};
use std::path::Path;
use walrus::{Module, passes};

/// The exports that the plugin uses. `tests/cost.rs` checks that the built module has these and no others.
pub(crate) const KEPT: [&str; 13] = [
    "_initialize",
    "memory",
    "proxy_abi_version_0_2_1",
    "proxy_on_configure",
    "proxy_on_context_create",
    "proxy_on_delete",
    "proxy_on_done",
    "proxy_on_http_call_response",
    "proxy_on_memory_allocate",
    "proxy_on_request_headers",
    "proxy_on_response_headers",
    "proxy_on_tick",
    "proxy_on_vm_start",
];

/// The export that only a module with test hooks has.
const TEST_HOOK: &str = "edgesplit_allocations";

/// Copies the module in `input` to `output` without its unused exports.
pub(crate) fn strip_file(input: &Path, output: &Path) -> Result<()> {
    let bytes = std::fs::read(input).with_context(|| input.display().to_string())?;
    let stripped = strip(&bytes).with_context(|| input.display().to_string())?;
    if let Some(folder) = output.parent() {
        std::fs::create_dir_all(folder)?;
    }
    // A proxy may have the old file open: replace it, do not write into it.
    let partial = output.with_extension("wasm.partial");
    std::fs::write(&partial, stripped).with_context(|| partial.display().to_string())?;
    std::fs::rename(&partial, output).with_context(|| output.display().to_string())
}

/// Removes the exports that are not in [`KEPT`], and the code that nothing reaches without them.
fn strip(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut module = Module::from_buffer(bytes)?;
    for name in KEPT {
        ensure!(module.exports.iter().any(|export| export.name == name), "no export `{name}`: not the plugin's module");
    }
    let unused: Vec<_> = module
        .exports
        .iter()
        .filter(|export| !KEPT.contains(&export.name.as_str()) && export.name != TEST_HOOK)
        .map(|export| export.id())
        .collect();
    for id in unused {
        module.exports.delete(id);
    }
    passes::gc::run(&mut module);
    Ok(module.emit_wasm())
}

#[cfg(test)]
mod tests {
    use super::*;
    use walrus::{FunctionBuilder, ModuleConfig};

    fn module_with_exports(names: &[&str]) -> Vec<u8> {
        let mut module = Module::with_config(ModuleConfig::new());
        for name in names {
            let function = FunctionBuilder::new(&mut module.types, &[], &[]).finish(Vec::new(), &mut module.funcs);
            module.exports.add(name, function);
        }
        module.emit_wasm()
    }

    #[test]
    fn strip_keeps_the_callbacks_in_use_and_removes_others() {
        let mut names = KEPT.to_vec();
        names.extend(["proxy_on_request_body", "proxy_on_log", TEST_HOOK]);
        let stripped = Module::from_buffer(&strip(&module_with_exports(&names)).unwrap()).unwrap();
        let mut left: Vec<&str> = stripped.exports.iter().map(|export| export.name.as_str()).collect();
        left.sort_unstable();
        let mut expected = KEPT.to_vec();
        expected.push(TEST_HOOK);
        expected.sort_unstable();
        assert_eq!(left, expected);
        assert_eq!(stripped.funcs.iter().count(), expected.len());
    }

    #[test]
    fn strip_rejects_a_module_of_another_kind() {
        let error = strip(&module_with_exports(&["memory"])).unwrap_err().to_string();
        assert!(error.contains("`_initialize`"), "{error}");
        assert!(strip(b"not a module").is_err());
    }
}
