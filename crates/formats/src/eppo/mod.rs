//! Eppo's universal flag configuration (`flags-v1`) and Datadog's dialect of it, decided as `eppo_core` 10.0.0 and
//! `libdd-ffe` 2.0.0 do.
//!
//! A payload is Datadog's if one of its flags has no `totalShards`. A payload for clients has hashed keys and is refused.
//!
//! | module | purpose |
//! |---|---|
//! | `compile` | JSON to flags, with problems |
//! | `condition` | the conditions of a rule |
//! | `flag` | a compiled flag and its decision |
//! | `format` | the steps of compiling a payload, and its evaluator |
//! | `report` | Eppo's assignment log and Datadog's exposures |
//!
//! A flag of another shape is reported and left out: an Eppo flag as `disabled`, a Datadog flag as `default`, which is its
//! SDK's word. In Eppo's payloads a condition that cannot be read only fails its rule. A value of the wrong type or a
//! variation that is not there makes the decision that needs it an `error`; in Datadog's payloads, all decisions of the flag.

mod compile;
mod condition;
mod flag;
mod format;
mod report;

pub use format::Eppo;

#[cfg(test)]
mod tests;
