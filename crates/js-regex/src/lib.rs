//! JavaScript's regular expressions with bounded work.
//!
//! [`JsRegex::compile`] reads a pattern as JavaScript reads it without flags or with `i` (ECMA-262, Annex B included) and
//! compiles it to a program. [`JsRegex::is_match`] runs the program and answers with three values: a match, no match, or
//! [`LimitExceeded`]. The README lists the limits and the differences from JavaScript.
//!
//! - `scan`, `parse`: the pattern's text to a syntax tree;
//! - `error`: the reasons why a pattern cannot be used;
//! - `set`: character classes;
//! - `case`: comparison without case;
//! - `program`: the syntax tree to instructions;
//! - `pike`: runs programs without look-around and back-references, breadth first;
//! - `backtrack`: runs all others, depth first;
//! - `steps`: counts the work of both.

mod backtrack;
mod case;
mod error;
mod parse;
mod pike;
mod program;
mod scan;
mod set;
mod steps;

pub use case::upper;
pub use error::CompileError;
pub use program::{INSTRUCTIONS_MAX, PATTERN_BYTES_MAX};
pub use steps::{LimitExceeded, STEPS_MAX, StepBudget};

use program::Program;
use steps::Steps;

/// Longer texts are never searched.
pub const TEXT_BYTES_MAX: usize = 2048;

/// A compiled JavaScript pattern.
#[derive(Debug, Clone)]
pub struct JsRegex(Program);

impl JsRegex {
    /// Compiles a JavaScript pattern, with the flag `i` if `ignore_case`.
    pub fn compile(pattern: &str, ignore_case: bool) -> Result<JsRegex, CompileError> {
        Program::compile(pattern, ignore_case, false).map(JsRegex)
    }

    /// As [`JsRegex::compile`], for the matcher that backtracks, whether the pattern needs it or not. Tests compare the
    /// two matchers with it.
    #[doc(hidden)]
    pub fn compile_backtracking(pattern: &str, ignore_case: bool) -> Result<JsRegex, CompileError> {
        Program::compile(pattern, ignore_case, true).map(JsRegex)
    }

    /// How many instructions the program has: its size in memory, up to [`INSTRUCTIONS_MAX`].
    pub fn instructions(&self) -> usize {
        self.0.code.len()
    }

    /// Whether some part of `text` matches.
    ///
    /// The match takes its steps from `budget`, [`STEPS_MAX`] at most. It is abandoned once either is used up. A text over
    /// [`TEXT_BYTES_MAX`] is not searched at all.
    pub fn is_match(&self, text: &str, budget: &StepBudget) -> Result<bool, LimitExceeded> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(LimitExceeded);
        }
        let mut steps = Steps::new(budget);
        if self.0.backtracks {
            backtrack::is_match(&self.0, text, &mut steps)
        } else {
            pike::is_match(&self.0, text, &mut steps)
        }
    }
}

/// The examples of the README, for the documentation's tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
