//! The meaning of names in a condition.

use edgesplit_engine::attribute::AttributeName;

/// Whose members the names in a condition are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// Attributes of the request.
    Request,
    /// Attributes of the request, as GrowthBook's SDK names them: a dotted name is a path.
    Sdk,
    /// Members of a list's element, below `$elemMatch`.
    Element,
}

impl Scope {
    pub(super) fn attribute(self, name: &str) -> AttributeName {
        match self {
            Scope::Request => AttributeName::parse(name),
            Scope::Sdk => AttributeName::parse_nested(name),
            // An element has no headers and no cookies: its names mean its members.
            Scope::Element if name.contains('.') => AttributeName::Nested(name.to_owned()),
            Scope::Element => AttributeName::Named(name.to_owned()),
        }
    }
}
