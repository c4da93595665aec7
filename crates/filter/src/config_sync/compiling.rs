//! A config that is being compiled step by step.

use super::state::{State, Validator};
use edgesplit_formats::{Compilation, Options};

/// How much of a config is compiled at a time; the worker serves requests in between.
const COMPILED_BYTES_PER_STEP: usize = 16 << 10;

/// How many steps a config that is smaller than one step may take at once: it is split, compiled and indexed.
const SMALL_CONFIG_STEPS_MAX: usize = 8;

/// A config that is being compiled.
#[derive(Debug)]
pub(super) struct Compiling {
    pub(super) compilation: Box<dyn Compilation>,
    /// How many steps to make before requests are served again.
    steps: usize,
    pub(super) validator: Option<Validator>,
    /// A hash of the body.
    pub(super) body_id: u64,
    pub(super) origin: Origin,
}

/// The origin of a config.
#[derive(Debug)]
pub(super) enum Origin {
    /// The source: the other VMs get it from this one.
    Fetched,
    /// Shared data, in this state.
    Shared(State),
}

impl Compiling {
    /// Begins with the body in `text`, of which the hash and the validator are given.
    pub(super) fn new(
        text: Vec<u8>,
        options: &Options,
        (body_id, validator): (u64, Option<Validator>),
        origin: Origin,
    ) -> Compiling {
        let steps = if text.len() <= COMPILED_BYTES_PER_STEP { SMALL_CONFIG_STEPS_MAX } else { 1 };
        Compiling { compilation: options.format.begin(text, options), steps, validator, body_id, origin }
    }

    /// Lets the next call of [`Compiling::advance`] do everything.
    pub(super) fn do_at_once(&mut self) {
        self.steps = usize::MAX;
    }

    /// Compiles the next part. True once nothing is left to do.
    pub(super) fn advance(&mut self) -> bool {
        (0..self.steps).any(|_| self.compilation.advance(COMPILED_BYTES_PER_STEP))
    }
}
