//! Positions of problems in a document, and problems shown in its text.

use crate::document::Document;
use crate::finding::Finding;
use crate::position::{Position, Span, line_start};
use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use edgesplit_engine::printable::printable;
use edgesplit_formats::diagnostics::{Problem, Severity};
use serde_json::json;
use std::collections::HashMap;

/// A document, with the span of each JSON path.
#[derive(Debug)]
pub(super) struct Source<'a> {
    document: &'a Document,
    spans: HashMap<String, Span>,
}

impl<'a> Source<'a> {
    pub(super) fn new(document: &'a Document) -> Source<'a> {
        Source { document, spans: document.spans() }
    }

    /// The span for `problem`: its path, or the nearest parent that exists. None if the text has no positions.
    fn span(&self, problem: &Problem) -> Option<Span> {
        if self.document.root.is_none() {
            return self.document.broken_at.clone();
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

    /// The position of `problem`.
    pub(super) fn position(&self, problem: &Problem) -> Option<Position> {
        self.span(problem).map(|span| Position::of(&self.document.text, span.start))
    }

    /// The byte range of the lines that `span` touches.
    fn lines(&self, span: &Span) -> Span {
        let text = &self.document.text;
        let end = text.get(span.end..).and_then(|rest| rest.find('\n')).map_or(text.len(), |length| span.end + length);
        line_start(text, span.start)..end
    }

    /// Shows `finding` in the text of the file.
    pub(super) fn draw(&self, finding: &Finding) -> String {
        let Finding { problem, effect } = finding;
        let effect = effect.as_deref().map(|effect| Level::NOTE.message(format!("effect: {effect}")));
        let level = match problem.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let Some(span) = self.span(problem) else {
            let title = printable(&format!("{}: {problem}", self.document.name)).into_owned();
            return Renderer::styled().render(&[Group::with_title(level.primary_title(title)).elements(effect)]);
        };
        let (lines, position) = (self.lines(&span), Position::of(&self.document.text, span.start));
        let snippet = Snippet::source(self.document.text.get(lines.clone()).unwrap_or_default())
            .path(self.document.name.as_str())
            .line_start(position.line)
            .annotation(
                AnnotationKind::Primary
                    .span(span.start - lines.start..span.end - lines.start)
                    .label(printable(problem.path.as_str())),
            );
        let title = level.primary_title(printable(&problem.message));
        Renderer::styled().render(&[title.element(snippet).elements(effect)])
    }

    /// `finding` as JSON. Line and column are null if it has no position.
    pub(super) fn to_json(&self, finding: &Finding) -> serde_json::Value {
        let Finding { problem, effect } = finding;
        let position = self.position(problem);
        json!({
            "severity": problem.severity.name(),
            "path": problem.path,
            "message": problem.message,
            "effect": effect,
            "line": position.map(|position| position.line),
            "column": position.map(|position| position.column),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(path: &str, message: &str) -> Finding {
        let problem = Problem { path: path.to_owned(), message: message.to_owned(), severity: Severity::Error };
        Finding { problem, effect: Some("none".to_owned()) }
    }

    #[test]
    fn problem_is_located_at_its_path_or_nearest_parent() {
        let text = "{\n  \"ä\": 1, \"list\": [\n    {\"a.b\": \"x\"},\n    {}\n  ]\n}\n";
        let document = Document::parse("f.json", text.as_bytes().to_vec());
        let source = Source::new(&document);
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
        for (text, line, column) in [("{\"a\": 1,\n \"b\": é}", 2, 7), ("{\n", 1, 1), ("[1, 2", 1, 1)] {
            let document = Document::parse("f.json", text.as_bytes().to_vec());
            let found = Source::new(&document).to_json(&problem("", "not JSON"));
            assert_eq!((found["line"].as_u64(), found["column"].as_u64()), (Some(line), Some(column)), "{text:?}");
        }
        let binary = Document::parse("f.json", b"\xff".to_vec());
        assert!(Source::new(&binary).draw(&problem("", "not JSON")).contains("f.json: not JSON"));
    }

    #[test]
    fn drawn_problem_shows_only_its_line() {
        let text = "{\n  \"first\": 1,\n  \"weight\": 9000,\n  \"last\": 2\n}\n";
        let document = Document::parse("f.json", text.as_bytes().to_vec());
        let source = Source::new(&document);
        let drawn = anstream::adapter::strip_str(&source.draw(&problem("weight", "too little"))).to_string();
        let expected = "\
error: too little
 --> f.json:3:13
  |
3 |   \"weight\": 9000,
  |             ^^^^ weight
  |
  = note: effect: none";
        assert_eq!(drawn, expected);
    }
}
