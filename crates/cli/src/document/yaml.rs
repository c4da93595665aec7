//! YAML 1.2, with the core schema's scalars: `no`, `on` and times are strings.

use super::element::{Content, Element, Member, SyntaxError};
use crate::position::{Position, Span, character};
use granit_parser::{Event, Parser, ScalarStyle, ScanError, StrInput, Tag};
use serde_json::{Number, Value};
use std::collections::HashMap;

/// The deepest nesting; the same as in JSON.
const DEPTH_MAX: usize = 128;

/// The most values that a document may have after its aliases are resolved.
const VALUES_MAX: usize = 1_000_000;

/// Parses the document in `text`. Several documents become a list.
pub(super) fn parse(text: &str) -> Result<Element, SyntaxError> {
    let mut reader = Reader { text, events: Parser::new_from_str(text), anchors: HashMap::new(), values: 0 };
    let mut documents = Vec::new();
    while let Some((event, span)) = reader.next()? {
        match event {
            Event::StreamStart | Event::DocumentStart(..) | Event::DocumentEnd => {}
            Event::StreamEnd => break,
            event => documents.push(reader.element(event, span, 0)?),
        }
    }
    documents.retain(|document| !matches!(document.content, Content::Scalar(Value::Null)));
    let whole = 0..text.len();
    match documents.len() {
        0 => Err(SyntaxError { message: "not JSON or YAML: the file has only comments".to_owned(), at: None }),
        1 => documents.pop().ok_or_else(|| reader.error("no document", whole)),
        _ => Ok(Element { span: whole, content: Content::List(documents) }),
    }
}

struct Reader<'a> {
    text: &'a str,
    events: Parser<'a, StrInput<'a>>,
    /// The elements that aliases can stand for, by the numbers of their anchors.
    anchors: HashMap<usize, Element>,
    values: usize,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<Option<(Event<'a>, Span)>, SyntaxError> {
        let Some(next) = self.events.next() else { return Ok(None) };
        let (event, span) = next.map_err(|error| self.scan_error(&error))?;
        Ok(Some((event, span.byte_range().unwrap_or_default())))
    }

    fn scan_error(&self, error: &ScanError) -> SyntaxError {
        let at = error.marker().byte_offset().unwrap_or_default().min(self.text.len());
        let info = error.info();
        let message = if info.contains("tab") { "a tab where YAML needs spaces" } else { &info };
        self.error(message, character(self.text, at))
    }

    fn error(&self, message: &str, at: Span) -> SyntaxError {
        let message = format!("not JSON or YAML: {message} {}", Position::of(self.text, at.start));
        SyntaxError { message, at: Some(at) }
    }

    fn element(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Element, SyntaxError> {
        if depth > DEPTH_MAX {
            return Err(self.error(&format!("nested more than {DEPTH_MAX} deep"), span));
        }
        let (anchor, element) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let is_plain = style == ScalarStyle::Plain && !tag.as_deref().is_some_and(is_string);
                let value = if is_plain { scalar(&text) } else { Value::from(text.into_owned()) };
                (anchor, Element { span: span.clone(), content: Content::Scalar(value) })
            }
            Event::SequenceStart(_, anchor, _) => (anchor, self.list(span.clone(), depth)?),
            Event::MappingStart(_, anchor, _) => (anchor, self.object(span.clone(), depth)?),
            Event::Alias(anchor) => match self.anchors.get(&anchor) {
                Some(element) => {
                    self.values += element.count();
                    (0, Element { span: span.clone(), content: element.content.clone() })
                }
                None => return Err(self.error("an alias that contains itself", span)),
            },
            _ => return Err(self.error("expected a value", span)),
        };
        self.values += 1;
        if self.values > VALUES_MAX {
            return Err(self.error(&format!("aliases expand to more than {VALUES_MAX} values"), span));
        }
        if anchor > 0 {
            self.anchors.insert(anchor, element.clone());
        }
        Ok(element)
    }

    fn list(&mut self, start: Span, depth: usize) -> Result<Element, SyntaxError> {
        let mut elements: Vec<Element> = Vec::new();
        loop {
            match self.next()? {
                Some((Event::SequenceEnd, end)) => {
                    let end = self.end(&end, elements.last());
                    return Ok(Element { span: start.start..end, content: Content::List(elements) });
                }
                Some((event, span)) => elements.push(self.element(event, span, depth + 1)?),
                None => return Err(self.error("a list without an end", start)),
            }
        }
    }

    fn object(&mut self, start: Span, depth: usize) -> Result<Element, SyntaxError> {
        let mut members: Vec<Member> = Vec::new();
        loop {
            match self.next()? {
                Some((Event::MappingEnd, end)) => {
                    let end = self.end(&end, members.last().map(|member| &member.element));
                    return Ok(Element { span: start.start..end, content: Content::Object(members) });
                }
                Some((Event::Scalar(name, ..), name_span)) => {
                    let Some((event, span)) = self.next()? else {
                        return Err(self.error("a member without a value", name_span));
                    };
                    let element = self.element(event, span, depth + 1)?;
                    members.push(Member { name: name.into_owned(), name_span, element });
                }
                Some((_, span)) => return Err(self.error("expected the name of a member", span)),
                None => return Err(self.error("an object without an end", start)),
            }
        }
    }

    /// The end of a collection: its closing bracket if it has one, else the end of its last element.
    fn end(&self, end: &Span, last: Option<&Element>) -> usize {
        let is_bracket = self.text.get(end.clone()).is_some_and(|text| matches!(text, "]" | "}"));
        match last {
            Some(last) if !is_bracket => last.span.end,
            _ => end.end,
        }
    }
}

/// Whether a tag makes a string of its scalar: `!!str`, or `!` alone.
fn is_string(tag: &Tag) -> bool {
    tag.is_yaml_core_schema_tag("str") || tag.parts() == ("", "!")
}

/// A plain scalar, by YAML's core schema.
fn scalar(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::from(true),
        "false" | "False" | "FALSE" => return Value::from(false),
        _ => {}
    }
    number(text).map_or_else(|| Value::from(text), Value::Number)
}

fn number(text: &str) -> Option<Number> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if let Some(hex) = text.strip_prefix("0x") {
        return i64::from_str_radix(hex, 16).ok().map(Number::from);
    }
    if let Some(octal) = text.strip_prefix("0o") {
        return i64::from_str_radix(octal, 8).ok().map(Number::from);
    }
    // Names such as `inf`, which Rust parses too, are strings.
    if !digits.starts_with(|first: char| first.is_ascii_digit() || first == '.') {
        return None;
    }
    let whole = text.strip_prefix('+').unwrap_or(text);
    let signed = || whole.parse::<i64>().map(Number::from).ok();
    whole.parse::<u64>().map(Number::from).ok().or_else(signed).or_else(|| Number::from_f64(text.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::super::Document;
    use serde_json::{Value, json};

    fn value(text: &str) -> Value {
        let document = Document::parse("d.yaml", text.as_bytes().to_vec());
        assert_eq!(document.problems.errors(), 0, "{:?}", document.problems);
        document.value
    }

    #[test]
    fn scalars_follow_the_core_schema() {
        for (text, expected) in [
            ("no", json!("no")),
            ("on", json!("on")),
            ("2026-12-01T00:00:00Z", json!("2026-12-01T00:00:00Z")),
            ("2026-12-01", json!("2026-12-01")),
            ("1_000", json!("1_000")),
            ("10:30", json!("10:30")),
            ("1d", json!("1d")),
            ("inf", json!("inf")),
            ("r1", json!("r1")),
            ("'5'", json!("5")),
            ("!!str 5", json!("5")),
            ("! 5", json!("5")),
            ("0500", json!(500)),
            ("+7", json!(7)),
            ("-7", json!(-7)),
            ("18446744073709551615", json!(u64::MAX)),
            ("1.5", json!(1.5)),
            ("1e3", json!(1000.0)),
            ("0x10", json!(16)),
            ("0o10", json!(8)),
            (".inf", json!(".inf")),
            ("~", json!(null)),
            ("", json!(null)),
            ("True", json!(true)),
            ("|\n  a\n  b", json!("a\nb\n")),
        ] {
            assert_eq!(value(&format!("a: {text}\n")), json!({ "a": expected }), "{text}");
        }
    }

    #[test]
    fn aliases_are_resolved_within_limits() {
        assert_eq!(value("a: &x [1, 2]\nb: *x\n"), json!({"a": [1, 2], "b": [1, 2]}));
        let mut bomb = "l0: &l0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..9 {
            let aliases = vec![format!("*l{}", level - 1); 10].join(", ");
            bomb.push_str(&format!("l{level}: &l{level} [{aliases}]\n"));
        }
        for (text, message) in [
            (bomb.as_str(), "aliases expand to more than 1000000 values"),
            ("a: &x [*x]\n", "an alias that contains itself"),
            (&format!("a: {}{}", "[".repeat(200), "]".repeat(200)), "nested more than 128 deep"),
            ("a: *y\n", "not JSON or YAML: "),
            ("? [a]\n: b\n", "expected the name of a member at line 1 column 3"),
        ] {
            let document = Document::parse("d.yaml", text.as_bytes().to_vec());
            assert!(document.problems.first_error().contains(message), "{text:.40}: {:?}", document.problems);
        }
    }

    #[test]
    fn several_documents_become_a_list() {
        assert_eq!(value("---\na: 1\n---\nb: 2\n---\n"), json!([{"a": 1}, {"b": 2}]));
        assert_eq!(value("---\n# only this\na: 1\n...\n"), json!({"a": 1}));
    }
}
