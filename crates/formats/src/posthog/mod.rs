//! PostHog: the flags that its service gives to server SDKs for local evaluation, decided bit for bit as those SDKs do.
//!
//! Decisions cover each flag. The semantics are those of posthog-python 7.91.1. A flag that the SDK would ask the server about
//! is undecided here: no request waits for a call. It then has no value, and a reason that names the cause.
//!
//! - A flag of a wrong shape is disabled alone.
//! - An unknown cohort, flag or operator, and a filter with a bad value, mean the same as to the SDKs: the flag is undecided,
//!   unless another of its groups decides it. They are reported too.
//! - An unknown field is ignored: a newer payload may meet an older module.
//!
//! | module | purpose |
//! |---|---|
//! | `format` | the entry in the table of formats, and compiling a payload |
//! | `compile` | flags and cohorts |
//! | `filter` | filters on properties, and their values |
//! | `date` | their dates |
//! | `rules` | the compiled flags and cohorts |
//! | `verdict` | the results of requirements |
//! | `evaluation` | the decisions about flags |
//! | `capture` | the events |

mod capture;
mod compile;
mod date;
mod evaluation;
mod filter;
mod format;
mod rules;
mod verdict;

pub use format::PostHog;

#[cfg(test)]
mod tests;
