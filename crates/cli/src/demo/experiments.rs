//! The experiments of the demo: a file whose changes are served while it runs.

use crate::local::envoy::Directory;
use crate::local::lock;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// The experiments of a demo without a file.
const EXAMPLE: &str = include_str!(concat!(env!("OUT_DIR"), "/experiments.json"));

/// The file, and the text that is served.
pub(super) struct Experiments {
    pub(super) path: PathBuf,
    text: Mutex<String>,
    /// The directory of the copy of [`EXAMPLE`].
    _directory: Option<Directory>,
}

impl Experiments {
    /// Opens `file`, else the file that the variable `EXPERIMENTS` names, else a copy of the example.
    pub(super) fn open(file: Option<&Path>) -> Result<Experiments, String> {
        let named = file.map(Path::to_owned).or_else(|| std::env::var_os("EXPERIMENTS").map(PathBuf::from));
        if let Some(path) = named {
            let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
            return Ok(Experiments { path, text: Mutex::new(text), _directory: None });
        }
        let directory = Directory::new()?;
        let path = directory.file("experiments.json");
        crate::files::write_all(&path, EXAMPLE.as_bytes())?;
        Ok(Experiments { path, text: Mutex::new(EXAMPLE.to_owned()), _directory: Some(directory) })
    }

    pub(super) fn text(&self) -> String {
        lock(&self.text).clone()
    }

    /// The text, if it has changed. An empty file is not a change: an editor may be writing it.
    pub(super) fn changed(&self) -> Option<String> {
        let found = std::fs::read_to_string(&self.path).ok()?;
        let mut known = lock(&self.text);
        if *known == found || found.is_empty() {
            return None;
        }
        known.clone_from(&found);
        Some(found)
    }
}
