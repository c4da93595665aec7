//! The native experiment format, schema 1: JSON in, problems and a compiled snapshot out.
//!
//! A problem inside one experiment disables that experiment alone; a problem with the document refuses it whole.

pub mod budget;
mod compilation;
mod document;
pub(crate) mod effects;
mod experiment;
mod format;
mod kinds;
mod overlap;
pub mod route;

pub use crate::document::{KEY, KEY_BYTES_MAX};
pub use crate::format::Compiled;
pub use document::{SCHEMA, schema};
pub use format::{Native, compile};

#[cfg(test)]
mod tests;
