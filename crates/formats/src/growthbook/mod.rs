//! GrowthBook's SDK payload: JSON in, problems and a compiled [`Payload`] out, and its features decided bit for bit as
//! GrowthBook's own JavaScript SDK does (spec 0.8.0, SDK 1.8.0).
//!
//! - [`payload`] reads the document, `feature`, `experiment`, `redirect` and `target` its parts; a feature that is wrong is
//!   disabled alone;
//! - `evaluation` is one visitor's pass, in which [`evaluate`] decides features and `run` runs experiments;
//! - [`hash`], [`sticky`], [`url`] and [`decrypt`] are their parts;
//! - `ingest` writes events for GrowthBook's event ingestor.

mod compile;
mod decision;
pub mod decrypt;
pub mod evaluate;
mod evaluation;
mod evaluator;
mod experiment;
mod feature;
mod format;
pub mod hash;
mod ingest;
pub mod payload;
mod prerequisites;
mod redirect;
mod run;
pub mod sticky;
mod target;
mod tie;
mod trace;
pub mod url;
mod wire;

pub use compile::{Compiled, compile};
pub use decision::{BanditResult, Context, ExperimentResult, Exposure, FeatureDecision, Overrides};
pub use evaluation::Evaluation;
pub use experiment::{Experiment, FALLBACK_LEAF};
pub use feature::{DEFAULT_VALUE, Feature, NO_VALUE};
pub use format::GrowthBook;
pub use payload::Payload;
pub use redirect::RedirectTest;
pub use run::Redirect;

#[cfg(test)]
mod tests;
