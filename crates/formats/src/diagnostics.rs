//! Problems of documents with their places: JSON nodes that know their path, and the list of problems found in them.
//!
//! Readers of the plugin configuration and of the experiment formats walk a [`Node`] tree and push to [`Problems`]
//! instead of stopping at the first error. A person sees every problem at once, and one bad experiment can be disabled
//! alone.

use edgesplit_engine::hash::fingerprint;
use edgesplit_engine::number;
use serde_json::{Map, Value};
use std::collections::HashSet;
use std::fmt::{self, Write};

/// How many errors of a document are listed, and how many warnings.
const PROBLEMS_MAX: usize = 1_000;
/// How much of a message is kept. Some repeat texts of the document.
const MESSAGE_BYTES_MAX: usize = 2_000;
/// How many of them list the known names and may have a hint, and how long a name with a hint may be: both take time.
const HINTED_PROBLEMS_MAX: usize = 16;
const HINTED_BYTES_MAX: usize = 128;

/// How bad a [`Problem`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// Reported, and changes nothing: an unknown field.
    Warning,
    /// The document, or a part of it, is refused or disabled.
    Error,
}

impl Severity {
    /// Its name in messages.
    pub const fn name(self) -> &'static str {
        match self {
            Severity::Warning => "warning",
            Severity::Error => "error",
        }
    }
}

/// A problem in a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// JSON path, such as `experiments[3].variants[0].weight`; empty for the document itself.
    pub path: String,
    /// The value found and the values allowed.
    pub message: String,
    /// Whether anything is refused.
    pub severity: Severity,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() { f.write_str(&self.message) } else { write!(f, "{}: {}", self.path, self.message) }
    }
}

/// All problems found in one document, in the order they were found.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Problems {
    list: Vec<Problem>,
    errors: usize,
    warnings: usize,
}

impl Problems {
    /// No problem yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an error at `path`.
    #[cold]
    #[inline(never)]
    pub fn error(&mut self, path: &Path<'_>, message: impl fmt::Display) {
        self.push(path, &message, Severity::Error);
    }

    /// Adds a warning at `path`.
    #[cold]
    #[inline(never)]
    pub fn warning(&mut self, path: &Path<'_>, message: impl fmt::Display) {
        self.push(path, &message, Severity::Warning);
    }

    #[cold]
    #[inline(never)]
    fn push(&mut self, path: &Path<'_>, message: &dyn fmt::Display, severity: Severity) {
        if self.count(severity) > PROBLEMS_MAX {
            return self.skip(severity);
        }
        let mut message = message.to_string();
        if message.len() > MESSAGE_BYTES_MAX {
            message.truncate(message.floor_char_boundary(MESSAGE_BYTES_MAX));
            message.push('…');
        }
        self.add(Problem { path: path.to_string(), message, severity });
    }

    fn add(&mut self, problem: Problem) {
        let severity = problem.severity;
        match self.count(severity) {
            ..PROBLEMS_MAX => self.list.push(problem),
            PROBLEMS_MAX => {
                let message = "there are more problems, which are not listed".to_owned();
                self.list.push(Problem { path: String::new(), message, severity });
            }
            _ => {}
        }
        self.skip(severity);
    }

    fn count(&self, severity: Severity) -> usize {
        if severity == Severity::Error { self.errors } else { self.warnings }
    }

    /// Counts a problem that is not listed.
    fn skip(&mut self, severity: Severity) {
        let count = if severity == Severity::Error { &mut self.errors } else { &mut self.warnings };
        *count += 1;
    }

    /// Adds the problem that the name `found` at `path` is none of `known`.
    #[cold]
    pub fn unknown(&mut self, path: &Path<'_>, kind: &str, found: &str, known: &[&str], severity: Severity) {
        if self.count(severity) > PROBLEMS_MAX {
            return self.skip(severity);
        }
        let is_hinted = self.list.len() < HINTED_PROBLEMS_MAX;
        let message = if is_hinted { unknown(kind, found, known) } else { format!("unknown {kind}") };
        self.push(path, &message, severity);
    }

    /// Adds all problems of `other`.
    pub fn append(&mut self, other: Problems) {
        other.list.into_iter().for_each(|problem| self.add(problem));
    }

    /// Adds the problems of `other` that are not here yet: those without a fingerprint in `known`, which gets it.
    pub fn append_new(&mut self, other: Problems, known: &mut HashSet<u128>) {
        for problem in other.list {
            if known.insert(fingerprint(&[problem.path.as_bytes(), problem.message.as_bytes()])) {
                self.add(problem);
            }
        }
    }

    /// The number of errors: compare it before and after a step to see whether the step added one.
    pub fn errors(&self) -> usize {
        self.errors
    }

    /// Whether further errors are counted, and not listed.
    pub(crate) fn is_full(&self) -> bool {
        self.errors > PROBLEMS_MAX
    }

    /// The first error as a text; empty if there is none.
    pub fn first_error(&self) -> String {
        let error = self.list.iter().find(|problem| problem.severity == Severity::Error);
        error.map(ToString::to_string).unwrap_or_default()
    }

    /// Every problem, in the order found.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.list.iter()
    }
}

impl FromIterator<Problem> for Problems {
    fn from_iter<I: IntoIterator<Item = Problem>>(problems: I) -> Problems {
        let mut all = Problems::new();
        problems.into_iter().for_each(|problem| all.add(problem));
        all
    }
}

/// The place of a node in its document. Costs nothing until it is printed.
#[derive(Debug, Clone, Copy)]
pub enum Path<'a> {
    /// The document itself.
    Root,
    /// A member of the object at the parent.
    Field(&'a Path<'a>, &'a str),
    /// An element of the array at the parent.
    Index(&'a Path<'a>, usize),
}

impl<'a> Path<'a> {
    /// The path of the member `name`.
    pub fn field(&'a self, name: &'a str) -> Path<'a> {
        Path::Field(self, name)
    }

    /// The path of the element `index`.
    pub fn index(&'a self, index: usize) -> Path<'a> {
        Path::Index(self, index)
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Path::Root => Ok(()),
            Path::Index(parent, index) => write!(f, "{parent}[{index}]"),
            Path::Field(parent, name) => {
                let plain = !name.is_empty()
                    && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'$'));
                match (plain, parent) {
                    (false, _) => write!(f, "{parent}[{}]", Value::from(*name)),
                    (true, Path::Root) => f.write_str(name),
                    (true, _) => write!(f, "{parent}.{name}"),
                }
            }
        }
    }
}

/// A JSON value together with its place in the document.
#[derive(Debug, Clone, Copy)]
pub struct Node<'a> {
    /// The value.
    pub value: &'a Value,
    /// Its place.
    pub path: &'a Path<'a>,
}

/// The whole numbers that are allowed, in words.
pub(crate) fn whole_number(min: u64, max: u64) -> String {
    if min == max { format!("the number {min}") } else { format!("a whole number from {min} to {max}") }
}

/// A value as messages show it: short, on one line. Costs nothing until it is printed.
pub fn found(value: &Value) -> impl fmt::Display {
    const SHOWN_CHARS_MAX: usize = 60;
    fmt::from_fn(move |f| {
        f.write_str(match value {
            Value::Null | Value::Bool(_) => "",
            Value::Number(_) => "the number ",
            Value::String(_) => "the string ",
            Value::Array(_) => "the list ",
            Value::Object(_) => "the object ",
        })?;
        let mut text = Start { text: String::new(), chars_left: SHOWN_CHARS_MAX };
        // Writing fails where the text is cut off.
        let end = if write!(text, "{value}").is_ok() { "" } else { "…" };
        f.write_str(&text.text)?;
        f.write_str(end)
    })
}

/// The first characters of a text.
struct Start {
    text: String,
    chars_left: usize,
}

impl fmt::Write for Start {
    fn write_str(&mut self, more: &str) -> fmt::Result {
        for ch in more.chars() {
            self.chars_left = self.chars_left.checked_sub(1).ok_or(fmt::Error)?;
            self.text.push(ch);
        }
        Ok(())
    }
}

impl<'a> Node<'a> {
    /// The document `value` itself.
    pub fn root(value: &'a Value) -> Node<'a> {
        Node { value, path: &Path::Root }
    }

    /// Reports that `expected` was wanted here.
    #[cold]
    #[inline(never)]
    pub fn expected(&self, problems: &mut Problems, expected: &str) {
        problems.error(self.path, format_args!("expected {expected}, found {}", found(self.value)));
    }

    /// The value that was read here. Without one, reports that `expected` was wanted.
    fn or_expected<T>(&self, read: Option<T>, expected: &str, problems: &mut Problems) -> Option<T> {
        if read.is_none() {
            self.expected(problems, expected);
        }
        read
    }

    /// The object here, else a problem.
    pub fn object(&self, problems: &mut Problems) -> Option<&'a Map<String, Value>> {
        self.or_expected(self.value.as_object(), "an object", problems)
    }

    /// The list here, else a problem.
    pub fn array(&self, problems: &mut Problems) -> Option<&'a [Value]> {
        self.or_expected(self.value.as_array().map(Vec::as_slice), "a list", problems)
    }

    /// Reads every element of `list`, which is the list here. None if one of them cannot be read.
    pub(crate) fn read_all<T>(&self, list: &[Value], mut read: impl FnMut(Node<'_>) -> Option<T>) -> Option<Vec<T>> {
        let mut elements = Vec::new();
        for (index, value) in list.iter().enumerate() {
            elements.extend(read(Node { value, path: &self.path.index(index) }));
        }
        (elements.len() == list.len()).then_some(elements)
    }

    /// The string here, else a problem.
    pub fn string(&self, problems: &mut Problems) -> Option<&'a str> {
        self.or_expected(self.value.as_str(), "a string", problems)
    }

    /// The boolean here, else a problem.
    pub fn boolean(&self, problems: &mut Problems) -> Option<bool> {
        self.or_expected(self.value.as_bool(), "true or false", problems)
    }

    /// The whole number here within `range`, else a problem. `2.0` is whole.
    pub fn integer(&self, range: std::ops::RangeInclusive<u64>, problems: &mut Problems) -> Option<u64> {
        let integer = self.value.as_u64().or_else(|| {
            let float = self.value.as_f64()?;
            // Up to 2^53, a double distinguishes every whole number from its neighbours.
            (float.fract() == 0.0 && (0.0..=9_007_199_254_740_992.0).contains(&float)).then_some(float as u64)
        });
        match integer.filter(|integer| range.contains(integer)) {
            Some(integer) => Some(integer),
            None => {
                self.expected(problems, &whole_number(*range.start(), *range.end()));
                None
            }
        }
    }

    /// The number here within `range`, else a problem.
    pub fn number(&self, range: std::ops::RangeInclusive<f64>, problems: &mut Problems) -> Option<f64> {
        let number = self.value.as_f64().filter(|number| range.contains(number));
        if number.is_none() {
            let [min, max] = [range.start(), range.end()].map(|end| number::javascript(*end));
            self.expected(problems, &format!("a number from {min} to {max}"));
        }
        number
    }

    /// Reports every member of the object here that is not in `known`, as errors or as warnings.
    pub fn unknown_fields(&self, known: &[&str], severity: Severity, problems: &mut Problems) {
        let Some(object) = self.value.as_object() else { return };
        for name in object.keys().filter(|name| !known.contains(&name.as_str())) {
            problems.unknown(&self.path.field(name), "field", name, known, severity);
        }
    }
}

/// The message about the name `found`, which is none of the names `known`.
#[cold]
pub fn unknown(kind: &str, found: &str, known: &[&str]) -> String {
    let hint = nearest(found, known).map_or(";".to_owned(), |name| format!(", did you mean `{name}`?"));
    format!("unknown {kind}{hint} known here: {}", known.join(", "))
}

/// The name among `known` that is most like `found`, if one is like it.
#[cold]
pub fn nearest<'a>(found: &str, known: &[&'a str]) -> Option<&'a str> {
    /// Jaro-Winkler similarity, from 0 to 1. Names that are less alike have nothing to do with each other.
    const SIMILARITY_MIN: f64 = 0.8;
    let known = known.iter().filter(|_| found.len() <= HINTED_BYTES_MAX);
    let similar = known.map(|name| (strsim::jaro_winkler(found, name), *name));
    let similar = similar.filter(|(similarity, _)| *similarity >= SIMILARITY_MIN);
    similar.max_by(|(a, _), (b, _)| a.total_cmp(b)).map(|(_, name)| name)
}

#[cfg(test)]
mod tests;
