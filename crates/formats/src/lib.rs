//! The formats of experiment configs. Each compiles to a [`Snapshot`], so that what comes behind the decision (routes,
//! headers, cache keys, effects, events) is the same for all of them.
//!
//! Vendors' formats know no routes and no baselines: those stand in the plugin configuration, [`FlagRoute`].

pub mod conditions;
pub mod diagnostics;
mod flags;
pub mod growthbook;
pub mod json;
pub mod native;
pub mod optimizely;
#[cfg(not(target_arch = "wasm32"))]
pub mod schema;

use crate::diagnostics::{Node, Path, Problems};
use edgesplit_engine::pattern::Pattern;
use edgesplit_engine::route::Route;
use edgesplit_engine::snapshot::{Goal, Snapshot};
use serde_json::Value;
use std::fmt;

/// A format of experiment configs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Format {
    /// Edgesplit's own, schema 1.
    #[default]
    Native,
    /// An Optimizely datafile, version 4.
    Optimizely,
    /// A GrowthBook SDK payload.
    Growthbook,
}

impl Format {
    /// All formats.
    pub const ALL: [Format; 3] = [Format::Native, Format::Optimizely, Format::Growthbook];

    /// The format of this name.
    pub fn from_name(name: &str) -> Option<Format> {
        Format::ALL.into_iter().find(|format| format.name() == name)
    }

    /// Its name in configurations.
    pub const fn name(self) -> &'static str {
        match self {
            Format::Native => "native",
            Format::Optimizely => "optimizely",
            Format::Growthbook => "growthbook",
        }
    }
}

/// What compiling a config needs beside it.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// The config's format.
    pub format: Format,
    /// How many different cache keys a route may have.
    pub budget: u64,
    /// Whether a vendor's flag that brings a route over the budget is disabled. Without that it is only told: a flag that is
    /// off here is on in the vendor's SDKs.
    pub is_budget_kept: bool,
    /// What a vendor's encrypted payload is decrypted with.
    pub decryption_key: Option<DecryptionKey>,
    /// The routes of a vendor's flags.
    pub routes: Vec<FlagRoute>,
    /// The goals beside a vendor's flags.
    pub goals: Vec<Goal>,
}

impl Options {
    /// Those of a config without a plugin configuration.
    pub fn new(format: Format, budget: u64) -> Options {
        let (routes, goals) = (Vec::new(), Vec::new());
        Options { format, budget, is_budget_kept: false, decryption_key: None, routes, goals }
    }
}

/// A key that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct DecryptionKey(String);

impl DecryptionKey {
    /// The key of this text.
    pub fn new(text: &str) -> DecryptionKey {
        DecryptionKey(text.to_owned())
    }
}

impl fmt::Debug for DecryptionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DecryptionKey")
    }
}

/// Restricts flags to a route and names their baseline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlagRoute {
    /// Which flags, by their keys; all, if empty.
    pub keys: Vec<Pattern>,
    /// The requests that they are about.
    pub route: Route,
    /// The key of the variant that visitors see who are in no experiment.
    pub baseline: Option<String>,
}

/// What compiling found and made.
#[derive(Debug)]
pub struct Compiled {
    /// The snapshot; none where the config is refused whole.
    pub snapshot: Option<Snapshot>,
    /// Everything that is wrong, warnings included.
    pub problems: Problems,
}

/// A config on its way to a snapshot: bit by bit, so that no request of the worker waits for all of it, where the format
/// can be read so.
#[derive(Debug)]
pub enum Compilation {
    /// A native document: experiment by experiment.
    Native(native::Compilation),
    /// A vendor's, whose parts name each other: in one go.
    Vendors {
        /// The config as it came.
        text: Vec<u8>,
        /// What it is compiled with.
        options: Options,
    },
}

impl Compilation {
    /// Begins with the config in `text`.
    pub fn new(text: Vec<u8>, options: &Options) -> Compilation {
        match options.format {
            Format::Native => Compilation::Native(native::Compilation::new(text, options.budget)),
            Format::Optimizely | Format::Growthbook => Compilation::Vendors { text, options: options.clone() },
        }
    }

    /// Compiles the next part, about `bytes_max` bytes of it. True once nothing is left to do but to [`finish`].
    ///
    /// [`finish`]: Compilation::finish
    pub fn advance(&mut self, bytes_max: usize) -> bool {
        match self {
            Compilation::Native(compilation) => compilation.advance(bytes_max),
            Compilation::Vendors { .. } => true,
        }
    }

    /// What came out, and the text.
    pub fn finish(self) -> (Compiled, Vec<u8>) {
        match self {
            Compilation::Native(compilation) => {
                let (native::Compiled { snapshot, problems }, text) = compilation.finish();
                (Compiled { snapshot, problems }, text)
            }
            Compilation::Vendors { text, options } => (compile_bytes(&text, &options), text),
        }
    }
}

/// Parses and compiles `bytes`.
pub fn compile_bytes(bytes: &[u8], options: &Options) -> Compiled {
    match serde_json::from_slice::<Value>(bytes) {
        Ok(value) => compile_at(&value, &Path::Root, options),
        Err(error) => {
            let mut problems = Problems::new();
            problems.error(&Path::Root, format!("not JSON: {error}"));
            Compiled { snapshot: None, problems }
        }
    }
}

/// Compiles the config `value` that stands at `path` in another document.
pub fn compile_at(value: &Value, path: &Path<'_>, options: &Options) -> Compiled {
    let mut problems = Problems::new();
    let node = Node { value, path };
    let snapshot = match options.format {
        Format::Native => {
            let compiled = native::compile_at(value, path, options.budget);
            problems.append(compiled.problems);
            compiled.snapshot
        }
        Format::Optimizely => optimizely::rules::snapshot(node, options, &mut problems),
        Format::Growthbook => growthbook::rules::snapshot(node, options, &mut problems),
    };
    Compiled { snapshot, problems }
}

#[cfg(test)]
mod tests;
