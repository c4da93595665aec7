//! Compiles a vendor's config in steps. A vendor implements [`Steps`], which compile one element at a time.

use crate::compilation::{Compilation, Compiled};
use crate::diagnostics::{Node, Path, Problems};
use crate::reading::{ELEMENTS_MAX, MEMBERS_MAX, Reading};
use crate::splitter::{ELEMENT_BYTES_MAX, Malformed};
use edgesplit_engine::json;
use edgesplit_engine::snapshot_indexer::SnapshotIndexer;
use serde_json::{Map, Value};
use std::fmt;

/// How many bytes of config are compiled in the time of adding an outcome of a flag, without its value.
pub const OUTCOME_BYTES: usize = 32;

/// How many keys of an object are listed at a time.
pub(crate) const KEYS_PER_STEP: usize = 1_024;

/// How many bytes the outcomes of one flag may take, and the outcomes of all flags together. Many outcomes may have a copy
/// of one value. An outcome takes `OUTCOME_SIZE` bytes and its value.
pub(crate) const FLAG_OUTCOME_BYTES_MAX: usize = 192 << 10;
pub(crate) const CONFIG_OUTCOME_BYTES_MAX: usize = 32 << 20;
pub(crate) const OUTCOME_SIZE: usize = 128;

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
pub trait Steps: Send {
    /// Compiles the next element and gives its approximate size in bytes; none if nothing is left.
    fn step(&mut self, config: Node<'_>) -> Option<usize>;

    /// Adds problems of reading the config.
    fn report(&mut self, problems: Problems);

    /// The result without indexes, and the entries that only compiling it needed.
    fn finish(self: Box<Self>) -> (Compiled, Leftovers);
}

/// Entries that are freed as they are iterated over.
#[derive(Default)]
pub struct Leftovers {
    entries: Option<Box<dyn Iterator<Item = ()> + Send>>,
    values: Map<String, Value>,
}

impl Leftovers {
    /// The entries that `entries` drops as it is iterated over.
    pub fn new(entries: impl Iterator<Item = ()> + Send + 'static) -> Leftovers {
        Leftovers { entries: Some(Box::new(entries)), values: Map::new() }
    }

    /// Adds JSON values, which are freed element by element.
    pub(crate) fn with_values(self, values: Map<String, Value>) -> Leftovers {
        Leftovers { values, ..self }
    }

    /// Frees the next entries, up to `count`. True when none are left.
    pub(crate) fn free(&mut self, count: usize) -> bool {
        self.entries.as_mut().is_none_or(|entries| entries.take(count).count() < count)
    }
}

impl fmt::Debug for Leftovers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Leftovers")
    }
}

/// How many comparisons of routes take the time of compiling a byte.
pub const COMPARISONS_PER_BYTE: usize = 4;

/// How many bytes are compiled in the time of beginning an element.
pub(crate) const ELEMENT_BYTES: usize = 32;

/// How many bytes are read in the time of compiling one.
const READ_BYTES: usize = 4;

/// How many bytes are compiled in the time of indexing an item.
pub(crate) const BYTES_PER_ITEM: usize = 4;

/// A vendor's config that is being compiled.
pub struct Stepwise {
    text: Vec<u8>,
    stage: Stage,
}

enum Stage {
    Reading(Box<Reading>, Box<dyn Steps>),
    Compiling(Value, Box<dyn Steps>),
    Freeing(Freeing, Compiled),
    Indexing(Box<(SnapshotIndexer, Problems)>),
    Done(Compiled),
}

impl Stepwise {
    /// Begins to compile the config in `text` by `steps`.
    pub fn begin(text: Vec<u8>, steps: Box<dyn Steps>) -> Box<dyn Compilation> {
        Box::new(Stepwise { text, stage: Stage::Reading(Box::default(), steps) })
    }
}

impl Compilation for Stepwise {
    fn advance(&mut self, bytes_max: usize) -> bool {
        let stage = std::mem::replace(&mut self.stage, Stage::Done(Compiled::default()));
        self.stage = match stage {
            Stage::Reading(mut reading, mut steps) => {
                match reading.advance(&self.text, bytes_max.saturating_mul(READ_BYTES).max(1)) {
                    Ok(false) => Stage::Reading(reading, steps),
                    Ok(true) => {
                        let (document, problems) = reading.finish();
                        steps.report(problems);
                        Stage::Compiling(Value::Object(document), steps)
                    }
                    Err(Malformed) => match whole(&self.text) {
                        Ok(value) => Stage::Compiling(value, steps),
                        Err(problems) => {
                            let freeing = Freeing::new(Value::Object(reading.finish().0), Leftovers::default());
                            Stage::Freeing(freeing, Compiled { snapshot: None, problems })
                        }
                    },
                }
            }
            Stage::Compiling(value, mut steps) => match compile_part(&value, &mut *steps, bytes_max) {
                false => Stage::Compiling(value, steps),
                true => {
                    let (compiled, leftovers) = steps.finish();
                    Stage::Freeing(Freeing::new(value, leftovers), compiled)
                }
            },
            Stage::Freeing(mut freeing, compiled) => match freeing.advance(bytes_max) {
                false => Stage::Freeing(freeing, compiled),
                true => {
                    let Compiled { snapshot, problems } = compiled;
                    match snapshot {
                        Some(snapshot) => Stage::Indexing(Box::new((SnapshotIndexer::new(snapshot), problems))),
                        None => Stage::Done(Compiled { snapshot, problems }),
                    }
                }
            },
            Stage::Indexing(mut indexing) => match indexing.0.advance(bytes_max / BYTES_PER_ITEM) {
                0 => Stage::Done(Compiled { snapshot: Some(indexing.0.finish()), problems: indexing.1 }),
                _ => Stage::Indexing(indexing),
            },
            done @ Stage::Done(_) => done,
        };
        matches!(self.stage, Stage::Done(_))
    }

    fn finish(self: Box<Self>) -> (Compiled, Vec<u8>) {
        let compiled = match self.stage {
            Stage::Done(compiled) => compiled,
            _ => Compiled::default(),
        };
        (compiled, self.text)
    }
}

/// Reads a text at once that cannot be read part by part, for the problem and its place. A long text is not read.
pub(crate) fn whole(text: &[u8]) -> Result<Value, Problems> {
    let problem = match text.len() {
        ..=ELEMENT_BYTES_MAX => match json::read(text) {
            Ok(value) => return Ok(value),
            Err(error) => format!("not JSON: {error}"),
        },
        _ => format!(
            "not JSON, not an object, with over {MEMBERS_MAX} members, or with over {ELEMENTS_MAX} elements in one"
        ),
    };
    let mut problems = Problems::new();
    problems.error(&Path::Root, problem);
    Err(problems)
}

/// A config that is being freed, with the entries that only its compilation needed.
struct Freeing {
    /// The elements that are left of each container, the outermost first.
    open: Vec<Box<dyn Iterator<Item = Value> + Send>>,
    leftovers: Leftovers,
}

/// How deep containers are freed element by element.
const FREED_DEPTH_MAX: usize = 5;

impl Freeing {
    fn new(config: Value, mut leftovers: Leftovers) -> Freeing {
        let values = Value::Object(std::mem::take(&mut leftovers.values));
        Freeing { open: vec![Box::new([config, values].into_iter())], leftovers }
    }

    /// Frees the next elements, of about the bytes that are freed in the time of compiling `bytes_max`. True when none are
    /// left.
    fn advance(&mut self, bytes_max: usize) -> bool {
        if !self.leftovers.free(1 + bytes_max / BYTES_PER_ITEM) {
            return false;
        }
        let mut bytes = 0;
        while bytes <= bytes_max.saturating_mul(READ_BYTES) {
            let depth = self.open.len();
            let Some(elements) = self.open.last_mut() else { return true };
            match elements.next() {
                Some(Value::Array(list)) if depth <= FREED_DEPTH_MAX => self.open.push(Box::new(list.into_iter())),
                Some(Value::Object(members)) if depth <= FREED_DEPTH_MAX => {
                    self.open.push(Box::new(members.into_iter().map(|(_, value)| value)));
                }
                Some(value) => bytes += size(&value),
                None => {
                    self.open.pop();
                    bytes += READ_BYTES;
                }
            }
        }
        false
    }
}

/// Compiles the next elements, of about `bytes_max` bytes. True when nothing is left to do.
fn compile_part(config: &Value, steps: &mut dyn Steps, bytes_max: usize) -> bool {
    let mut bytes = 0_usize;
    while bytes <= bytes_max {
        match steps.step(Node::root(config)) {
            Some(more) => bytes = bytes.saturating_add(more + ELEMENT_BYTES),
            None => return true,
        }
    }
    false
}

/// Compiles a parsed config at once.
pub fn compile(config: Node<'_>, mut steps: Box<dyn Steps>) -> Compiled {
    while steps.step(config).is_some() {}
    let (Compiled { snapshot, problems }, _) = steps.finish();
    Compiled { snapshot: snapshot.map(|snapshot| SnapshotIndexer::new(snapshot).finish()), problems }
}
