//! Reading declared objects.

use super::*;
use crate::diagnostics::{Node, Problems};
use serde_json::{Value, json};

crate::document! {
    /// When a buffer becomes a batch.
    #[derive(Debug, PartialEq)]
    struct Batch {
        /// Events in it.
        max_events: usize = 500 => whole(1, 10_000),
        /// Bytes in it.
        bytes as "max_bytes": usize | null = 7 => whole(1, 1000),
    }
}

crate::document! {
    #[derive(Debug, PartialEq)]
    struct Outer {
        /// Required.
        name: String => Text::new("a letter", "^[a-z]$", |text| text.len() == 1),
        /// In place.
        batch: Batch => in_place(),
        /// A list.
        list: Vec<Batch> = Vec::new() => List(strict()),
        /// A warning.
        lenient: Option<Batch> = None => Nullable(lenient()),
    }
}

fn read(value: &Value) -> (Option<Outer>, Vec<String>) {
    let mut problems = Problems::new();
    let outer = strict().read(Node::root(value), &mut problems);
    (outer, problems.iter().map(ToString::to_string).collect())
}

#[test]
fn document_defaults_and_renamed_members() {
    let (outer, problems) = read(&json!({"name": "a", "max_bytes": null, "lenient": {"max_event": 1}}));
    let batch = || Batch { max_events: 500, bytes: 7 };
    let expected = Outer { name: "a".to_owned(), batch: batch(), list: Vec::new(), lenient: Some(batch()) };
    assert_eq!(outer, Some(expected));
    assert_eq!(
        problems,
        ["lenient.max_event: unknown field, did you mean `max_events`? known here: max_events, max_bytes"]
    );
    assert_eq!(Batch::default(), batch());
}

#[test]
fn open_object_ignores_unknown_members() {
    let mut problems = Problems::new();
    let batch: Option<Batch> = open().read(Node::root(&json!({"max_events": 1, "later": {}})), &mut problems);
    assert_eq!((batch, problems), (Some(Batch { max_events: 1, bytes: 7 }), Problems::new()));
}

#[test]
fn document_collects_every_problem() {
    let value = json!({"max_bytes": 0, "list": [{"max_events": "1"}, 7, {"max_bytes": 3.0}, {"max_byte": 1}]});
    let (outer, problems) = read(&value);
    assert_eq!(outer, None);
    assert_eq!(
        problems,
        [
            "name: missing; expected a letter",
            "max_bytes: expected a whole number from 1 to 1000, found the number 0",
            "list[0].max_events: expected a whole number from 1 to 10000, found the string \"1\"",
            "list[1]: expected an object, found the number 7",
            "list[3].max_byte: unknown field, did you mean `max_bytes`? known here: max_events, max_bytes",
        ]
    );
}

#[test]
fn schema_has_descriptions_defaults_and_required_members() {
    let schema = strict::<Outer>().schema();
    assert_eq!(schema["required"], json!(["name"]));
    assert_eq!(
        schema["properties"]["max_events"],
        json!({"type": "integer", "minimum": 1, "maximum": 10000, "default": 500, "description": "Events in it."})
    );
    assert_eq!(schema["properties"]["max_bytes"]["type"], json!(["integer", "null"]));
    assert_eq!(schema["properties"]["list"]["default"], json!([]));
}
