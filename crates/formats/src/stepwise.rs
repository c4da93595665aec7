//! Compiles a vendor's config in steps. A vendor implements [`Steps`], which compile one element at a time.

use crate::diagnostics::{Node, Path, Problems};
use crate::format::{Compilation, Compiled};
use serde_json::Value;

/// The approximate bytes of config behind one outcome of a flag.
pub const OUTCOME_BYTES: usize = 256;

/// The approximate size of `value` in bytes.
pub fn size(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 4,
        Value::String(text) => text.len() + 2,
        Value::Array(elements) => elements.iter().map(|element| size(element) + 1).sum::<usize>() + 2,
        Value::Object(members) => members.iter().map(|(name, value)| name.len() + size(value) + 4).sum::<usize>() + 2,
    }
}

/// The steps of compiling one config. Each call gets the same config.
pub trait Steps {
    /// Compiles the next element and gives its approximate size in bytes; none if nothing is left.
    fn step(&mut self, config: Node<'_>) -> Option<usize>;

    /// The result.
    fn finish(self: Box<Self>) -> Compiled;
}

/// A vendor's config that is being compiled.
pub struct Stepwise {
    text: Vec<u8>,
    stage: Stage,
}

enum Stage {
    Unread(Box<dyn Steps>),
    Read(Value, Box<dyn Steps>),
    Refused(Problems),
}

impl Stepwise {
    /// Begins to compile the config in `text` by `steps`.
    pub fn begin(text: Vec<u8>, steps: Box<dyn Steps>) -> Box<dyn Compilation> {
        Box::new(Stepwise { text, stage: Stage::Unread(steps) })
    }
}

impl Compilation for Stepwise {
    fn advance(&mut self, bytes_max: usize) -> bool {
        if let Stage::Unread(_) = self.stage {
            let read = serde_json::from_slice::<Value>(&self.text);
            let stage = std::mem::replace(&mut self.stage, Stage::Refused(Problems::new()));
            self.stage = match (stage, read) {
                (Stage::Unread(steps), Ok(value)) => Stage::Read(value, steps),
                (_, Err(error)) => {
                    let mut problems = Problems::new();
                    problems.error(&Path::Root, format!("not JSON: {error}"));
                    Stage::Refused(problems)
                }
                (stage, Ok(_)) => stage,
            };
            return matches!(self.stage, Stage::Refused(_));
        }
        let Stage::Read(value, steps) = &mut self.stage else { return true };
        let mut bytes = 0_usize;
        while bytes <= bytes_max {
            match steps.step(Node::root(value)) {
                Some(more) => bytes = bytes.saturating_add(more.max(1)),
                None => return true,
            }
        }
        false
    }

    fn finish(self: Box<Self>) -> (Compiled, Vec<u8>) {
        let compiled = match self.stage {
            Stage::Read(_, steps) => steps.finish(),
            Stage::Refused(problems) => Compiled { snapshot: None, problems },
            Stage::Unread(_) => Compiled::default(),
        };
        (compiled, self.text)
    }
}

/// Compiles a parsed config at once.
pub fn compile(config: Node<'_>, mut steps: Box<dyn Steps>) -> Compiled {
    while steps.step(config).is_some() {}
    steps.finish()
}
