//! Incremental compilation of a document. A worker compiles between its requests, and no request waits for a thousand
//! experiments. At any time, the values of only one experiment are in memory.

use super::document::{Experiments, document, head};
use crate::diagnostics::{Node, Path, Problems};
use crate::format::Compiled;
use edgesplit_engine::snapshot::Snapshot;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};
use std::ops::Range;

/// How many comparisons of routes take the time of compiling a byte.
const COMPARISONS_PER_BYTE: usize = 4;

/// The compilation of a document in the native format.
#[derive(Debug)]
pub struct Compilation {
    text: Vec<u8>,
    stage: Stage,
    problems: Problems,
}

#[derive(Debug)]
enum Stage {
    /// The experiments from `next` on are still to be compiled; each is a part of the text.
    Experiments { parts: Vec<Range<usize>>, next: usize, done: Box<Experiments> },
    /// Everything was compiled, or refused whole.
    Done(Option<Box<Snapshot>>),
}

impl Compilation {
    /// Begins with the document in `text`. `budget` bounds the cache-key combinations of a route.
    pub fn new(text: Vec<u8>, budget: u64) -> Compilation {
        let mut problems = Problems::new();
        let stage = match parts(&text) {
            Some((head_value, parts)) => {
                let node = Node { value: &head_value, path: &Path::Root };
                match head(node, &mut problems) {
                    Some(snapshot) => {
                        Stage::Experiments { parts, next: 0, done: Box::new(Experiments::new(snapshot, budget)) }
                    }
                    None => Stage::Done(None),
                }
            }
            // No JSON, or another shape: reading it as a whole reports the problem and its place.
            None => Stage::Done(whole(&text, budget, &mut problems).map(Box::new)),
        };
        Compilation { text, stage, problems }
    }

    /// Compiles the next experiments, one at least, about `bytes_max` bytes of them. True once nothing is left to do.
    pub fn advance(&mut self, bytes_max: usize) -> bool {
        let Stage::Experiments { parts, next, done } = &mut self.stage else { return true };
        let list_path = Path::Root.field("experiments");
        let mut bytes = 0_usize;
        while bytes <= bytes_max
            && let Some(part) = parts.get(*next)
        {
            bytes = bytes.saturating_add(part.len());
            // It has been read once already, so this does not fail.
            let value =
                self.text.get(part.clone()).and_then(|text| serde_json::from_slice(text).ok()).unwrap_or_default();
            let before = done.budget.comparisons();
            done.add(Node { value: &value, path: &list_path.index(*next) }, *next, &mut self.problems);
            bytes = bytes.saturating_add((done.budget.comparisons() - before) as usize / COMPARISONS_PER_BYTE);
            *next += 1;
        }
        // The indexes are a step of their own.
        if *next < parts.len() || bytes > 0 {
            return false;
        }
        let snapshot = std::mem::take(done).finish();
        self.stage = Stage::Done(Some(Box::new(snapshot)));
        true
    }

    /// The result, without a snapshot if something is left to do, and the text.
    pub fn finish(self) -> (Compiled, Vec<u8>) {
        let snapshot = match self.stage {
            Stage::Done(snapshot) => snapshot.map(|snapshot| *snapshot),
            Stage::Experiments { .. } => None,
        };
        (Compiled { snapshot, problems: self.problems }, self.text)
    }
}

/// The document without its experiments, and where each of these stands. None where the text is not of this shape.
fn parts(text: &[u8]) -> Option<(Value, Vec<Range<usize>>)> {
    let mut scan = Scan { text, at: 0 };
    let mut head = Map::new();
    let mut experiments = None;
    scan.list(b'{', b'}', |scan| {
        let Value::String(name) = scan.value()? else { return None };
        scan.mark(b':').then_some(())?;
        if name == "experiments" {
            let mut parts = Vec::new();
            scan.list(b'[', b']', |scan| scan.range().map(|part| parts.push(part)))?;
            experiments = Some(parts);
        } else {
            head.insert(name, scan.value()?);
        }
        Some(())
    })?;
    scan.space();
    (scan.at == text.len()).then_some((Value::Object(head), experiments?))
}

/// Goes through a JSON text value by value.
struct Scan<'a> {
    text: &'a [u8],
    at: usize,
}

impl Scan<'_> {
    fn space(&mut self) {
        while matches!(self.text.get(self.at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// Whether `mark` comes next. If so, steps over it.
    fn mark(&mut self, mark: u8) -> bool {
        self.space();
        let is_next = self.text.get(self.at) == Some(&mark);
        self.at += usize::from(is_next);
        is_next
    }

    /// Reads elements between `open` and `close` with commas between them.
    fn list(&mut self, open: u8, close: u8, mut element: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        self.mark(open).then_some(())?;
        if self.mark(close) {
            return Some(());
        }
        loop {
            element(self)?;
            if !self.mark(b',') {
                return self.mark(close).then_some(());
            }
        }
    }

    /// Where the next value stands.
    fn range(&mut self) -> Option<Range<usize>> {
        self.space();
        let start = self.at;
        let mut values = serde_json::Deserializer::from_slice(self.text.get(start..)?).into_iter::<IgnoredAny>();
        values.next()?.ok()?;
        self.at += values.byte_offset();
        Some(start..self.at)
    }

    fn value(&mut self) -> Option<Value> {
        let range = self.range()?;
        serde_json::from_slice(self.text.get(range)?).ok()
    }
}

/// Parses and compiles `bytes`. `budget` bounds the cache-key combinations of a route.
pub fn compile_bytes(bytes: &[u8], budget: u64) -> Compiled {
    let mut compilation = Compilation::new(bytes.to_vec(), budget);
    while !compilation.advance(usize::MAX) {}
    compilation.finish().0
}

fn whole(text: &[u8], budget: u64, problems: &mut Problems) -> Option<Snapshot> {
    match serde_json::from_slice::<Value>(text) {
        Ok(value) => document(Node { value: &value, path: &Path::Root }, budget, problems),
        Err(error) => {
            problems.error(&Path::Root, format!("not JSON: {error}"));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
        for text in texts.chain(odd.map(str::to_owned)) {
            let mut problems = Problems::new();
            let expected = whole(text.as_bytes(), 64, &mut problems);
            let mut compilation = Compilation::new(text.clone().into_bytes(), 64);
            let steps = (0..100).take_while(|_| !compilation.advance(0)).count();
            let (compiled, back) = compilation.finish();
            assert_eq!(back, text.as_bytes());
            assert!(steps < 10, "{text}: one experiment a step");
            let told = |problems: &Problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>();
            assert_eq!(told(&compiled.problems), told(&problems), "{text}");
            assert_eq!(format!("{:?}", compiled.snapshot), format!("{expected:?}"), "{text}");
        }
    }
}
