//! The native experiment format, schema 1: JSON in, problems and a compiled snapshot out.
//!
//! A problem inside one experiment disables that experiment alone; a problem with the document refuses it whole.

pub mod budget;
mod compilation;
mod document;
pub mod effects;
mod experiment;
mod format;
mod kinds;
mod overlap;
pub mod route;

pub use crate::format::Compiled;
pub use compilation::{Compilation, compile_bytes};
#[cfg(not(target_arch = "wasm32"))]
pub use document::schema;
pub use document::{SCHEMA, compile, compile_at};
pub use format::Native;
pub use kinds::{KEY, KEY_BYTES_MAX};

#[cfg(test)]
mod tests;
