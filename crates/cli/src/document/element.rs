//! The values of a document, with their positions.

use crate::position::{Position, Span};
use edgesplit_formats::diagnostics::{Path, Problems};
use serde_json::Value;
use std::collections::HashMap;

/// The notation of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Syntax {
    Json,
    /// JSON with comments or trailing commas.
    JsonWithComments,
    Yaml,
}

/// An error in the text of a document.
pub(super) struct SyntaxError {
    pub(super) message: String,
    pub(super) at: Option<Span>,
}

/// A value in a document.
#[derive(Debug, Clone)]
pub(crate) struct Element {
    pub(crate) span: Span,
    pub(crate) content: Content,
}

/// The content of an element.
#[derive(Debug, Clone)]
pub(crate) enum Content {
    Scalar(Value),
    List(Vec<Element>),
    /// Every member as written, duplicates included.
    Object(Vec<Member>),
}

/// A member of an object.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) name_span: Span,
    pub(crate) element: Element,
}

impl Element {
    /// The element as JSON. The last of duplicate members applies, as in the filter.
    pub(super) fn value(&self) -> Value {
        match &self.content {
            Content::Scalar(value) => value.clone(),
            Content::List(elements) => elements.iter().map(Element::value).collect(),
            Content::Object(members) => {
                members.iter().map(|member| (member.name.clone(), member.element.value())).collect()
            }
        }
    }

    /// The number of values in it.
    pub(super) fn count(&self) -> usize {
        1 + match &self.content {
            Content::Scalar(_) => 0,
            Content::List(elements) => elements.iter().map(Element::count).sum(),
            Content::Object(members) => members.iter().map(|member| member.element.count()).sum(),
        }
    }

    /// The last member called `name`.
    pub(crate) fn member(&self, name: &str) -> Option<&Member> {
        match &self.content {
            Content::Object(members) => members.iter().rev().find(|member| member.name == name),
            Content::Scalar(_) | Content::List(_) => None,
        }
    }

    /// The elements of the list; none if it is no list.
    pub(crate) fn elements(&self) -> &[Element] {
        match &self.content {
            Content::List(elements) => elements,
            Content::Scalar(_) | Content::Object(_) => &[],
        }
    }

    /// Reports every member that repeats the name of one before it, and words that YAML 1.1 reads as booleans.
    pub(super) fn report_problems(&self, path: &Path<'_>, text: &str, problems: &mut Problems) {
        match &self.content {
            // Words in quotes differ from their values.
            Content::Scalar(Value::String(word))
                if text.get(self.span.clone()) == Some(word) && is_boolean_in_yaml_1_1(word) =>
            {
                let message = format!(
                    "`{word}` is text here, but a boolean to readers of YAML 1.1, such as Envoy and Kubernetes: write \"{word}\""
                );
                problems.warning(path, message);
            }
            Content::Scalar(_) => {}
            Content::List(elements) => {
                for (index, element) in elements.iter().enumerate() {
                    element.report_problems(&path.index(index), text, problems);
                }
            }
            Content::Object(members) => {
                let mut first = HashMap::new();
                for Member { name, name_span, element } in members {
                    let path = path.field(name);
                    if let Some(before) = first.get(name.as_str()) {
                        let [before, here] = [before, name_span].map(|span: &Span| Position::of(text, span.start));
                        let message = format!("given twice, {before} and {here}");
                        problems.error(&path, message);
                    } else {
                        first.insert(name.as_str(), name_span.clone());
                    }
                    element.report_problems(&path, text, problems);
                }
            }
        }
    }

    /// Adds the span of the element at `path`, and of every element in it. `name` represents objects and lists.
    pub(super) fn add_spans(&self, path: &Path<'_>, name: Span, spans: &mut HashMap<String, Span>) {
        let span = if matches!(self.content, Content::Scalar(_)) { self.span.clone() } else { name };
        spans.insert(path.to_string(), span);
        match &self.content {
            Content::Scalar(_) => {}
            Content::List(elements) => {
                for (index, element) in elements.iter().enumerate() {
                    let start = element.span.start;
                    element.add_spans(&path.index(index), start..start + 1, spans);
                }
            }
            Content::Object(members) => {
                for member in members {
                    member.element.add_spans(&path.field(&member.name), member.name_span.clone(), spans);
                }
            }
        }
    }
}

fn is_boolean_in_yaml_1_1(word: &str) -> bool {
    ["y", "yes", "on", "n", "no", "off"].iter().any(|boolean| word.eq_ignore_ascii_case(boolean))
}
