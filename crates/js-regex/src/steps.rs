//! Counting work. A step is an instruction, a comparison with a range, or the copy of a few captured positions. It takes
//! 2 to 10 ns in V8's wasm.

use std::cell::Cell;
use std::fmt;

/// How many steps one match may take: under 1 ms in V8's wasm (README, "Limits").
pub const STEPS_MAX: u32 = 100_000;

/// How many captured positions are copied, or entries of a table cleared, in the time of a step.
pub(super) const COPIES_PER_STEP: usize = 8;

/// A match was abandoned: its text is too long, or it took too many steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitExceeded;

impl fmt::Display for LimitExceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the match exceeded its limit of work")
    }
}

impl std::error::Error for LimitExceeded {}

/// The steps that are left for a group of matches, such as those of one request.
#[derive(Debug)]
pub struct StepBudget {
    left: Cell<u32>,
}

impl StepBudget {
    /// A budget of `steps`.
    pub const fn new(steps: u32) -> StepBudget {
        StepBudget { left: Cell::new(steps) }
    }

    /// The steps that are left.
    pub fn left(&self) -> u32 {
        self.left.get()
    }

    /// Takes `steps` for work beside matches. If fewer are left, none are afterwards.
    pub fn spend(&self, steps: u32) -> Result<(), LimitExceeded> {
        let left = self.left.get().checked_sub(steps);
        self.left.set(left.unwrap_or_default());
        left.map(drop).ok_or(LimitExceeded)
    }
}

/// The steps of one match. They return to the budget when the match ends.
pub(super) struct Steps<'a> {
    budget: &'a StepBudget,
    granted: u32,
    left: u32,
}

impl<'a> Steps<'a> {
    pub(super) fn new(budget: &'a StepBudget) -> Steps<'a> {
        let granted = budget.left().min(STEPS_MAX);
        Steps { budget, granted, left: granted }
    }

    /// Takes `steps`.
    #[inline]
    pub(super) fn spend(&mut self, steps: usize) -> Result<(), LimitExceeded> {
        match usize::try_from(self.left).unwrap_or_default().checked_sub(steps) {
            Some(left) => {
                self.left = left as u32;
                Ok(())
            }
            None => {
                self.left = 0;
                Err(LimitExceeded)
            }
        }
    }
}

impl Drop for Steps<'_> {
    fn drop(&mut self) {
        // No more were granted than were left, so this does not fail.
        let _ = self.budget.spend(self.granted - self.left);
    }
}
