//! Errors of compiling a pattern.

use std::fmt;

/// The reason why a pattern cannot be used. Its text completes a sentence that begins with the pattern, such as
/// "has a ( without its )".
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CompileError {
    /// JavaScript refuses the pattern too.
    Invalid(String),
    /// The pattern uses one of the few forms that JavaScript reads, and this crate does not.
    Unsupported(String),
    /// The pattern exceeds a limit of this crate.
    TooLarge(String),
}

impl fmt::Display for CompileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (CompileError::Invalid(reason) | CompileError::Unsupported(reason) | CompileError::TooLarge(reason)) = self;
        f.write_str(reason)
    }
}

impl std::error::Error for CompileError {}

/// Syntax errors are texts while a pattern is read.
impl From<String> for CompileError {
    fn from(reason: String) -> CompileError {
        CompileError::Invalid(reason)
    }
}

impl From<&str> for CompileError {
    fn from(reason: &str) -> CompileError {
        CompileError::Invalid(reason.to_owned())
    }
}
