//! Problems of a document's text that its value hides: duplicate members, and words that YAML 1.1 reads as booleans.

use super::element::{Content, Element, Member};
use crate::position::{Position, Span};
use edgesplit_formats::diagnostics::{Path, Problems};
use serde_json::Value;
use std::collections::HashMap;

/// The problems of the document `root` in `text`.
pub(super) fn check(root: &Element, text: &str) -> Problems {
    let is_manifest = |document: &Element| document.member("apiVersion").is_some();
    let is_in_kubernetes = is_manifest(root) || root.elements().iter().any(is_manifest);
    let mut checks = Checks { text, is_in_kubernetes, problems: Problems::new() };
    checks.element(root, &Path::Root);
    checks.problems
}

/// Whether YAML 1.1 reads `word` as a boolean, but YAML 1.2 as a string.
pub(crate) fn is_yaml_1_1_boolean(word: &str) -> bool {
    ["y", "yes", "on", "n", "no", "off"].iter().any(|boolean| word.eq_ignore_ascii_case(boolean))
}

struct Checks<'a> {
    text: &'a str,
    /// Kubernetes reads names of members as YAML 1.1, Envoy only values.
    is_in_kubernetes: bool,
    problems: Problems,
}

impl Checks<'_> {
    fn element(&mut self, element: &Element, path: &Path<'_>) {
        match &element.content {
            Content::Scalar(Value::String(word)) => self.word(word, &element.span, path, "Envoy and Kubernetes"),
            Content::Scalar(_) => {}
            Content::List(elements) => {
                for (index, element) in elements.iter().enumerate() {
                    self.element(element, &path.index(index));
                }
            }
            Content::Object(members) => self.members(members, path),
        }
    }

    fn members(&mut self, members: &[Member], path: &Path<'_>) {
        let mut first: HashMap<&str, &Span> = HashMap::new();
        for Member { name, name_span, element } in members {
            let path = path.field(name);
            if let Some(before) = first.get(name.as_str()) {
                let [before, here] = [before, name_span].map(|span| Position::of(self.text, span.start));
                self.problems.error(&path, format!("given twice, {before} and {here}"));
            } else {
                first.insert(name, name_span);
            }
            if self.is_in_kubernetes {
                self.word(name, name_span, &path, "Kubernetes");
            }
            self.element(element, &path);
        }
    }

    /// Reports a word without quotes that `readers` take for a boolean. A word in quotes differs from its text.
    fn word(&mut self, word: &str, span: &Span, path: &Path<'_>, readers: &str) {
        if is_yaml_1_1_boolean(word) && self.text.get(span.clone()) == Some(word) {
            let message = format!("`{word}` is text here, but a boolean for {readers} (YAML 1.1): write \"{word}\"");
            self.problems.warning(path, message);
        }
    }
}
