//! Compiles a vendor's config in steps. A vendor implements [`Steps`], which compile one element at a time.

use crate::diagnostics::{Node, Path, Problems};
use crate::format::{Compilation, Compiled};
use crate::splitter::{ELEMENT_BYTES_MAX, Malformed, Part, Splitter};
use edgesplit_engine::json;
use edgesplit_engine::snapshot_indexer::SnapshotIndexer;
use serde_json::{Map, Value};
use std::ops::Range;

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

    /// Adds problems of reading the config.
    fn report(&mut self, problems: Problems);

    /// The result, without indexes.
    fn finish(self: Box<Self>) -> Compiled;
}

/// How many comparisons of routes take the time of compiling a byte.
pub const COMPARISONS_PER_BYTE: usize = 4;

/// How many bytes are read in the time of compiling one.
const READ_BYTES: usize = 8;

/// How many bytes are compiled in the time of indexing an item.
pub(crate) const BYTES_PER_ITEM: usize = 4;

/// A vendor's config that is being compiled.
pub struct Stepwise {
    text: Vec<u8>,
    stage: Stage,
}

enum Stage {
    Reading(Box<Reading>),
    Compiling(Value, Box<dyn Steps>),
    /// The config is freed, element by element.
    Freeing(Vec<(usize, Value)>, Compiled),
    Indexing(Box<(SnapshotIndexer, Problems)>),
    Done(Compiled),
}

/// A document that is being read, part by part.
struct Reading {
    splitter: Splitter,
    document: Map<String, Value>,
    /// The member whose elements are being read.
    member: Option<(String, Value)>,
    problems: Problems,
    steps: Box<dyn Steps>,
}

impl Reading {
    /// Reads the next parts, of about `bytes_max` bytes. True at the end of the document.
    fn advance(&mut self, text: &[u8], mut bytes_max: usize) -> Result<bool, Malformed> {
        while bytes_max > 0 {
            match self.splitter.next(text, &mut bytes_max, |_| true)? {
                None => {}
                Some(Part::Value(name, range)) => self.add(text, name, range)?,
                Some(Part::Open { name, is_list: true }) => self.member = Some((name, Value::Array(Vec::new()))),
                Some(Part::Open { name, is_list: false }) => self.member = Some((name, Value::Object(Map::new()))),
                Some(Part::Close) => self.document.extend(self.member.take()),
                Some(Part::End) => return Ok(true),
            }
        }
        Ok(false)
    }

    fn add(&mut self, text: &[u8], name: Option<String>, range: Range<usize>) -> Result<(), Malformed> {
        let is_large = range.len() > ELEMENT_BYTES_MAX;
        let part = text.get(range).unwrap_or_default();
        let bounded = match &self.member {
            // Saved groups are lists of ids, which take little time for each byte.
            Some((member, _)) => member != "savedGroups",
            None => false,
        };
        let value = if is_large && bounded {
            self.report_large(name.as_deref());
            // No element may have this value, so it is disabled.
            Value::Bool(false)
        } else {
            json::read(part).map_err(|_| Malformed)?
        };
        match (&mut self.member, name) {
            (Some((_, Value::Array(list))), _) => list.push(value),
            (Some((_, Value::Object(members))), Some(name)) => drop(members.insert(name, value)),
            (_, Some(name)) => drop(self.document.insert(name, value)),
            (_, None) => {}
        }
        Ok(())
    }

    fn report_large(&mut self, name: Option<&str>) {
        let Some((member, value)) = &self.member else { return };
        let list = Path::Root.field(member);
        let path = match (name, value) {
            (Some(name), _) => list.field(name),
            (None, value) => list.index(value.as_array().map_or(0, Vec::len)),
        };
        self.problems.error(&path, format!("takes more than {ELEMENT_BYTES_MAX} bytes, so it is not read"));
    }
}

impl Stepwise {
    /// Begins to compile the config in `text` by `steps`.
    pub fn begin(text: Vec<u8>, steps: Box<dyn Steps>) -> Box<dyn Compilation> {
        let (splitter, document, problems) = Default::default();
        let reading = Reading { splitter, document, member: None, problems, steps };
        Box::new(Stepwise { text, stage: Stage::Reading(Box::new(reading)) })
    }
}

impl Compilation for Stepwise {
    fn advance(&mut self, bytes_max: usize) -> bool {
        let stage = std::mem::replace(&mut self.stage, Stage::Done(Compiled::default()));
        self.stage = match stage {
            Stage::Reading(mut reading) => {
                match reading.advance(&self.text, bytes_max.saturating_mul(READ_BYTES).max(1)) {
                    Ok(false) => Stage::Reading(reading),
                    Ok(true) => {
                        let Reading { document, problems, mut steps, .. } = *reading;
                        steps.report(problems);
                        Stage::Compiling(Value::Object(document), steps)
                    }
                    Err(Malformed) => whole(&self.text, reading.steps),
                }
            }
            Stage::Compiling(value, mut steps) => match compile_part(&value, &mut *steps, bytes_max) {
                false => Stage::Compiling(value, steps),
                true => Stage::Freeing(vec![(0, value)], steps.finish()),
            },
            Stage::Freeing(mut values, compiled) => match free_part(&mut values, bytes_max) {
                false => Stage::Freeing(values, compiled),
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

/// A text that is not an object: reading it as a whole gives the problem and its place.
fn whole(text: &[u8], steps: Box<dyn Steps>) -> Stage {
    match json::read(text) {
        Ok(value) => Stage::Compiling(value, steps),
        Err(error) => {
            let mut problems = Problems::new();
            problems.error(&Path::Root, format!("not JSON: {error}"));
            Stage::Done(Compiled { snapshot: None, problems })
        }
    }
}

/// Frees the next elements among `values`, of about the bytes that are freed in the time of compiling `bytes_max`. Each
/// has its depth in the document. True when none are left.
fn free_part(values: &mut Vec<(usize, Value)>, bytes_max: usize) -> bool {
    let mut bytes = 0;
    while bytes <= bytes_max.saturating_mul(READ_BYTES) {
        match values.pop() {
            Some((depth @ 0..2, Value::Array(list))) => values.extend(list.into_iter().map(|value| (depth + 1, value))),
            Some((depth @ 0..2, Value::Object(members))) => {
                values.extend(members.into_iter().map(|(_, value)| (depth + 1, value)));
            }
            Some((_, value)) => bytes += size(&value),
            None => return true,
        }
    }
    false
}

/// Compiles the next elements, of about `bytes_max` bytes. True when nothing is left to do.
fn compile_part(config: &Value, steps: &mut dyn Steps, bytes_max: usize) -> bool {
    let mut bytes = 0_usize;
    while bytes <= bytes_max {
        match steps.step(Node::root(config)) {
            Some(more) => bytes = bytes.saturating_add(more.max(1)),
            None => return true,
        }
    }
    false
}

/// Compiles a parsed config at once.
pub fn compile(config: Node<'_>, mut steps: Box<dyn Steps>) -> Compiled {
    while steps.step(config).is_some() {}
    let Compiled { snapshot, problems } = steps.finish();
    Compiled { snapshot: snapshot.map(|snapshot| SnapshotIndexer::new(snapshot).finish()), problems }
}
