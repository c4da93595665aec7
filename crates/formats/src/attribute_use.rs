//! The attributes that a config reads, each with its place: for the checks of the command.

use crate::diagnostics::{Node, Path};
use edgesplit_engine::attribute::AttributeName;
use serde_json::Value;

/// A use of an attribute in a config.
#[derive(Debug)]
pub struct AttributeUse<'a> {
    /// Its place.
    pub path: &'a Path<'a>,
    /// The name as written.
    pub written: &'a str,
    /// The attribute that it means.
    pub name: AttributeName,
    /// The check of its value in a condition, null in other languages than GrowthBook's; none if its value is bucketed.
    pub check: Option<&'a Value>,
}

/// Passes every attribute in the condition in the member `member` of the object at `node`, in GrowthBook's language, to
/// `each`.
pub(crate) fn of_condition(
    node: Node<'_>,
    member: &str,
    parse: fn(&str) -> AttributeName,
    each: &mut dyn FnMut(&AttributeUse<'_>),
) {
    if let Some(value) = node.value.get(member) {
        condition(Node { value, path: &node.path.field(member) }, parse, each);
    }
}

fn condition(node: Node<'_>, parse: fn(&str) -> AttributeName, each: &mut dyn FnMut(&AttributeUse<'_>)) {
    for (name, value) in node.value.as_object().into_iter().flatten() {
        let path = node.path.field(name);
        let inner = Node { value, path: &path };
        match name.as_str() {
            "$and" | "$or" | "$nor" => {
                for (index, value) in value.as_array().into_iter().flatten().enumerate() {
                    condition(Node { value, path: &path.index(index) }, parse, each);
                }
            }
            "$not" => condition(inner, parse, each),
            _ if name.starts_with('$') => {}
            _ => each(&AttributeUse { path: &path, written: name, name: parse(name), check: Some(value) }),
        }
    }
}

/// Passes the attribute in the member `member` of the object at `node`, a condition in another language, to `each`.
pub(crate) fn of_member(node: Node<'_>, member: &str, each: &mut dyn FnMut(&AttributeUse<'_>)) {
    if let Some(written) = node.value.get(member).and_then(Value::as_str) {
        let (name, check) = (AttributeName::parse_exact(written), Some(&Value::Null));
        each(&AttributeUse { path: &node.path.field(member), written, name, check });
    }
}

/// Passes the attribute in the member `member` of the object at `node`, whose value is bucketed, to `each`.
pub(crate) fn of_unit(
    node: Node<'_>,
    member: &str,
    parse: fn(&str) -> AttributeName,
    each: &mut dyn FnMut(&AttributeUse<'_>),
) {
    if let Some(written) = node.value.get(member).and_then(Value::as_str) {
        each(&AttributeUse { path: &node.path.field(member), written, name: parse(written), check: None });
    }
}

/// Passes the elements of the list in the member `member` of the object at `node` to `each`.
pub(crate) fn elements(node: Node<'_>, member: &str, mut each: impl FnMut(Node<'_>)) {
    let path = node.path.field(member);
    for (index, value) in node.value.get(member).and_then(Value::as_array).into_iter().flatten().enumerate() {
        each(Node { value, path: &path.index(index) });
    }
}
