//! Sets of values that conditions compare with.

use super::value::{JsValue, lower_case};
use crate::sort::HeapSort;
use serde_json::Value;

/// The operand of `$in` and its like, sorted: a saved group may have many thousand members.
#[derive(Debug, Clone, Default)]
pub struct ValueSet {
    /// The texts behind each other, and where each begins and ends: a saved group is made and freed quickly.
    bytes: Vec<u8>,
    texts: Vec<(u32, u32)>,
    numbers: Vec<f64>,
    /// Null, false and true.
    others: [bool; 3],
    folded: bool,
    /// How far the texts and the numbers are sorted.
    sorted: [HeapSort; 2],
}

impl ValueSet {
    /// The members in `values`; lists and objects among them equal nothing. `folded` ignores the case of texts.
    pub fn new(values: &[Value], folded: bool) -> ValueSet {
        let mut set = ValueSet { folded, ..ValueSet::default() };
        set.extend(values);
        set.sort(usize::MAX);
        set
    }

    /// The members in `texts`.
    pub fn of_texts<'a>(texts: impl Iterator<Item = &'a str>) -> ValueSet {
        let mut set = ValueSet::default();
        texts.for_each(|text| set.add_text(text));
        set.sort(usize::MAX);
        set
    }

    /// Adds members. The set must be sorted afterwards.
    pub fn extend(&mut self, values: &[Value]) {
        self.sorted = Default::default();
        for value in values {
            match JsValue::from(value) {
                JsValue::Null => self.others[0] = true,
                JsValue::Bool(false) => self.others[1] = true,
                JsValue::Bool(true) => self.others[2] = true,
                JsValue::Number(number) => self.numbers.push(without_negative_zero(number)),
                JsValue::Text(text) if self.folded => self.add_text(&lower_case(text)),
                JsValue::Text(text) => self.add_text(text),
                JsValue::List(_) | JsValue::Object(_) => {}
            }
        }
    }

    fn add_text(&mut self, text: &str) {
        let from = self.bytes.len() as u32;
        self.bytes.extend_from_slice(text.as_bytes());
        self.texts.push((from, self.bytes.len() as u32));
    }

    /// Sorts the next `count` members of each type. True once all are sorted.
    pub fn sort(&mut self, count: usize) -> bool {
        let ValueSet { bytes, texts, numbers, sorted: [sorted_texts, sorted_numbers], .. } = self;
        sorted_texts.advance(texts, count, &|a, b| text(bytes, *a) < text(bytes, *b))
            & sorted_numbers.advance(numbers, count, &|a, b| a.total_cmp(b).is_lt())
    }

    /// The members, for a person, and whether the case of texts is ignored.
    pub(super) fn members(&self) -> (impl Iterator<Item = String> + '_, bool) {
        let others = ["null", "false", "true"].into_iter().zip(self.others);
        let others = others.filter(|(_, is_member)| *is_member).map(|(name, _)| name.to_owned());
        let numbers = self.numbers.iter().map(|number| crate::number::javascript(*number));
        let mut texts: Vec<&[u8]> = self.texts.iter().map(|range| text(&self.bytes, *range)).collect();
        texts.dedup();
        let texts = texts.into_iter().map(|text| format!("{:?}", String::from_utf8_lossy(text)));
        (texts.chain(numbers).chain(others), self.folded)
    }

    /// Whether `actual` is a member. A list counts as a member if one of its elements is.
    pub fn intersects(&self, actual: JsValue<'_>) -> bool {
        match actual {
            JsValue::List(elements) => elements.iter().any(|element| self.contain(JsValue::from(element))),
            _ => self.contain(actual),
        }
    }

    fn contain(&self, actual: JsValue<'_>) -> bool {
        let contain_text = |wanted: &str| {
            self.texts.binary_search_by(|range| text(&self.bytes, *range).cmp(wanted.as_bytes())).is_ok()
        };
        match actual {
            JsValue::Null => self.others[0],
            JsValue::Bool(false) => self.others[1],
            JsValue::Bool(true) => self.others[2],
            JsValue::Number(number) => {
                let number = without_negative_zero(number);
                self.numbers.binary_search_by(|member| member.total_cmp(&number)).is_ok()
            }
            JsValue::Text(text) if self.folded => contain_text(&lower_case(text)),
            JsValue::Text(text) => contain_text(text),
            JsValue::List(_) | JsValue::Object(_) => false,
        }
    }
}

/// The part of `bytes` from one position to another.
fn text(bytes: &[u8], (from, to): (u32, u32)) -> &[u8] {
    bytes.get(from as usize..to as usize).unwrap_or_default()
}

/// The total order distinguishes -0 from 0, JavaScript does not.
fn without_negative_zero(number: f64) -> f64 {
    number + 0.0
}
