//! A compilation and its result.

use crate::diagnostics::Problems;
use edgesplit_engine::snapshot::Snapshot;
use std::fmt;

/// A config that is being compiled, in steps that are short enough to run between requests.
pub trait Compilation: Send {
    /// Compiles the next part: about `bytes_max` bytes, and at least one element. True when nothing is left to do.
    fn advance(&mut self, bytes_max: usize) -> bool;

    /// The result, and the text of the config. Without a snapshot if there is something left to do.
    fn finish(self: Box<Self>) -> (Compiled, Vec<u8>);
}

impl fmt::Debug for dyn Compilation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Compilation")
    }
}

/// The result of compiling a config.
#[derive(Debug, Default)]
pub struct Compiled {
    /// The snapshot; none if the config is refused as a whole.
    pub snapshot: Option<Snapshot>,
    /// All problems, warnings included.
    pub problems: Problems,
}
