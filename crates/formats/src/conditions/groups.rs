//! Saved groups: lists and conditions that a payload holds once and conditions name by id.

use edgesplit_engine::condition::CONFIG_INSTRUCTIONS_MAX;
use edgesplit_engine::condition::value::ValueSet;
use js_regex::JsRegex;
use serde_json::Value;
use std::collections::HashMap;
use std::sync::Arc;

/// The saved groups of a payload. A list is brought into searchable form once, however often it is named.
#[derive(Debug, Default)]
pub struct SavedGroups {
    groups: Value,
    lists: Vec<Arc<ValueSet>>,
    /// The position of each group's list, by the group's id.
    by_id: HashMap<String, usize>,
    /// How many instructions the patterns of the conditions have that were compiled with these groups.
    instructions: usize,
}

/// The value under an id.
pub(super) enum Group {
    /// A list, with its attribute, if it names one.
    List(Arc<ValueSet>, Option<String>),
    /// A list without a type, which only `$inGroup` and `$notInGroup` read.
    Plain(Arc<ValueSet>),
    /// A condition.
    Condition(Value),
    /// Nothing.
    Absent,
    /// An unreadable value.
    Malformed,
}

impl SavedGroups {
    /// The groups in `groups`, by id; null where there are none at all.
    pub fn new(groups: Value) -> SavedGroups {
        SavedGroups { groups, ..SavedGroups::default() }
    }

    /// Counts the instructions of a pattern. False if all patterns together exceed [`CONFIG_INSTRUCTIONS_MAX`] with it.
    pub(crate) fn has_room_for(&mut self, pattern: &JsRegex) -> bool {
        self.instructions += pattern.instructions();
        self.instructions <= CONFIG_INSTRUCTIONS_MAX
    }

    /// Whether the payload has no groups at all.
    pub(super) fn are_missing(&self) -> bool {
        self.groups.is_null()
    }

    pub(super) fn get(&mut self, id: &str) -> Group {
        let Some(group) = self.groups.get(id) else { return Group::Absent };
        // A group is a list itself, or has a type.
        let (values, attribute) = match group.get("type").and_then(Value::as_str) {
            Some("list") => (group.get("values"), group.get("attributeKey").and_then(Value::as_str)),
            Some("condition") => {
                let condition = group.get("condition").filter(|condition| condition.is_object());
                return condition.map_or(Group::Malformed, |condition| Group::Condition(condition.clone()));
            }
            _ => (Some(group), None),
        };
        let Some(values) = values.and_then(Value::as_array) else { return Group::Malformed };
        let members = match self.by_id.get(id).and_then(|&at| self.lists.get(at)) {
            Some(members) => members.clone(),
            None => {
                let members = Arc::new(ValueSet::new(values, false));
                self.by_id.insert(id.to_owned(), self.lists.len());
                self.lists.push(members.clone());
                members
            }
        };
        if group.is_array() { Group::Plain(members) } else { Group::List(members, attribute.map(str::to_owned)) }
    }
}
