//! Changes to the text of a config that leave its layout and comments as they are.

use crate::document::{Content, Document, Element, Syntax, is_yaml_1_1_boolean};
use crate::position::{Span, line_start};
use serde_json::Value;

/// A member of an experiment, with its new value.
pub(super) struct Member {
    pub(super) name: &'static str,
    pub(super) value: Value,
}

/// `document` with the members of its experiment at `position` set.
pub(super) fn apply(document: &Document, position: usize, members: &[Member]) -> Result<Document, String> {
    let cannot = || format!("cannot change {} in place: change the experiment by hand", document.name);
    let root = document.root.as_ref().ok_or_else(cannot)?;
    let experiment = root.member("experiments").and_then(|list| list.element.elements().get(position));
    let experiment = experiment.ok_or_else(cannot)?;
    let mut edits: Vec<(Span, String)> = Vec::new();
    for member in members {
        edits.push(edit(document, experiment, member).ok_or_else(cannot)?);
    }
    // From the end on, so that positions stay valid. Members that are added at one place keep their order.
    edits.sort_by_key(|(span, _)| span.start);
    let mut text = document.text.clone();
    for (span, new) in edits.iter().rev() {
        text.replace_range(span.clone(), new);
    }
    let changed = Document::parse(&document.name, text.into_bytes());
    // Anchors, merges and duplicates can make a small change mean something else.
    let mut expected = document.value.clone();
    let wanted = expected.pointer_mut(&format!("/experiments/{position}")).and_then(Value::as_object_mut);
    let wanted = wanted.ok_or_else(cannot)?;
    for member in members {
        wanted.insert(member.name.to_owned(), member.value.clone());
    }
    if changed.value == expected && changed.problems == document.problems { Ok(changed) } else { Err(cannot()) }
}

/// The edit that sets `member`: its span in the text, and the new text.
fn edit(document: &Document, experiment: &Element, member: &Member) -> Option<(Span, String)> {
    let literal = literal(document.syntax, &member.value);
    if let Some(old) = experiment.member(member.name) {
        let span = &old.element.span;
        if document.syntax == Syntax::Yaml {
            let colon = old.name_span.end + document.text.get(old.name_span.end..)?.find(':')?;
            let is_below = document.text.get(colon..span.start).is_some_and(|gap| gap.contains('\n'));
            // A block begins below its name, and an empty value has no place of its own.
            if is_below || span.is_empty() {
                let end = if span.is_empty() { colon + 1 } else { span.end };
                return Some((colon + 1..end, format!(" {literal}")));
            }
        }
        return Some((span.clone(), literal));
    }
    let before = experiment.member("state").or_else(|| experiment.member("key"))?;
    if !matches!(before.element.content, Content::Scalar(_)) {
        return None;
    }
    let text = &document.text;
    let name_start = before.name_span.start;
    let indent = text.get(line_start(text, name_start)..name_start)?;
    let is_flow = text.get(experiment.span.start..)?.starts_with('{');
    let end = before.element.span.end;
    let line_break = if text.contains("\r\n") { "\r\n" } else { "\n" };
    if !is_flow {
        let line_end = text.get(end..)?.find(line_break).map_or(text.len(), |length| end + length);
        let indent = " ".repeat(indent.chars().count());
        return Some((line_end..line_end, format!("{line_break}{indent}{}: {literal}", member.name)));
    }
    let name = if document.syntax == Syntax::Yaml { member.name.to_owned() } else { format!("{:?}", member.name) };
    let gap = if indent.trim().is_empty() { format!("{line_break}{indent}") } else { " ".to_owned() };
    Some((end..end, format!(",{gap}{name}: {literal}")))
}

fn literal(syntax: Syntax, value: &Value) -> String {
    match value {
        Value::String(text) if syntax == Syntax::Yaml && is_plain(text) => text.clone(),
        value => value.to_string(),
    }
}

/// Whether `text` needs no quotes in any version of YAML.
fn is_plain(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.chars().all(|char| char.is_ascii_alphanumeric() || matches!(char, '-' | '_' | '.'))
        && !["true", "false", "null"].iter().any(|word| text.eq_ignore_ascii_case(word))
        && !is_yaml_1_1_boolean(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn changed(name: &str, text: &str, members: &[Member]) -> String {
        let document = Document::parse(name, text.as_bytes().to_vec());
        apply(&document, 0, members).map_or_else(|error| error, |changed| changed.text)
    }

    #[test]
    fn layout_and_comments_stay() {
        let conclude =
            || [Member { name: "state", value: json!("concluded") }, Member { name: "winner", value: json!("green") }];
        let traffic = || [Member { name: "traffic", value: json!(2500) }];
        for (name, members, before, after) in [
            (
                "a.json",
                &conclude()[..],
                "{\"experiments\": [\n  {\"key\": \"a\", \"state\": \"running\"} ]}",
                "{\"experiments\": [\n  {\"key\": \"a\", \"state\": \"concluded\", \"winner\": \"green\"} ]}",
            ),
            (
                "a.jsonc",
                &conclude(),
                "{\"experiments\": [{\n    \"key\": \"a\",\n    \"state\": \"running\", // on\n  }]}\n",
                "{\"experiments\": [{\n    \"key\": \"a\",\n    \"state\": \"concluded\",\n    \"winner\": \"green\", // on\n  }]}\n",
            ),
            (
                "a.yaml",
                &conclude(),
                "experiments:\n- key: a\n  state: running  # since May\n  traffic: 1\n",
                "experiments:\n- key: a\n  state: concluded  # since May\n  winner: green\n  traffic: 1\n",
            ),
            (
                "a.yaml",
                &conclude(),
                "experiments: [{key: a, state: running}]\n",
                "experiments: [{key: a, state: concluded, winner: green}]\n",
            ),
            (
                "a.yaml",
                &traffic(),
                "experiments:\n  - key: a\n    traffic:\n    - {from: 2026-12-01T00:00:00Z, share: 5}\n    # all\n    - from: 2027-01-01T00:00:00Z\n      share: 10000\n    state: running\n",
                "experiments:\n  - key: a\n    traffic: 2500\n    state: running\n",
            ),
            ("a.yaml", &traffic(), "experiments:\n- traffic:\n  key: a\n", "experiments:\n- traffic: 2500\n  key: a\n"),
            (
                "a.yaml",
                &traffic(),
                "experiments:\r\n- key: a\r\n  state: running\r\n",
                "experiments:\r\n- key: a\r\n  state: running\r\n  traffic: 2500\r\n",
            ),
            ("a.yaml", &traffic(), "experiments:\n- key: a", "experiments:\n- key: a\n  traffic: 2500"),
        ] {
            assert_eq!(changed(name, before, members), after);
        }
    }

    #[test]
    fn shared_values_are_not_changed() {
        let pause = [Member { name: "state", value: json!("paused") }];
        let text = "experiments:\n- &one\n  key: a\n  state: running\n- *one\n";
        assert_eq!(changed("a.yaml", text, &pause), "cannot change a.yaml in place: change the experiment by hand");
    }
}
