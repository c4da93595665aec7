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
            AttributeName::Named(name) => name.into(),
        }
    }
}

/// A source of attributes.
pub trait Attributes {
    /// The value of `name`.
    fn attribute<'a>(&'a self, name: &'a AttributeName) -> AttributeValue<'a>;

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

/// Looks `name` up in a JSON value: as a member first, then as a dotted path into nested members.
pub fn json_attribute<'a>(attributes: &'a Value, name: &str) -> AttributeValue<'a> {
    let exact = attributes.get(name);
    let found = exact.or_else(|| {
        name.split('.').try_fold(attributes, |value, part| match value {
            Value::Array(list) => list.get(part.parse::<usize>().ok()?),
            value => value.get(part),
        })
    });
    found.map_or(AttributeValue::Missing, AttributeValue::Json)
}

/// A JSON object is its own attributes.
impl Attributes for Value {
    fn attribute<'a>(&'a self, name: &'a AttributeName) -> AttributeValue<'a> {
        json_attribute(self, &name.written())
    }
}
