//! The kinds of values that documents are made of.

use super::kind::{Absent, Kind, MemberReader};
use super::schema;
use crate::diagnostics::{self, Node, Problems, found, whole_number};
use edgesplit_engine::number;
use serde_json::{Value, json};
use std::marker::PhantomData;

/// Any value, which is ignored.
#[derive(Debug)]
pub struct Anything;

impl Kind for Anything {
    type Value = ();

    fn expected(&self) -> String {
        "any value".to_owned()
    }

    fn read(&self, _: Node<'_>, _: &mut Problems) -> Option<()> {
        Some(())
    }

    fn member(&self, members: &mut MemberReader<'_>, name: &'static str, _: Absent<()>) -> Option<()> {
        members.find(name, false);
        Some(())
    }

    fn schema(&self) -> Value {
        json!({})
    }
}

/// A text.
#[derive(Debug, Clone, Copy)]
pub struct Text {
    /// The allowed texts in a few words.
    pub expected: &'static str,
    /// The same as a pattern, for the schema.
    pub pattern: &'static str,
    /// Whether a text is allowed.
    pub is_allowed: fn(&str) -> bool,
    /// Whether messages must not repeat the value.
    pub is_secret: bool,
}

impl Text {
    /// A text that messages may repeat.
    pub const fn new(expected: &'static str, pattern: &'static str, is_allowed: fn(&str) -> bool) -> Text {
        Text { expected, pattern, is_allowed, is_secret: false }
    }

    /// A text that messages must not repeat.
    pub const fn secret(expected: &'static str, pattern: &'static str, is_allowed: fn(&str) -> bool) -> Text {
        Text { expected, pattern, is_allowed, is_secret: true }
    }
}

/// Longer keys are refused: they would end in headers, metrics and events.
pub const KEY_BYTES_MAX: usize = 256;

/// The key of an experiment, a variant, a goal.
pub const KEY: Text =
    Text::new("a key of 1 to 256 bytes", "^[\\s\\S]{1,256}$", |text| (1..=KEY_BYTES_MAX).contains(&text.len()));

/// Any text.
pub const TEXT: Text = Text::new("a string", "", |_| true);

impl Kind for Text {
    type Value = String;

    fn expected(&self) -> String {
        self.expected.to_owned()
    }

    fn read(&self, node: Node<'_>, problems: &mut Problems) -> Option<String> {
        match node.value.as_str() {
            Some(text) if (self.is_allowed)(text) => return Some(text.to_owned()),
            _ if self.is_secret => problems.error(node.path, format_args!("expected {}", self.expected)),
            _ => node.expected(problems, self.expected),
        }
        None
    }

    fn schema(&self) -> Value {
        if self.pattern.is_empty() { json!({"type": "string"}) } else { schema::text(self.pattern) }
    }

    fn show(&self, value: &String) -> Option<Value> {
        Some(json!(value))
    }
}

/// A text that stands for another value, such as a time or a pattern.
#[derive(Debug, Clone, Copy)]
pub struct Parsed<T> {
    /// The allowed texts in a few words.
    pub expected: &'static str,
    /// The same as a pattern, for the schema.
    pub pattern: &'static str,
    /// The value of a text, if the text is allowed.
    pub parse: fn(&str) -> Option<T>,
    /// The text of a value.
    pub write: fn(&T) -> String,
}

impl<T> Kind for Parsed<T> {
    type Value = T;

    fn expected(&self) -> String {
        self.expected.to_owned()
    }

    fn read(&self, node: Node<'_>, problems: &mut Problems) -> Option<T> {
        let parsed = node.value.as_str().and_then(self.parse);
        if parsed.is_none() {
            node.expected(problems, self.expected);
        }
        parsed
    }

    fn schema(&self) -> Value {
        schema::text(self.pattern)
    }

    fn show(&self, value: &T) -> Option<Value> {
        Some(json!((self.write)(value)))
    }
}

/// One of a few names.
#[derive(Debug, Clone, Copy)]
pub struct Choice<T>(pub fn() -> Vec<(&'static str, T)>);

impl<T> Choice<T> {
    fn names(&self) -> Vec<&'static str> {
        (self.0)().iter().map(|(name, _)| *name).collect()
    }
}

impl<T: PartialEq> Kind for Choice<T> {
    type Value = T;

    fn expected(&self) -> String {
        one_of(&self.names())
    }

    fn read(&self, node: Node<'_>, problems: &mut Problems) -> Option<T> {
        let position = position(node, &self.names(), problems)?;
        (self.0)().into_iter().nth(position).map(|(_, value)| value)
    }

    fn schema(&self) -> Value {
        json!({"type": "string", "enum": self.names()})
    }

    fn show(&self, value: &T) -> Option<Value> {
        (self.0)().iter().find(|(_, choice)| choice == value).map(|(name, _)| json!(name))
    }
}

fn one_of(names: &[&str]) -> String {
    format!("one of {}", names.join(", "))
}

/// The position of the name at `node` among `names`.
fn position(node: Node<'_>, names: &[&str], problems: &mut Problems) -> Option<usize> {
    let text = node.value.as_str();
    let position = names.iter().position(|name| Some(*name) == text);
    if position.is_none() {
        let nearest = text.and_then(|text| diagnostics::nearest(text, names));
        let hint = nearest.map_or(String::new(), |name| format!("; did you mean `{name}`?"));
        problems.error(node.path, format_args!("expected {}, found {}{hint}", one_of(names), found(node.value)));
    }
    position
}

/// True or false.
#[derive(Debug, Clone, Copy)]
pub struct Flag;

impl Kind for Flag {
    type Value = bool;

    fn expected(&self) -> String {
        "true or false".to_owned()
    }

    fn read(&self, node: Node<'_>, problems: &mut Problems) -> Option<bool> {
        node.boolean(problems)
    }

    fn schema(&self) -> Value {
        json!({"type": "boolean"})
    }

    fn show(&self, value: &bool) -> Option<Value> {
        Some(json!(value))
    }
}

/// A whole number. `2.0` is whole, because a protobuf Struct has only doubles.
#[derive(Debug, Clone, Copy)]
pub struct Whole<N> {
    min: u64,
    max: u64,
    number: PhantomData<fn() -> N>,
}

/// A whole number from `min` to `max`.
pub const fn whole<N>(min: u64, max: u64) -> Whole<N> {
    Whole { min, max, number: PhantomData }
}

impl<N: TryFrom<u64> + Copy + TryInto<u64>> Kind for Whole<N> {
    type Value = N;

    fn expected(&self) -> String {
        whole_number(self.min, self.max)
    }

    fn read(&self, node: Node<'_>, problems: &mut Problems) -> Option<N> {
        node.integer(self.min..=self.max, problems)?.try_into().ok()
    }

    fn schema(&self) -> Value {
        json!({"type": "integer", "minimum": self.min, "maximum": self.max})
    }

    fn show(&self, value: &N) -> Option<Value> {
        (*value).try_into().ok().map(|number| json!(number))
    }
}

/// A number.
#[derive(Debug, Clone, Copy)]
pub struct Number {
    min: f64,
    max: f64,
}

/// A number from `min` to `max`.
pub const fn number(min: f64, max: f64) -> Number {
    Number { min, max }
}

impl Kind for Number {
    type Value = f64;

    fn expected(&self) -> String {
        format!("a number from {} to {}", number::javascript(self.min), number::javascript(self.max))
    }

    fn read(&self, node: Node<'_>, problems: &mut Problems) -> Option<f64> {
        node.number(self.min..=self.max, problems)
    }

    fn schema(&self) -> Value {
        json!({"type": "number", "minimum": self.min, "maximum": self.max})
    }

    fn show(&self, value: &f64) -> Option<Value> {
        Some(json!(value))
    }
}
