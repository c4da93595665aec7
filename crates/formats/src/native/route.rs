//! Routes as they are written: hosts, paths and methods.

use crate::diagnostics::{Node, Problems, Severity};
use edgesplit_engine::pattern::Pattern;
use edgesplit_engine::route::Route;

/// The members of a route.
pub const FIELDS: [&str; 3] = ["hosts", "paths", "methods"];

/// Compiles a route; `None` where it is wrong. Unknown fields are problems of this severity.
pub(super) fn compile(node: Node<'_>, unknown: Severity, problems: &mut Problems) -> Option<Route> {
    node.object(problems)?;
    node.unknown_fields(&FIELDS, unknown, problems);
    read(node, problems)
}

/// Compiles the members of a route at `node`, which may have others; `None` where one of them is wrong.
pub fn read(node: Node<'_>, problems: &mut Problems) -> Option<Route> {
    let hosts = list(node, "hosts", problems, |text| {
        let odd = text.is_empty() || text.contains(['/', ':']) || text.contains(char::is_whitespace);
        if odd {
            Err("a host without port, such as \"shop.example\" or \"*.shop.example\"")
        } else {
            Ok(Pattern::ignoring_case(text))
        }
    });
    let paths = list(node, "paths", problems, |text| {
        let odd = !text.starts_with(['/', '*']) || text.contains(['?', '#']);
        if odd {
            Err("a path without query that starts with \"/\" or \"*\", such as \"/checkout*\"")
        } else {
            Ok(Pattern::new(text))
        }
    });
    let methods = list(node, "methods", problems, |text| {
        let odd =
            text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_alphabetic() || matches!(byte, b'-' | b'_'));
        if odd { Err("a method such as \"GET\"") } else { Ok(text.to_ascii_uppercase()) }
    });
    Some(Route { hosts: hosts?, paths: paths?, methods: methods? })
}

/// Reads the list of texts `name`; none where it is absent.
fn list<'a, T>(
    node: Node<'a>,
    name: &'a str,
    problems: &mut Problems,
    read: impl Fn(&str) -> Result<T, &'static str>,
) -> Option<Vec<T>> {
    let Some(value) = node.value.get(name).filter(|value| !value.is_null()) else { return Some(Vec::new()) };
    let path = node.path.field(name);
    let list = Node { value, path: &path }.array(problems)?;
    let mut items = Vec::with_capacity(list.len());
    for (at, value) in list.iter().enumerate() {
        let path = path.index(at);
        let node = Node { value, path: &path };
        match value.as_str().map(&read) {
            Some(Ok(item)) => items.push(item),
            Some(Err(expected)) => node.expected(problems, expected),
            None => node.expected(problems, "a string"),
        }
    }
    (items.len() == list.len()).then_some(items)
}
