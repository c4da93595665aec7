//! Routes and goals as they are written.

use super::kinds::Status;
use crate::diagnostics::{Node, Problems};
use crate::document::{KEY, Kind, List, Object, Parsed, lenient, strict};
use edgesplit_engine::pattern::Pattern;
use edgesplit_engine::route::Route;
use edgesplit_engine::snapshot::Goal;
use serde_json::{Value, json};
use std::collections::HashSet;

/// The name of a host, or a pattern.
pub(crate) const HOST: Parsed<Pattern> = Parsed {
    expected: "a host without port, such as \"shop.example\" or \"*.shop.example\"",
    pattern: "^[^/:\\s]+$",
    parse: |text| {
        let is_host = !text.is_empty() && !text.contains(['/', ':']) && !text.contains(char::is_whitespace);
        is_host.then(|| Pattern::ignoring_case(text))
    },
    write: Pattern::text,
};

const PATH: Parsed<Pattern> = Parsed {
    expected: "a path without query that starts with \"/\" or \"*\", such as \"/checkout*\"",
    pattern: "^[/*][^?#]*$",
    parse: |text| (text.starts_with(['/', '*']) && !text.contains(['?', '#'])).then(|| Pattern::new(text)),
    write: Pattern::text,
};

const METHOD: Parsed<String> = Parsed {
    expected: "a method such as \"GET\"",
    pattern: "^[A-Za-z_-]+$",
    parse: |text| {
        let is_letter = |byte: u8| byte.is_ascii_alphabetic() || matches!(byte, b'-' | b'_');
        (!text.is_empty() && text.bytes().all(is_letter)).then(|| text.to_ascii_uppercase())
    },
    write: String::clone,
};

crate::document! {
    for Route {
        /// Hosts without port, in any case; `*` stands for any run of characters. Empty: every host.
        hosts: Vec<Pattern> | null = Vec::new() => List(HOST),
        /// Paths without query; `*` stands for any run of characters, `/` included. Empty: every path.
        paths: Vec<Pattern> | null = Vec::new() => List(PATH),
        /// Methods; `GET` includes `HEAD`. Empty: every method but `OPTIONS`.
        methods: Vec<String> | null = Vec::new() => List(METHOD),
    }
}

crate::document! {
    for Goal {
        /// Its name in events. Unique.
        key: String => KEY,
        /// The requests that reach the goal; every request, if left out.
        route: Route | null = Route::default() => strict(),
        /// The response statuses that count, such as "2xx" or "201"; any, if left out.
        statuses: Vec<edgesplit_engine::snapshot::StatusClass> | null = Vec::new() => List(Status),
    }
}

/// How many goals a config may have. Every request is compared with all of them.
pub const GOALS_MAX: usize = 256;

/// A list of goals. A bad goal is left out, and the others live.
#[derive(Debug)]
pub struct Goals(Object<Goal>);

impl Goals {
    /// Goals in which an unknown field is an error.
    pub const STRICT: Goals = Goals(strict());
    /// Goals in which an unknown field is a warning.
    pub const LENIENT: Goals = Goals(lenient());
}

impl Kind for Goals {
    type Value = Vec<Goal>;

    fn expected(&self) -> String {
        "a list of goals".to_owned()
    }

    fn read(&self, node: Node<'_>, problems: &mut Problems) -> Option<Vec<Goal>> {
        let (mut goals, mut keys): (Vec<Goal>, HashSet<String>) = Default::default();
        for (position, value) in node.array(problems).unwrap_or_default().iter().enumerate() {
            let path = node.path.index(position);
            if position == GOALS_MAX {
                problems.error(
                    &path,
                    format_args!("more than {GOALS_MAX} goals: this one and those after it are left out"),
                );
                break;
            }
            let before = problems.errors();
            let Some(goal) = self.0.read(Node { value, path: &path }, problems) else { continue };
            if !keys.insert(goal.key.clone()) {
                problems.error(&path.field("key"), format_args!("duplicate key {:?}", goal.key));
            }
            if problems.errors() == before {
                goals.push(goal);
            }
        }
        Some(goals)
    }

    fn schema(&self) -> Value {
        json!({"type": "array", "items": self.0.schema()})
    }

    fn show(&self, _: &Vec<Goal>) -> Option<Value> {
        Some(json!([]))
    }
}
