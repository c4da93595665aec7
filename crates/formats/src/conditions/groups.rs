//! Saved groups, and other things that the conditions of a config share.
//!
//! Saved groups are lists and conditions that a payload holds once and conditions name by id.

use edgesplit_engine::condition::CONFIG_INSTRUCTIONS_MAX;
use edgesplit_engine::condition::value_set::ValueSet;
use js_regex::{CompileError, INSTRUCTIONS_MAX, JsRegex};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::Arc;

/// How many instructions the patterns of one element of a config may have together, and how many tests its conditions.
/// They bound the time of compiling it.
pub(super) const ELEMENT_INSTRUCTIONS_MAX: usize = 64_000;
pub(super) const ELEMENT_TESTS_MAX: usize = 20_000;

/// How many instructions are compiled in the time of refusing an invalid pattern.
const INVALID_INSTRUCTIONS: usize = 64;

/// How many tests the conditions of a config may have together. It bounds their memory: a saved group's tests count as often
/// as it is named.
pub(super) const CONFIG_TESTS_MAX: usize = 2_000_000;

/// How many bytes of config are compiled in the time of compiling a test.
const TEST_BYTES: usize = 8;
/// How many instructions are compiled in the time of compiling a byte of config.
const INSTRUCTIONS_PER_BYTE: usize = 4;

/// How many bytes of config are compiled in the time of reading a value of a list, or of moving it to its place.
const VALUE_BYTES: usize = 32;
/// How many values are read or moved at a time.
const VALUES_PER_STEP: usize = 1_024;

/// The saved groups of a payload, and the tests and patterns of all conditions. A list is brought into searchable form once,
/// however often it is named.
#[derive(Debug, Default)]
pub struct SavedGroups {
    /// Whether the payload has no groups at all.
    pub(super) are_missing: bool,
    groups: Vec<Group>,
    /// The position of each group by its id.
    by_id: HashMap<String, usize>,
    /// The list that is being prepared.
    list: Option<(usize, ValueSet)>,
    /// How many tests and instructions there are so far.
    total: Work,
    element: Work,
}

/// The tests and the patterns' instructions of conditions.
#[derive(Debug, Clone, Copy, Default)]
struct Work {
    tests: usize,
    instructions: usize,
}

/// The value under an id.
#[derive(Debug, Clone)]
pub(super) enum Group {
    /// A list, with its attribute, if it names one.
    List(Arc<ValueSet>, Option<String>),
    /// A list without a type, which only `$inGroup` and `$notInGroup` read.
    Plain(Arc<ValueSet>),
    /// A condition.
    Condition(Arc<Value>),
    /// Nothing.
    Absent,
    /// An unreadable value.
    Malformed,
}

/// The reason why a pattern is not compiled.
pub(crate) enum PatternError {
    Compile(CompileError),
    /// The patterns of the element or of the config have too many instructions.
    TooMany(String),
}

impl SavedGroups {
    /// The groups in `groups`, by id; null where there are none at all.
    pub fn new(groups: &Value) -> SavedGroups {
        let mut all = SavedGroups { are_missing: groups.is_null(), ..SavedGroups::default() };
        for (id, group) in groups.as_object().into_iter().flatten() {
            while !all.prepare(id, group).1 {}
        }
        all
    }

    /// Prepares the next part of the group `id`. Gives the bytes of config that are compiled in the same time, and whether
    /// the group is complete.
    pub(crate) fn prepare(&mut self, id: &str, group: &Value) -> (usize, bool) {
        // A group is a list itself, or has a type.
        let (values, attribute) = match group.get("type").and_then(Value::as_str) {
            Some("list") => (group.get("values"), group.get("attributeKey").and_then(Value::as_str)),
            Some("condition") => {
                let condition = group.get("condition").filter(|condition| condition.is_object()).cloned();
                let group = condition.map_or(Group::Malformed, |condition| Group::Condition(condition.into()));
                self.add(id, group);
                return (1, true);
            }
            _ => (Some(group), None),
        };
        let Some(values) = values.and_then(Value::as_array) else {
            self.add(id, Group::Malformed);
            return (1, true);
        };
        let (from, set) = self.list.get_or_insert_default();
        let count = VALUES_PER_STEP.min(values.len());
        let part = values.get(*from..values.len().min(*from + count)).unwrap_or_default();
        if !part.is_empty() {
            *from += part.len();
            set.extend(part);
            return (count * VALUE_BYTES, false);
        }
        if !set.sort(count) {
            return (count * VALUE_BYTES, false);
        }
        let set = self.list.take().map(|(_, set)| set).unwrap_or_default();
        let (set, is_plain) = (set.into(), group.is_array());
        self.add(id, if is_plain { Group::Plain(set) } else { Group::List(set, attribute.map(str::to_owned)) });
        (count * VALUE_BYTES, true)
    }

    fn add(&mut self, id: &str, group: Group) {
        self.by_id.insert(id.to_owned(), self.groups.len());
        self.groups.push(group);
    }

    pub(super) fn get(&self, id: &str) -> Group {
        self.by_id.get(id).and_then(|&at| self.groups.get(at)).cloned().unwrap_or(Group::Absent)
    }

    /// Begins the next element of the config.
    pub(crate) fn begin_element(&mut self) {
        self.element = Work::default();
    }

    /// The bytes of config that are compiled in the time that the tests and patterns of the element took.
    pub(crate) fn element_bytes(&self) -> usize {
        self.element.tests * TEST_BYTES + self.element.instructions / INSTRUCTIONS_PER_BYTE
    }

    /// Counts a test. False if the element or the config has too many.
    pub(super) fn count_test(&mut self) -> bool {
        self.total.tests += 1;
        self.element.tests += 1;
        self.element.tests <= ELEMENT_TESTS_MAX && self.total.tests <= CONFIG_TESTS_MAX
    }

    /// Compiles a pattern, unless the patterns before it are too many already.
    pub(crate) fn pattern(&mut self, pattern: &str, ignore_case: bool) -> Result<JsRegex, PatternError> {
        let limits = [
            (self.element.instructions, ELEMENT_INSTRUCTIONS_MAX, "experiment or flag"),
            (self.total.instructions, CONFIG_INSTRUCTIONS_MAX, "config"),
        ];
        if let Some((_, max, whole)) = limits.iter().find(|(instructions, max, _)| instructions > max) {
            return Err(PatternError::TooMany(format!(
                "the patterns of the {whole} before this one take {max} instructions"
            )));
        }
        let compiled = JsRegex::compile(pattern, ignore_case);
        let instructions = match &compiled {
            Ok(regex) => regex.instructions(),
            Err(CompileError::TooLarge(_)) => INSTRUCTIONS_MAX,
            Err(_) => INVALID_INSTRUCTIONS,
        };
        self.element.instructions += instructions;
        self.total.instructions += instructions;
        compiled.map_err(PatternError::Compile)
    }

    /// The entries, each dropped as it is iterated over.
    pub(crate) fn into_entries(self) -> impl Iterator<Item = ()> {
        self.groups.into_iter().map(drop).chain(self.by_id.into_iter().map(drop))
    }
}
