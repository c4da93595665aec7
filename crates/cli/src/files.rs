//! Reading and writing files.

use std::io::Read;
use std::path::Path;

/// The largest file that is read. Proxies accept configs of a few megabytes.
const FILE_BYTES_MAX: u64 = 1 << 30;

/// Reads a file of at most [`FILE_BYTES_MAX`].
pub(crate) fn read(file: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    // One byte more distinguishes a file of this size from a larger one.
    let opened = std::fs::File::open(file);
    match opened.and_then(|opened| opened.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)) {
        Ok(read) if read as u64 > FILE_BYTES_MAX => {
            Err(format!("cannot read {}: it is larger than {} MiB", file.display(), FILE_BYTES_MAX >> 20))
        }
        Ok(_) => Ok(edgesplit_formats::without_byte_order_mark(bytes)),
        Err(error) => Err(format!("cannot read {}: {error}", file.display())),
    }
}

/// Writes a file, or replaces it.
pub(crate) fn write_all(file: &Path, bytes: &[u8]) -> Result<(), String> {
    std::fs::write(file, bytes).map_err(|error| format!("cannot write {}: {error}", file.display()))
}
