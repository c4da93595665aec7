//! Formats of experiment configs. Each compiles to a [`Snapshot`](edgesplit_engine::snapshot::Snapshot), and everything
//! after the decision (routes, headers, cache keys, effects, events) is the same for all of them.
//!
//! | module | contents |
//! |---|---|
//! | [`format`](mod@format) | the trait that a format implements |
//! | [`registry`] | the table of formats |
//! | [`native`] | Edgesplit's own format |
//! | [`optimizely`], [`growthbook`], [`eppo`], [`flagd`], [`unleash`], [`posthog`] | vendors' formats |
//! | [`events`] | vendors' event formats |
//! | [`compilation`], [`stepwise`] | compiling a vendor's config in steps |
//! | [`flags`] | a vendor's flags as experiments of a snapshot |
//! | `flag_steps` | compiling a payload, flag by flag |
//! | `report` | reporting the decision about a flag |
//! | `metered` | a visitor's attributes, whose look-ups are counted |
//! | `attribute_use` | the attributes that a config reads, for the command |
//! | [`conditions`] | compiling conditions on attributes |
//! | [`effect_policy`] | the effects that experiments may have |
//! | [`document`](mod@document) | documents that people write: declared objects, their readers and schemas |
//! | [`diagnostics`] | problems in a document, with their paths |
//! | `digest`, `semver`, `moment`, `re2`, `portable_re` | digests, semantic versions, times and patterns that several vendors use |
//!
//! Vendors' formats have no routes and no baselines. The plugin configuration has them, as
//! [`FlagRoute`]s.

#[cfg(not(target_arch = "wasm32"))]
pub mod attribute_use;
pub mod compilation;
pub mod conditions;
pub mod diagnostics;
mod digest;
pub mod document;
pub mod effect_policy;
mod element;
pub mod eppo;
pub mod events;
mod flag_steps;
pub mod flagd;
pub mod flags;
pub mod format;
pub mod growthbook;
mod metered;
pub mod moment;
pub mod native;
pub mod optimizely;
mod portable_re;
pub mod posthog;
mod re2;
mod reading;
pub mod registry;
mod report;
mod request_headers;
mod scope;
mod semver;
mod shape;
mod splitter;
pub mod stepwise;
pub mod unleash;

pub use format::{
    ASSIGNMENTS_BYTES_MAX, Compilation, Compiled, DecryptionKey, FlagRoute, Format, FormatRef, GENERATION, Options,
};
pub use registry::{NATIVE, find, formats, recognise};
pub use splitter::ELEMENT_BYTES_MAX;

use diagnostics::Node;

/// The byte-order mark that some editors write at the start of a file.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// `document` without the byte-order mark that it may start with, which is no part of JSON.
pub fn without_byte_order_mark(mut document: Vec<u8>) -> Vec<u8> {
    if document.starts_with(BYTE_ORDER_MARK) {
        document.drain(..BYTE_ORDER_MARK.len());
    }
    document
}

/// Compiles the config in `bytes` at once.
pub fn compile_bytes(bytes: &[u8], options: &Options) -> Compiled {
    let mut compilation = options.format.begin(bytes.to_vec(), options);
    while !compilation.advance(usize::MAX) {}
    compilation.finish().0
}

/// Compiles the config at `node`, which may be a part of another document, at once.
pub fn compile_at(node: Node<'_>, options: &Options) -> Compiled {
    stepwise::compile(node, options.format.steps(options))
}

#[cfg(test)]
mod tests;
