//! flagd's flag definitions, decided as `@openfeature/flagd-core` 4.0.1 does, which hashes UTF-8 here.
//!
//! | module | purpose |
//! |---|---|
//! | `logic` | targeting in JSONLogic: JSON to trees |
//! | `evaluate` | the evaluation of an expression |
//! | `values` | operators on values alone |
//! | `fractional` | the shares of variants, and how keys are hashed |
//! | `format` | the steps of compiling definitions, and their evaluator |
//!
//! A flag of another shape is disabled alone. Targeting that cannot be read, such as an unknown operator or the name of an
//! evaluator that is not there, makes the decisions of its flag an `error`, as in the SDKs. A `defaultVariant` that is no
//! variant refuses the definitions as a whole, as in the SDKs too.

mod evaluate;
mod format;
mod fractional;
mod logic;
mod values;

pub use format::Flagd;

#[cfg(test)]
mod tests;
