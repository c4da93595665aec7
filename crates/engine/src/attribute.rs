//! Attributes of visitors and requests, by name.
//!
//! Conditions and bucketing units name an attribute. An implementation of [`Attributes`] has its value: the filter reads
//! headers and cookies, the command reads typed JSON.

use serde_json::Value;
use std::borrow::Cow;

/// The value of an attribute, borrowed from the request where that is possible.
#[derive(Debug, Clone)]
pub enum AttributeValue<'a> {
    /// The request has no such attribute.
    Missing,
    /// A text, as everything is that comes from a request.
    Text(Cow<'a, str>),
    /// A typed value, as the command takes them.
    Json(&'a Value),
}

/// The name of an attribute, resolved when a config is compiled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttributeName {
    /// The visitor's id.
    Id,
    /// The request's host, without its port, in lower case.
    Host,
    /// The request's path, without its query, as the client sent it.
    Path,
    /// The request's whole URL.
    Url,
    /// The request's method.
    Method,
    /// A request header; the name is in lower case.
    Header(String),
    /// A cookie.
    Cookie(String),
    /// A parameter of the query.
    Query(String),
    /// Any other name: an alias of the plugin configuration, or a typed attribute. It is looked up exactly first, then
    /// as a dotted path into nested values.
    Named(String),
    /// An alias, or a typed attribute of exactly this name, dots included.
    Exact(String),
    /// An alias, or a dotted path into nested typed values.
    Nested(String),
}

impl AttributeName {
    /// The attribute that `name` means. Every text is a name.
    pub fn parse(name: &str) -> AttributeName {
        match name {
            "id" => AttributeName::Id,
            "host" => AttributeName::Host,
            "path" => AttributeName::Path,
            "url" => AttributeName::Url,
            "method" => AttributeName::Method,
            _ => match name.split_once('.') {
                Some(("header", header)) if !header.is_empty() => AttributeName::Header(header.to_ascii_lowercase()),
                Some(("cookie", cookie)) if !cookie.is_empty() => AttributeName::Cookie(cookie.to_owned()),
                Some(("query", parameter)) if !parameter.is_empty() => AttributeName::Query(parameter.to_owned()),
                _ => AttributeName::Named(name.to_owned()),
            },
        }
    }

    /// As [`AttributeName::parse`]; a dotted name is no path.
    pub fn parse_exact(name: &str) -> AttributeName {
        match AttributeName::parse(name) {
            AttributeName::Named(name) if name.contains('.') => AttributeName::Exact(name),
            other => other,
        }
    }

    /// As [`AttributeName::parse`]; a dotted name is a path only.
    pub fn parse_nested(name: &str) -> AttributeName {
        match AttributeName::parse(name) {
            AttributeName::Named(name) if name.contains('.') => AttributeName::Nested(name),
            other => other,
        }
    }

    /// The name as it is written in a config.
    pub fn written(&self) -> Cow<'_, str> {
        match self {
            AttributeName::Id => "id".into(),
            AttributeName::Host => "host".into(),
            AttributeName::Path => "path".into(),
            AttributeName::Url => "url".into(),
            AttributeName::Method => "method".into(),
            AttributeName::Header(name) => format!("header.{name}").into(),
            AttributeName::Cookie(name) => format!("cookie.{name}").into(),
            AttributeName::Query(name) => format!("query.{name}").into(),
            AttributeName::Named(name) | AttributeName::Exact(name) | AttributeName::Nested(name) => name.into(),
        }
    }
}

/// A source of attributes.
pub trait Attributes {
    /// The value of `name`.
    fn attribute<'a>(&'a self, name: &'a AttributeName) -> AttributeValue<'a>;

    /// The visitor's id.
    fn id(&self) -> AttributeValue<'_> {
        self.attribute(&AttributeName::Id)
    }

    /// About how many bytes are read to look `name` up, beside the value itself.
    fn look_up_bytes(&self, _name: &AttributeName) -> usize {
        0
    }
}

/// References are sources too, so code for several kinds of sources is compiled once.
impl<T: Attributes + ?Sized> Attributes for &T {
    fn attribute<'a>(&'a self, name: &'a AttributeName) -> AttributeValue<'a> {
        (**self).attribute(name)
    }

    fn look_up_bytes(&self, name: &AttributeName) -> usize {
        (**self).look_up_bytes(name)
    }
}

/// Looks `name` up in a JSON value: as a member first, then as a dotted path into nested members, as far as it may be
/// either.
pub fn json_attribute<'a>(attributes: &'a Value, name: &AttributeName) -> AttributeValue<'a> {
    let written = name.written();
    let exact = attributes.get(&*written).filter(|_| !matches!(name, AttributeName::Nested(_)));
    let found = exact.or_else(|| {
        let may_be_path = !matches!(name, AttributeName::Exact(_));
        may_be_path.then(|| member(attributes, &written)).flatten()
    });
    found.map_or(AttributeValue::Missing, AttributeValue::Json)
}

/// The value at a dotted path.
pub fn member<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(value, |value, part| match value {
        Value::Array(list) => list.get(part.parse::<usize>().ok()?),
        value => value.get(part),
    })
}

/// A JSON object is its own attributes.
impl Attributes for Value {
    fn attribute<'a>(&'a self, name: &'a AttributeName) -> AttributeValue<'a> {
        json_attribute(self, name)
    }
}
