//! Observation of decisions. The evaluator reports every check that it makes to an observer. The filter passes `()`, which
//! costs nothing; `explain` passes a [`Recorder`].

use std::fmt;

/// Receives the checks of a decision, in the order in which they are made.
pub trait Observer {
    /// Whether checks are used at all. Evaluators skip costly details if not.
    fn is_active(&self) -> bool {
        false
    }

    /// The check called `name` was made. `passed` is false if it keeps the visitor out. `detail` shows the values that
    /// were compared, for a person.
    fn check(&mut self, name: &str, passed: bool, detail: fmt::Arguments<'_>);
}

/// Whether vendors' evaluators can be observed. The module never observes them: without the code that describes their
/// checks, it is smaller.
pub const IS_OBSERVABLE: bool = cfg!(not(target_arch = "wasm32"));

/// Ignores every check.
impl Observer for () {
    #[inline(always)]
    fn check(&mut self, _name: &str, _passed: bool, _detail: fmt::Arguments<'_>) {}
}

/// A check that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// Its name, such as `audience`, or a vendor's rule.
    pub name: String,
    /// Whether it was passed.
    pub passed: bool,
    /// The values that it looked at, for a person; empty where there is nothing to add.
    pub detail: String,
}

/// Records every check.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recorder(pub Vec<Check>);

impl Observer for Recorder {
    fn is_active(&self) -> bool {
        true
    }

    fn check(&mut self, name: &str, passed: bool, detail: fmt::Arguments<'_>) {
        self.0.push(Check { name: name.to_owned(), passed, detail: detail.to_string() });
    }
}
