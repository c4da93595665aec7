//! The values of a document, with their positions.

use crate::position::Span;
use edgesplit_formats::diagnostics::Path;
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

    /// The elements of a list; none if it is not a list.
    pub(crate) fn elements(&self) -> &[Element] {
        match &self.content {
            Content::List(elements) => elements,
            Content::Scalar(_) | Content::Object(_) => &[],
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
