//! Documents that people write: JSON, JSON with comments and trailing commas, or YAML, with the position of each value.

mod checks;
mod element;
mod encoding;
mod json;
mod yaml;

use crate::files::{self, Input};
use crate::position::Span;
pub(crate) use checks::is_yaml_1_1_boolean;
use edgesplit_formats::diagnostics::{Path, Problem, Problems};
use element::SyntaxError;
pub(crate) use element::{Content, Element, Syntax};
use serde_json::Value;
use std::collections::HashMap;

/// The byte-order mark that some editors write at the start of a file.
pub(crate) const BYTE_ORDER_MARK: &str = "\u{feff}";

/// A document, as it was read.
#[derive(Debug)]
pub(crate) struct Document {
    /// The name of its file.
    pub(crate) name: String,
    /// Its text, without the byte-order mark that it may start with.
    pub(crate) text: String,
    pub(crate) has_byte_order_mark: bool,
    pub(crate) syntax: Syntax,
    /// The values with their positions; none if the text is not readable.
    pub(crate) root: Option<Element>,
    /// The document as JSON, with the last of duplicate members; null if it is not readable.
    pub(crate) value: Value,
    /// Problems of the text itself: its encoding, its syntax, and duplicate members.
    pub(crate) problems: Problems,
    /// The position of the first syntax error.
    pub(crate) broken_at: Option<Span>,
}

impl Document {
    /// Reads the document that `input` names.
    pub(crate) fn read(input: &Input) -> Result<Document, String> {
        Ok(Document::parse(&input.to_string(), files::read(input)?))
    }

    /// Parses the document in `bytes`, called `name`.
    pub(crate) fn parse(name: &str, bytes: Vec<u8>) -> Document {
        let has_byte_order_mark = bytes.starts_with(BYTE_ORDER_MARK.as_bytes());
        let (text, parsed) = match encoding::text(bytes) {
            Ok(text) => {
                let parsed = parse_text(name, &text);
                (text, parsed)
            }
            Err(message) => (String::new(), Err(SyntaxError { message, at: None })),
        };
        let mut document = Document {
            name: name.to_owned(),
            text,
            has_byte_order_mark,
            syntax: Syntax::Json,
            root: None,
            value: Value::Null,
            problems: Problems::new(),
            broken_at: None,
        };
        match parsed {
            Ok((syntax, root)) => {
                document.problems = checks::check(&root, &document.text);
                (document.syntax, document.value) = (syntax, root.value());
                document.root = Some(root);
            }
            Err(SyntaxError { message, at }) => {
                document.problems.error(&Path::Root, message);
                document.broken_at = at;
            }
        }
        document
    }

    /// The document as JSON text: its own text if it is JSON.
    pub(crate) fn json(&self) -> Vec<u8> {
        match self.syntax {
            Syntax::Json => self.text.clone().into_bytes(),
            Syntax::JsonWithComments | Syntax::Yaml => self.value.to_string().into_bytes(),
        }
    }

    /// The span of each JSON path. An object or a list may fill the file, so it is represented by its name.
    pub(crate) fn spans(&self) -> HashMap<String, Span> {
        let mut spans = HashMap::new();
        if let Some(root) = &self.root {
            let start = root.span.start;
            root.add_spans(&Path::Root, start..start + 1, &mut spans);
        }
        spans
    }
}

fn parse_text(name: &str, text: &str) -> Result<(Syntax, Element), SyntaxError> {
    let is_yaml = name.ends_with(".yaml") || name.ends_with(".yml");
    if json::looks_like_json(text) {
        match json::parse(text) {
            // A YAML document may start with a brace too.
            Err(_) if is_yaml => {}
            parsed => return parsed,
        }
    }
    Ok((Syntax::Yaml, yaml::parse(text)?))
}

/// A path in the part of a document at `prefix`, as a path in the whole document.
pub(crate) fn join(prefix: &str, path: &str) -> String {
    match (prefix.is_empty(), path.is_empty()) {
        (true, _) => path.to_owned(),
        (_, true) => prefix.to_owned(),
        _ if path.starts_with('[') => format!("{prefix}{path}"),
        _ => format!("{prefix}.{path}"),
    }
}

/// The problems of the part of a document at `prefix`, with their paths in the whole document.
pub(crate) fn below(prefix: &str, problems: &Problems) -> Problems {
    problems.iter().map(|problem| Problem { path: join(prefix, &problem.path), ..problem.clone() }).collect()
}

/// The only problem of a document: an error at its root.
pub(crate) fn refused(message: impl std::fmt::Display) -> Problems {
    let mut problems = Problems::new();
    problems.error(&Path::Root, message);
    problems
}
