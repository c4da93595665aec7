//! A config that is being compiled step by step.

use super::state::{State, Validator};
use edgesplit_engine::hash::hash64_seeded;
use edgesplit_formats::{Compilation, Options};

/// How much of a config is compiled at a time; the worker serves requests in between.
const COMPILED_BYTES_PER_STEP: usize = 16 << 10;

/// How much of a text is hashed at a time.
const HASHED_BYTES_PER_STEP: usize = 1 << 20;

/// How many steps a config that is smaller than one step may take at once: it is hashed, split, compiled and indexed.
const SMALL_CONFIG_STEPS_MAX: usize = 9;

/// A config that is being compiled.
#[derive(Debug)]
pub(super) struct Compiling {
    /// The text, which is hashed first, and the position behind its part that is hashed.
    text: Vec<u8>,
    hashed: usize,
    pub(super) text_hash: u64,
    /// Absent while the text is hashed.
    pub(super) compilation: Option<Box<dyn Compilation>>,
    /// How many steps to make before requests are served again.
    pub(super) steps: usize,
    pub(super) validator: Option<Validator>,
    pub(super) origin: Origin,
}

/// The origin of a config.
#[derive(Debug, Clone, Copy)]
pub(super) enum Origin {
    /// The source: the other VMs get it from this one.
    Fetched,
    /// Shared data, in this state, with the hash that the text should have.
    Shared(State, u64),
}

impl Compiling {
    /// Begins with the config in `text`, whose hash begins with `seed`.
    pub(super) fn new(text: Vec<u8>, seed: u64, validator: Option<Validator>, origin: Origin) -> Compiling {
        let steps = if text.len() <= COMPILED_BYTES_PER_STEP { SMALL_CONFIG_STEPS_MAX } else { 1 };
        Compiling { text, hashed: 0, text_hash: seed, compilation: None, steps, validator, origin }
    }

    /// Lets the next step do everything.
    pub(super) fn do_at_once(&mut self) {
        self.steps = usize::MAX;
    }

    /// Hashes the next part of the text, unless it is hashed already. True at its end.
    pub(super) fn advance_hash(&mut self) -> bool {
        if self.compilation.is_some() {
            return false;
        }
        let end = self.text.len().min(self.hashed + HASHED_BYTES_PER_STEP);
        self.text_hash = hash64_seeded(self.text_hash, self.text.get(self.hashed..end).unwrap_or_default());
        self.hashed = end;
        end == self.text.len()
    }

    /// Begins to compile the text.
    pub(super) fn begin(&mut self, options: &Options) {
        self.compilation = Some(options.format.begin(std::mem::take(&mut self.text), options));
    }

    /// Compiles the next part, once the text is hashed. True once nothing is left to do.
    pub(super) fn advance(&mut self) -> bool {
        reserve_memory();
        self.compilation.as_mut().is_some_and(|compilation| compilation.advance(COMPILED_BYTES_PER_STEP))
    }
}

/// From how many pages of 64 KiB on, a VM's memory grows by a quarter at a time.
#[cfg(target_arch = "wasm32")]
const SMALL_MEMORY_PAGES: usize = 160;

/// Lets a large memory grow in few steps. The allocator asks for 64 KiB at a time, and each growth counts the whole memory as
/// newly allocated to V8, which then collects its garbage.
#[cfg(target_arch = "wasm32")]
fn reserve_memory() {
    let pages = core::arch::wasm32::memory_size::<0>();
    if pages >= SMALL_MEMORY_PAGES {
        drop(std::hint::black_box(Vec::<u8>::with_capacity(pages << 14)));
    }
}

#[cfg(not(target_arch = "wasm32"))]
const fn reserve_memory() {}
