//! The checks of an evaluation, recorded while it is observed.

use edgesplit_engine::observer::{Check, IS_OBSERVABLE};
use std::cell::RefCell;

/// Records checks, or nothing.
#[derive(Debug, Default)]
pub(super) struct Trace(Option<RefCell<Recorded>>);

#[derive(Debug, Default)]
struct Recorded {
    /// The parts of the payload that are being decided, from the outside in, such as `rule 2 (beta)`.
    scopes: Vec<String>,
    checks: Vec<Check>,
}

impl Trace {
    /// A trace that records.
    pub(super) fn recording() -> Trace {
        Trace(Some(RefCell::default()))
    }

    fn recorded(&self) -> Option<&RefCell<Recorded>> {
        self.0.as_ref().filter(|_| IS_OBSERVABLE)
    }

    /// Begins a part of the payload, under which checks are named.
    pub(super) fn enter(&self, name: impl FnOnce() -> String) {
        if let Some(recorded) = self.recorded() {
            recorded.borrow_mut().scopes.push(name());
        }
    }

    /// Ends it.
    pub(super) fn leave(&self) {
        if let Some(recorded) = self.recorded() {
            recorded.borrow_mut().scopes.pop();
        }
    }

    /// Records a check. `detail` shows the values that were compared.
    pub(super) fn check(&self, name: &str, passed: bool, detail: impl FnOnce() -> String) {
        if let Some(recorded) = self.recorded() {
            let detail = detail();
            let mut recorded = recorded.borrow_mut();
            let scopes = recorded.scopes.iter().map(String::as_str);
            let name = scopes.chain([name]).collect::<Vec<_>>().join(": ");
            recorded.checks.push(Check { name, passed, detail });
        }
    }

    /// The checks since the last call.
    pub(super) fn take(&self) -> Vec<Check> {
        self.recorded().map(|recorded| std::mem::take(&mut recorded.borrow_mut().checks)).unwrap_or_default()
    }
}
