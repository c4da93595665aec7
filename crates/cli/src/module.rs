//! The filter's module, which `make build` puts into the command.

use crate::files::Input;
use std::path::Path;

#[cfg(feature = "module")]
const MODULE: Option<&[u8]> = Some(include_bytes!(concat!(env!("OUT_DIR"), "/edgesplit.wasm")));
#[cfg(not(feature = "module"))]
const MODULE: Option<&[u8]> = None;

/// Writes the module to `target`: the one in `file`, if a file is given, else the one in the command.
pub(crate) fn write(file: Option<&Path>, target: &Path) -> Result<(), String> {
    match (file, MODULE) {
        (Some(file), _) => crate::files::write_all(target, &crate::files::read(&Input::File(file.to_owned()))?),
        (None, Some(module)) => crate::files::write_all(target, module),
        (None, None) => {
            Err("this command was built without the filter's module: build it with `make build`, or name a module \
                             with --module edgesplit.wasm"
                .to_owned())
        }
    }
}
