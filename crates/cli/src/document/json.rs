//! JSON, and JSON with comments and trailing commas.

use super::element::{Content, Element, Member, Syntax, SyntaxError};
use crate::position::{Position, Span, character, offset};
use jsonc_parser::ast::Value as Ast;
use jsonc_parser::common::{Range, Ranged};
use jsonc_parser::errors::{ParseError, ParseErrorKind};
use jsonc_parser::{CollectOptions, ParseOptions, parse_to_ast};
use serde_json::Value;

/// Whether `text` is meant to be JSON: its first character is a bracket, or the start of a comment.
pub(super) fn looks_like_json(text: &str) -> bool {
    text.trim_start().starts_with(['{', '[', '/', '}', ']'])
}

/// Comments and trailing commas are accepted, and nothing else that JSON lacks.
fn options() -> ParseOptions {
    ParseOptions {
        allow_comments: true,
        allow_trailing_commas: true,
        allow_loose_object_property_names: false,
        allow_missing_commas: false,
        allow_single_quoted_strings: false,
        allow_hexadecimal_numbers: false,
        allow_unary_plus_numbers: false,
        allow_bare_decimal_point_numbers: false,
        allow_non_finite_numbers: false,
        allow_extended_string_escapes: false,
    }
}

pub(super) fn parse(text: &str) -> Result<(Syntax, Element), SyntaxError> {
    let strict = serde_json::from_str::<Value>(text).err();
    let parsed = parse_to_ast(text, &CollectOptions::default(), &options());
    match (parsed.map(|parsed| parsed.value.and_then(element)), strict) {
        (Ok(Some(root)), None) => Ok((Syntax::Json, root)),
        (Ok(Some(root)), Some(_)) => Ok((Syntax::JsonWithComments, root)),
        (Ok(None), _) => Err(SyntaxError { message: "not JSON: the file has only comments".to_owned(), at: None }),
        (Err(error), strict) => Err(syntax_error(text, &error, strict)),
    }
}

/// The error that explains more: the strict parser stops at comments, which are no error here.
fn syntax_error(text: &str, error: &ParseError, strict: Option<serde_json::Error>) -> SyntaxError {
    let start = error.range().start;
    if let Some(strict) = strict
        && explains_less(error.kind())
    {
        let at = offset(text, strict.line(), strict.column());
        if at >= start.min(text.len().saturating_sub(1)) {
            return SyntaxError { message: format!("not JSON: {strict}"), at: Some(character(text, at)) };
        }
    }
    let mut kind = error.kind().to_string();
    if let Some(first) = kind.get_mut(..1) {
        first.make_ascii_lowercase();
    }
    let message = format!("not JSON: {kind} {}", Position::of(text, start));
    SyntaxError { message, at: Some(character(text, start)) }
}

/// Whether an error of the lenient parser only states that a character is unexpected.
fn explains_less(kind: &ParseErrorKind) -> bool {
    use ParseErrorKind::{
        ExpectedComma, HexadecimalNumbersNotAllowed, NonFiniteNumbersNotAllowed, SingleQuotedStringsNotAllowed,
        UnaryPlusNumbersNotAllowed, UnterminatedArray, UnterminatedObject,
    };
    !matches!(
        kind,
        ExpectedComma
            | HexadecimalNumbersNotAllowed
            | NonFiniteNumbersNotAllowed
            | SingleQuotedStringsNotAllowed
            | UnaryPlusNumbersNotAllowed
            | UnterminatedArray
            | UnterminatedObject
    )
}

fn span(range: Range) -> Span {
    range.start..range.end
}

/// None for a number that is too large.
fn element(ast: Ast<'_>) -> Option<Element> {
    let span_of = span(ast.range());
    let content = match ast {
        Ast::StringLit(text) => Content::Scalar(Value::from(text.value.into_owned())),
        Ast::NumberLit(number) => Content::Scalar(serde_json::from_str(number.value).ok()?),
        Ast::BooleanLit(boolean) => Content::Scalar(Value::from(boolean.value)),
        Ast::NullKeyword(_) => Content::Scalar(Value::Null),
        Ast::Array(array) => Content::List(array.elements.into_iter().map(element).collect::<Option<_>>()?),
        Ast::Object(object) => {
            let members = object.properties.into_iter().map(|member| {
                let name_span = span(member.name.range());
                Some(Member { name: member.name.into_string(), name_span, element: element(member.value)? })
            });
            Content::Object(members.collect::<Option<_>>()?)
        }
    };
    Some(Element { span: span_of, content })
}
