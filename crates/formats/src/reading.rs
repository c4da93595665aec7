//! Reads the JSON document of a vendor part by part.

use crate::diagnostics::{Path, Problems};
use crate::splitter::{ELEMENT_BYTES_MAX, Malformed, Part, Splitter};
use edgesplit_engine::json;
use serde_json::{Map, Value};
use std::ops::Range;

/// How many members a document may have.
pub(crate) const MEMBERS_MAX: usize = 1_000;

/// How many elements a member may have, except for lists of ids.
pub(crate) const ELEMENTS_MAX: usize = 50_000;

/// The member whose elements may be larger than [`ELEMENT_BYTES_MAX`], since its lists of ids are read part by part too.
const LARGE_ELEMENTS: &str = "savedGroups";

/// A document that is being read.
#[derive(Default)]
pub(crate) struct Reading {
    splitter: Splitter,
    document: Map<String, Value>,
    /// The containers that are being read, the outermost first, each with its name.
    open: Vec<(String, Value)>,
    problems: Problems,
    /// Whether bytes that are no UTF-8 count as replacement characters.
    is_lossy: bool,
}

impl Reading {
    /// Begins with a text in which bytes that are no UTF-8 count as replacement characters.
    pub(crate) fn lossy() -> Reading {
        Reading { is_lossy: true, ..Reading::default() }
    }

    /// Reads the next parts, of about `bytes_max` bytes. True at the end of the document.
    pub(crate) fn advance(&mut self, text: &[u8], mut bytes_max: usize) -> Result<bool, Malformed> {
        while bytes_max > 0 {
            match self.splitter.next(text, &mut bytes_max, |_| true)? {
                None => {}
                Some(Part::Value(name, range)) => self.add_part(text, name, range)?,
                Some(Part::Open { name, is_list }) => self.open.push((name, empty(is_list))),
                Some(Part::Close) => {
                    if let Some((name, value)) = self.open.pop() {
                        self.add(Some(name), value)?;
                    }
                }
                Some(Part::End) => return Ok(true),
            }
        }
        Ok(false)
    }

    /// The document, and the problems of reading it.
    pub(crate) fn finish(mut self) -> (Map<String, Value>, Problems) {
        // A document that is not read to its end has open containers.
        self.document.extend(self.open);
        (self.document, self.problems)
    }

    fn add_part(&mut self, text: &[u8], name: Option<String>, range: Range<usize>) -> Result<(), Malformed> {
        let part = text.get(range.clone()).unwrap_or_default();
        let is_large = range.len() > ELEMENT_BYTES_MAX && !self.open.is_empty();
        let value = match part.first() {
            Some(b'[' | b'{') if is_large && self.opens(part) => {
                let is_list = part.starts_with(b"[");
                self.splitter.open(range.start, is_list);
                self.open.push((name.unwrap_or_default(), empty(is_list)));
                return Ok(());
            }
            _ if is_large => {
                self.report_large(name.as_deref());
                // No element may have this value, so it is disabled.
                Value::Bool(false)
            }
            _ if self.is_lossy => json::read(String::from_utf8_lossy(part).as_bytes()).map_err(|_| Malformed)?,
            _ => json::read(part).map_err(|_| Malformed)?,
        };
        self.add(name, value)
    }

    /// Whether a large container is read part by part: a saved group, or the list in one.
    fn opens(&self, part: &[u8]) -> bool {
        let is_group = self.open.first().is_some_and(|(name, value)| name == LARGE_ELEMENTS && value.is_object());
        is_group && (self.open.len() == 1 || self.open.len() == 2 && part.starts_with(b"["))
    }

    fn add(&mut self, name: Option<String>, value: Value) -> Result<(), Malformed> {
        let is_limited = self.open.len() == 1;
        match (self.open.last_mut(), name) {
            (Some((_, Value::Array(list))), _) if !is_limited || list.len() < ELEMENTS_MAX => list.push(value),
            (Some((_, Value::Object(members))), Some(name)) if members.len() < ELEMENTS_MAX => {
                members.insert(name, value);
            }
            (None, Some(name)) if self.document.len() < MEMBERS_MAX => drop(self.document.insert(name, value)),
            _ => return Err(Malformed),
        }
        Ok(())
    }

    fn report_large(&mut self, name: Option<&str>) {
        let root = Path::Root;
        report_large(&root, &self.open, name, &mut self.problems);
    }
}

/// Reports the element `name` of the last container in `open`, which is at `path`.
fn report_large(path: &Path<'_>, open: &[(String, Value)], name: Option<&str>, problems: &mut Problems) {
    match (open, name) {
        ([(field, _), inner @ ..], _) if !inner.is_empty() => report_large(&path.field(field), inner, name, problems),
        ([(field, value)], name) => {
            let list = path.field(field);
            let path = name.map_or_else(|| list.index(value.as_array().map_or(0, Vec::len)), |name| list.field(name));
            problems.error(&path, format_args!("takes more than {ELEMENT_BYTES_MAX} bytes, so it is not read"));
        }
        _ => {}
    }
}

fn empty(is_list: bool) -> Value {
    if is_list { Value::Array(Vec::new()) } else { Value::Object(Map::new()) }
}
