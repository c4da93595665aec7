//! Incremental compilation of a document. A worker compiles between its requests, and no request waits for a thousand
//! experiments. At any time, the values of only one experiment are in memory.

use super::document::{Experiments, WholeDocument, head, is_member};
use crate::diagnostics::{Node, Path, Problems};
use crate::format::{self, Compiled, Options};
use crate::reading::{ELEMENTS_MAX, MEMBERS_MAX};
use crate::splitter::{ELEMENT_BYTES_MAX, Malformed, Part, Splitter};
use crate::stepwise::{self, BYTES_PER_ITEM, COMPARISONS_PER_BYTE, ELEMENT_BYTES, Leftovers};
use edgesplit_engine::json;
use edgesplit_engine::snapshot::Snapshot;
use edgesplit_engine::snapshot_indexer::SnapshotIndexer;
use serde_json::{Map, Value};
use std::ops::Range;

/// How many bytes are split in the time of compiling one.
const SPLIT_BYTES: usize = 16;

/// The part of an experiment's time that reading it takes; compiling it takes the rest. A large one takes a step for each.
const READ_PART: usize = 3;

/// The shortest experiment has more bytes.
const EXPERIMENT_BYTES_MIN: usize = 48;

/// The compilation of a document in the native format.
#[derive(Debug)]
pub(super) struct Compilation {
    text: Vec<u8>,
    options: Options,
    stage: Stage,
    problems: Problems,
}

#[derive(Debug)]
enum Stage {
    /// The document is being split into its experiments and everything around them.
    Splitting(Box<Outline>),
    /// The experiments from `next` on are still to be compiled; each is a part of the text. The next one may be read already.
    Experiments { parts: Vec<Range<usize>>, next: usize, read: Option<Value>, done: Box<Experiments> },
    /// The entries that only the compilation needed are freed, then the indexes are built.
    Indexes(Box<SnapshotIndexer>, Leftovers),
    /// Everything was compiled, or refused whole.
    Done(Option<Box<Snapshot>>),
}

/// The document without its experiments, and their places in the text.
#[derive(Debug, Default)]
struct Outline {
    splitter: Splitter,
    head: Map<String, Value>,
    experiments: Option<Vec<Range<usize>>>,
    in_experiments: bool,
}

impl format::Compilation for Compilation {
    fn advance(&mut self, bytes_max: usize) -> bool {
        let next = match &mut self.stage {
            Stage::Splitting(outline) => {
                match outline.advance(&self.text, bytes_max.saturating_mul(SPLIT_BYTES).max(1), &mut self.problems) {
                    Ok(false) => return false,
                    Ok(true) => self.begin_experiments(),
                    Err(Malformed) => self.compile_whole(),
                }
            }
            Stage::Experiments { .. } => match self.compile_experiments(bytes_max) {
                Ok(Some(next)) => next,
                Ok(None) => return false,
                Err(Malformed) => self.compile_whole(),
            },
            Stage::Indexes(indexer, leftovers) => {
                let items = 1 + bytes_max / BYTES_PER_ITEM;
                if !leftovers.free(items) || indexer.advance(items) > 0 {
                    return false;
                }
                Stage::Done(Some(Box::new(std::mem::take(&mut **indexer).finish())))
            }
            Stage::Done(_) => return true,
        };
        self.stage = next;
        matches!(self.stage, Stage::Done(_))
    }

    fn finish(self: Box<Self>) -> (Compiled, Vec<u8>) {
        let snapshot = match self.stage {
            Stage::Done(snapshot) => snapshot.map(|snapshot| *snapshot),
            _ => None,
        };
        (Compiled { snapshot, problems: self.problems }, self.text)
    }
}

impl Compilation {
    /// Begins with the document in `text`.
    pub(super) fn new(text: Vec<u8>, options: &Options) -> Compilation {
        let stage = Stage::Splitting(Box::default());
        Compilation { text, options: options.clone(), stage, problems: Problems::new() }
    }

    /// Compiles everything but the experiments.
    fn begin_experiments(&mut self) -> Stage {
        let Stage::Splitting(outline) = &mut self.stage else { return Stage::Done(None) };
        let head_value = Value::Object(std::mem::take(&mut outline.head));
        let Some(parts) = outline.experiments.take() else { return self.compile_whole() };
        match head(Node { value: &head_value, path: &Path::Root }, &mut self.problems) {
            Some(snapshot) => {
                let mut done = Box::new(Experiments::new(snapshot, &self.options));
                done.reserve(parts.iter().filter(|part| part.len() >= EXPERIMENT_BYTES_MIN).count());
                Stage::Experiments { parts, next: 0, read: None, done }
            }
            None => Stage::Done(None),
        }
    }

    /// Compiles the next experiments. None if there are more of them.
    fn compile_experiments(&mut self, bytes_max: usize) -> Result<Option<Stage>, Malformed> {
        let Stage::Experiments { parts, next, read, done } = &mut self.stage else { return Ok(None) };
        let list_path = Path::Root.field("experiments");
        let mut bytes = 0_usize;
        while bytes <= bytes_max {
            let Some(part) = parts.get(*next) else {
                let (snapshot, leftovers) = std::mem::take(&mut **done).finish();
                return Ok(Some(Stage::Indexes(Box::new(SnapshotIndexer::new(snapshot)), leftovers)));
            };
            let path = list_path.index(*next);
            if part.len() > ELEMENT_BYTES_MAX {
                done.refuse_large(&path, *next, &mut self.problems);
                bytes = bytes.saturating_add(ELEMENT_BYTES);
            } else if let Some(value) = read.take() {
                let before = done.budget.comparisons();
                done.add(Node { value: &value, path: &path }, *next, &mut self.problems);
                let comparisons = (done.budget.comparisons() - before) as usize;
                let compiled = part.len() - part.len() / READ_PART;
                bytes = bytes.saturating_add(ELEMENT_BYTES + compiled + comparisons / COMPARISONS_PER_BYTE);
            } else {
                let text = self.text.get(part.clone()).ok_or(Malformed)?;
                *read = Some(json::read(text).map_err(|_| Malformed)?);
                bytes = bytes.saturating_add(part.len() / READ_PART);
                continue;
            }
            *next += 1;
        }
        Ok(None)
    }

    /// No JSON, or another shape: reading it as a whole reports the problem and its place.
    fn compile_whole(&mut self) -> Stage {
        let compiled = whole(&self.text, &self.options);
        self.problems = compiled.problems;
        Stage::Done(compiled.snapshot.map(Box::new))
    }
}

impl Outline {
    /// Splits the next bytes, at most about `bytes_max`. True at the end of the document.
    fn advance(&mut self, text: &[u8], mut bytes_max: usize, problems: &mut Problems) -> Result<bool, Malformed> {
        while bytes_max > 0 {
            match self.splitter.next(text, &mut bytes_max, |name| name == "experiments")? {
                None => {}
                Some(Part::Open { is_list, .. }) => {
                    // Experiments that are not a list are reported when the document is read as a whole.
                    self.experiments = Some(Vec::new()).filter(|_| is_list);
                    self.in_experiments = true;
                    if !is_list {
                        return Err(Malformed);
                    }
                }
                Some(Part::Close) => self.in_experiments = false,
                Some(Part::Value(_, range)) if self.in_experiments => {
                    let parts = self.experiments.get_or_insert_default();
                    if parts.len() >= ELEMENTS_MAX {
                        return Err(Malformed);
                    }
                    parts.push(range);
                }
                Some(Part::Value(name, range)) => {
                    let name = name.unwrap_or_default();
                    let value = if range.len() > ELEMENT_BYTES_MAX {
                        let message = format!("takes more than {ELEMENT_BYTES_MAX} bytes, so it is not read");
                        problems.error(&Path::Root.field(&name), message);
                        // No member may have this value, so a holdout that is not read refuses the document.
                        Value::Bool(false)
                    } else {
                        bytes_max = bytes_max.saturating_sub(range.len());
                        let value = json::read(text.get(range).ok_or(Malformed)?).map_err(|_| Malformed)?;
                        // The values of unknown members do not matter, and would be freed at once.
                        if is_member(&name) { value } else { Value::Null }
                    };
                    if name == "experiments" {
                        self.experiments = None;
                    }
                    if self.head.len() >= MEMBERS_MAX {
                        return Err(Malformed);
                    }
                    self.head.insert(name, value);
                }
                Some(Part::End) => return Ok(true),
            }
        }
        Ok(false)
    }
}

fn whole(text: &[u8], options: &Options) -> Compiled {
    match stepwise::whole(text) {
        Ok(value) => stepwise::compile(Node::root(&value), WholeDocument::begin(options)),
        Err(problems) => Compiled { snapshot: None, problems },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Compilation as _;
    use serde_json::json;

    #[test]
    fn incremental_compilation_equals_whole_compilation() {
        let variants = json!([{"key": "a", "weight": 5000, "baseline": true}, {"key": "b", "weight": 5000}]);
        let good = |key: &str| json!({"key": key, "state": "running", "variants": variants});
        let documents = [
            json!({"schema": 1, "revision": "r", "experiments": [good("x"), good("y"), {"key": 7}, good("x"), good("z")],
                   "goals": [{"key": "g"}, {"key": "g"}], "odd": 1}),
            json!({"experiments": []}),
            json!({"experiments": {"a": 1}}),
            json!({"schema": 2, "experiments": []}),
            json!({"schema": 1}),
            json!([1]),
            json!("experiments"),
        ];
        let texts = documents.iter().map(ToString::to_string);
        let odd = ["", "{", "{\"experiments\": [{}]", "\u{feff}{}", "{\"experiments\": [], \"experiments\": [{}]}"];
        let options = Options::new(&crate::native::Native, 64);
        for text in texts.chain(odd.map(str::to_owned)) {
            let expected = whole(text.as_bytes(), &options);
            let mut compilation = Box::new(Compilation::new(text.clone().into_bytes(), &options));
            let steps = (0..10_000).take_while(|_| !compilation.advance(0)).count();
            let (compiled, back) = compilation.finish();
            assert_eq!(back, text.as_bytes());
            assert!(steps < 1_000, "{text}: {steps} steps");
            let texts = |problems: &Problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>();
            assert_eq!(texts(&compiled.problems), texts(&expected.problems), "{text}");
            assert_eq!(format!("{:?}", compiled.snapshot), format!("{:?}", expected.snapshot), "{text}");
        }
    }
}
