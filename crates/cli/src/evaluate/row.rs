//! The decision about one experiment or flag, and the record of its checks.

use edgesplit_engine::observer::{Check, Observer, Recorder};
use edgesplit_engine::reason::Reason;
use serde_json::{Value, json};
use std::fmt;

/// The decision about one experiment or flag.
pub(crate) struct Row {
    pub(super) position: usize,
    /// None for a disabled experiment without a key.
    pub(crate) key: Option<String>,
    /// The key of a vendor's experiment or rule, if it is not the flag's.
    pub(crate) experiment: Option<String>,
    pub(crate) variant: Option<String>,
    pub(crate) value: Value,
    pub(crate) reason: Reason,
    pub(crate) in_experiment: bool,
    /// The checks, in their order, if they were recorded. The last one decided.
    pub(crate) checks: Vec<Check>,
    /// The problem that disables it.
    pub(crate) problem: Option<String>,
}

impl Row {
    pub(super) fn new(position: usize, key: &str, reason: Reason) -> Row {
        Row {
            position,
            key: Some(key.to_owned()),
            experiment: None,
            variant: None,
            value: Value::Null,
            reason,
            in_experiment: false,
            checks: Vec::new(),
            problem: None,
        }
    }

    /// The members of the decision as `evaluate` prints them.
    pub(crate) fn to_json(&self) -> Value {
        json!({
            "key": self.key,
            "experiment": self.experiment,
            "variant": self.variant,
            "value": self.value,
            "reason": self.reason.name(),
            "in_experiment": self.in_experiment,
        })
    }
}

/// Records checks while it is active.
#[derive(Debug, Default)]
pub(super) struct Log {
    is_active: bool,
    recorder: Recorder,
}

impl Log {
    pub(super) fn new(is_active: bool) -> Log {
        Log { is_active, recorder: Recorder::default() }
    }

    /// The checks since the last call.
    pub(super) fn take(&mut self) -> Vec<Check> {
        std::mem::take(&mut self.recorder.0)
    }
}

impl Observer for Log {
    fn is_active(&self) -> bool {
        self.is_active
    }

    fn check(&mut self, name: &str, passed: bool, detail: fmt::Arguments<'_>) {
        if self.is_active {
            self.recorder.check(name, passed, detail);
        }
    }
}
