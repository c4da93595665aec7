//! Unleash: the features that its server gives to client SDKs, decided bit for bit as Yggdrasil, the core of those SDKs, does.
//!
//! Decisions cover each feature. The semantics are those of client specification 6.1.0 and Yggdrasil 0.21.7: strategies with
//! constraints and segments, variants of strategies and of features, dependencies. A decision that would need a random draw
//! has no variant, and a rollout by one is off.
//!
//! - A feature of a wrong shape is disabled alone; so is a feature that depends on it.
//! - An unknown parent, segment or operator, and a constraint with a bad number, date or version, mean the same as to the SDKs:
//!   the feature is off. They are reported too.
//! - An unknown field is ignored: a newer payload may meet an older module.
//!
//! | module | purpose |
//! |---|---|
//! | `format` | the entry in the table of formats, and the steps of compiling |
//! | `compile` | features, strategies and variants |
//! | `constraint` | constraints |
//! | `feature` | the compiled features |
//! | `evaluate` | the decisions |
//! | `metrics` | the counts that Unleash takes as events |

mod compile;
mod constraint;
mod evaluate;
mod feature;
mod format;
mod metrics;

pub use format::Unleash;

#[cfg(test)]
mod tests;
