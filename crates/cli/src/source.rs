//! Positions of problems in a file, and problems shown in the text of the file.

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use edgesplit_engine::printable::printable;
use edgesplit_formats::diagnostics::{Path, Problem, Severity};
use jsonc_parser::ast::Value;
use jsonc_parser::common::{Range, Ranged};
use jsonc_parser::{CollectOptions, ParseOptions, parse_to_ast};
use serde_json::json;
use std::collections::HashMap;
use std::ops;

/// A file, with the span of each JSON path.
#[derive(Debug)]
pub(super) struct Source<'a> {
    name: String,
    text: &'a str,
    /// Spans in bytes, by JSON path.
    spans: HashMap<String, ops::Range<usize>>,
    /// The position of the first syntax error.
    broken_at: Option<ops::Range<usize>>,
}

/// A position in a file. Both numbers count from 1, the column in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Position {
    line: usize,
    column: usize,
}

impl<'a> Source<'a> {
    /// The file called `name`, which holds `bytes`.
    pub(super) fn new(name: &std::path::Path, bytes: &'a [u8]) -> Source<'a> {
        let name = name.display().to_string();
        let Ok(text) = std::str::from_utf8(bytes) else {
            // A file that is not UTF-8 has no positions.
            return Source { name, text: "", spans: HashMap::new(), broken_at: None };
        };
        let mut source = Source { name, text, spans: HashMap::new(), broken_at: broken_at(text) };
        let parsed = parse_to_ast(text, &CollectOptions::default(), &ParseOptions::default());
        if let Some(value) = parsed.ok().and_then(|parsed| parsed.value) {
            let start = value.range().start;
            source.add(&Path::Root, &value, start..start + 1);
        }
        source
    }

    /// Records the span of the value at `path`. An object or a list may fill the file, so `name` is its span.
    fn add(&mut self, path: &Path<'_>, value: &Value<'_>, name: ops::Range<usize>) {
        let span = match value {
            Value::Object(_) | Value::Array(_) => name,
            scalar => bytes(scalar.range()),
        };
        self.spans.insert(path.to_string(), span);
        match value {
            Value::Object(object) => {
                for member in &object.properties {
                    self.add(&path.field(member.name.as_str()), &member.value, bytes(member.name.range()));
                }
            }
            Value::Array(array) => {
                for (index, element) in array.elements.iter().enumerate() {
                    let start = element.range().start;
                    self.add(&path.index(index), element, start..start + 1);
                }
            }
            _ => {}
        }
    }

    /// The span for `problem`: its path, or the nearest parent that exists. None if the text has no positions.
    fn span(&self, problem: &Problem) -> Option<ops::Range<usize>> {
        if let Some(broken_at) = &self.broken_at {
            return Some(broken_at.clone());
        }
        let mut path = problem.path.as_str();
        loop {
            if let Some(span) = self.spans.get(path) {
                return Some(span.clone());
            }
            // Dots and brackets in quoted names lead only to paths that do not exist either.
            path = path.rfind(['.', '[']).and_then(|end| path.get(..end)).or((!path.is_empty()).then_some(""))?;
        }
    }

    /// The byte range of the lines that `span` touches, and the position of its start.
    fn locate(&self, span: &ops::Range<usize>) -> (ops::Range<usize>, Position) {
        let before = self.text.get(..span.start).unwrap_or_default();
        let start = before.rfind('\n').map_or(0, |end| end + 1);
        let rest = self.text.get(span.end..).unwrap_or_default();
        let end = rest.find('\n').map_or(self.text.len(), |length| span.end + length);
        let column = self.text.get(start..span.start).unwrap_or_default().chars().count() + 1;
        (start..end, Position { line: before.matches('\n').count() + 1, column })
    }

    /// Shows `problem` in the text of the file.
    pub(super) fn draw(&self, problem: &Problem) -> String {
        let level = match problem.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let Some(span) = self.span(problem) else {
            let title = printable(&format!("{}: {problem}", self.name)).into_owned();
            return Renderer::styled().render(&[annotate_snippets::Group::with_title(level.primary_title(title))]);
        };
        let (lines, position) = self.locate(&span);
        let snippet = Snippet::source(self.text.get(lines.clone()).unwrap_or_default())
            .path(self.name.as_str())
            .line_start(position.line)
            .annotation(
                AnnotationKind::Primary
                    .span(span.start - lines.start..span.end - lines.start)
                    .label(printable(problem.path.as_str())),
            );
        Renderer::styled().render(&[level.primary_title(printable(&problem.message)).element(snippet)])
    }

    /// `problem` as JSON. Line and column are null if it has no position.
    pub(super) fn to_json(&self, problem: &Problem) -> serde_json::Value {
        let position = self.span(problem).map(|span| self.locate(&span).1);
        json!({
            "severity": problem.severity.name(),
            "path": problem.path,
            "message": problem.message,
            "line": position.map(|position| position.line),
            "column": position.map(|position| position.column),
        })
    }
}

fn bytes(range: Range) -> ops::Range<usize> {
    range.start..range.end
}

/// The span of the first syntax error; none if `text` is JSON.
fn broken_at(text: &str) -> Option<ops::Range<usize>> {
    let error = serde_json::from_str::<serde_json::Value>(text).err()?;
    let line_start = text.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum::<usize>();
    let at = (line_start + error.column().saturating_sub(1)).min(text.len());
    let at = (0..=at).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default();
    let length = text.get(at..).and_then(|rest| rest.chars().next()).map_or(0, char::len_utf8);
    Some(at..at + length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(path: &str, message: &str) -> Problem {
        Problem { path: path.to_owned(), message: message.to_owned(), severity: Severity::Error }
    }

    #[test]
    fn problem_is_located_at_its_path_or_nearest_parent() {
        let text = "{\n  \"ä\": 1, \"list\": [\n    {\"a.b\": \"x\"},\n    {}\n  ]\n}\n";
        let source = Source::new(std::path::Path::new("f.json"), text.as_bytes());
        for (path, line, column) in [
            ("", 1, 1),
            ("missing", 1, 1),
            (r#"["ä"]"#, 2, 8),
            ("list", 2, 11),
            ("list[0]", 3, 5),
            (r#"list[0]["a.b"]"#, 3, 13),
            (r#"list[0]["a.c"].d"#, 3, 5),
            ("list[1].b.c", 4, 5),
            ("list[7]", 2, 11),
        ] {
            let found = source.to_json(&problem(path, "m"));
            assert_eq!((found["line"].as_u64(), found["column"].as_u64()), (Some(line), Some(column)), "{path}");
        }
    }

    #[test]
    fn syntax_error_is_located_at_its_position() {
        for (text, line, column) in [("{\"a\": 1,\n \"b\": é}", 2, 7), ("", 1, 1), ("{\n", 2, 1), ("[1, 2", 1, 5)] {
            let found = Source::new(std::path::Path::new("f.json"), text.as_bytes()).to_json(&problem("", "not JSON"));
            assert_eq!((found["line"].as_u64(), found["column"].as_u64()), (Some(line), Some(column)), "{text:?}");
        }
        let binary = Source::new(std::path::Path::new("f.json"), b"\xff");
        assert!(binary.draw(&problem("", "not JSON")).contains("f.json: not JSON"));
    }

    #[test]
    fn drawn_problem_shows_only_its_line() {
        let text = "{\n  \"first\": 1,\n  \"weight\": 9000,\n  \"last\": 2\n}\n";
        let source = Source::new(std::path::Path::new("f.json"), text.as_bytes());
        let drawn = anstream::adapter::strip_str(&source.draw(&problem("weight", "too little"))).to_string();
        let expected = "\
error: too little
 --> f.json:3:13
  |
3 |   \"weight\": 9000,
  |             ^^^^ weight";
        assert_eq!(drawn, expected);
    }
}
