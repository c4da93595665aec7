//! Flags: JSON to [`Flag`].

use super::condition::Condition;
use super::flag::{Allocation, DEFAULT, ERROR, Flag, Report, Shard, Split};
use crate::diagnostics::Node;
use crate::moment;
use crate::scope::Scope;
use crate::stepwise::{CONFIG_OUTCOME_BYTES_MAX, FLAG_OUTCOME_BYTES_MAX, OUTCOME_SIZE, size};
use edgesplit_engine::flag::Outcome;
use edgesplit_engine::json;
use edgesplit_engine::reason::Reason;
use serde_json::{Map, Value};
use std::collections::HashMap;

/// The variations with the values that are valid, and the sizes of those.
type Variations = Vec<(String, Option<(usize, Value)>)>;

/// The flag that is being read.
pub(super) struct Reader<'r> {
    pub(super) is_datadog: bool,
    /// How many bytes the outcomes of all flags may still take.
    pub(super) outcome_bytes_left: &'r mut usize,
    /// The flag's own key, which the keys of its experiments begin with.
    key: String,
    total_shards: u32,
    variations: Variations,
    /// Their positions by their keys.
    by_key: HashMap<String, usize>,
    outcomes: Vec<Outcome>,
    reports: Vec<Report>,
    /// The bytes of the outcomes.
    bytes: usize,
    /// Whether a value or a variation is missing.
    has_error: bool,
}

impl<'r> Reader<'r> {
    pub(super) fn new(is_datadog: bool, outcome_bytes_left: &'r mut usize) -> Reader<'r> {
        let none = Outcome { variant: None, experiment: None, value: Value::Null, in_experiment: false };
        Reader {
            is_datadog,
            outcome_bytes_left,
            key: String::new(),
            total_shards: 0,
            variations: Vec::new(),
            by_key: HashMap::new(),
            outcomes: vec![none],
            reports: Vec::new(),
            bytes: 0,
            has_error: false,
        }
    }

    /// Reads the flag under `key` at `node`. None if the flag is disabled.
    pub(super) fn flag(mut self, scope: &mut Scope<'_>, node: Node<'_>, key: &str) -> Option<Flag> {
        let read = self.read(scope, node).filter(|_| !scope.is_disabled());
        let (enabled, allocations) = match read {
            Some(read) => read,
            None if self.is_datadog => (true, Vec::new()),
            None => return None,
        };
        let fixed = match enabled {
            false => Some(Reason::Disabled),
            true if scope.is_disabled() => Some(DEFAULT),
            true => (self.is_datadog && self.has_error).then_some(ERROR),
        };
        if fixed.is_some() {
            self.outcomes.truncate(1);
        }
        let (outcomes, reports) = (self.outcomes, self.reports);
        Some(Flag { key: key.to_owned(), fixed, allocations, outcomes, reports })
    }

    fn read(&mut self, scope: &mut Scope<'_>, node: Node<'_>) -> Option<(bool, Vec<Allocation>)> {
        node.object(&mut scope.problems)?;
        self.key = scope.required_text(node, "key")?;
        let enabled = scope.required(node, "enabled", |scope, node| node.boolean(&mut scope.problems))?;
        let kind = scope.required_text(node, "variationType")?;
        if !["STRING", "INTEGER", "NUMERIC", "BOOLEAN", "JSON"].contains(&kind.as_str()) {
            scope.problems.error(&node.path.field("variationType"), format_args!("unknown type {kind:?}"));
            return None;
        }
        if !self.is_datadog {
            self.total_shards = scope.required(node, "totalShards", shards)?;
        }
        self.variations = scope.required(node, "variations", |scope, node| self.variations(scope, node, &kind))?;
        let allocations = scope.required(node, "allocations", |scope, node| {
            scope.list(node, |scope, node| self.allocation(scope, node))
        })?;
        if self.bytes > FLAG_OUTCOME_BYTES_MAX.min(*self.outcome_bytes_left) {
            let message = format!(
                "the values of its splits take over {FLAG_OUTCOME_BYTES_MAX} bytes, or those of all flags over \
                 {CONFIG_OUTCOME_BYTES_MAX}"
            );
            scope.problems.error(node.path, message);
            return None;
        }
        *self.outcome_bytes_left -= self.bytes;
        Some((enabled, allocations))
    }

    fn variations(&mut self, scope: &mut Scope<'_>, node: Node<'_>, kind: &str) -> Option<Variations> {
        let mut variations = Vec::new();
        for (name, value) in node.object(&mut scope.problems)? {
            let path = node.path.field(name);
            let node = Node { value, path: &path };
            let key = scope.required_text(node, "key")?;
            let Some(value) = node.value.get("value") else {
                scope.problems.error(&path.field("value"), "missing");
                return None;
            };
            let read = self.value(kind, value);
            if read.is_none() {
                self.tolerate(scope, Node { value, path: &path.field("value") }, kind);
            }
            self.by_key.entry(key.clone()).or_insert(variations.len());
            variations.push((key, read.map(|value| (size(&value), value))));
        }
        Some(variations)
    }

    /// A value of the type `kind`, if it is one.
    fn value(&self, kind: &str, value: &Value) -> Option<Value> {
        let is_valid = match kind {
            "STRING" => value.is_string(),
            "INTEGER" => value.is_i64(),
            "NUMERIC" => return value.as_f64().map(Value::from),
            "BOOLEAN" => value.is_boolean(),
            _ if self.is_datadog => true,
            _ => return json::read(value.as_str()?.as_bytes()).ok(),
        };
        // To Eppo, 3.0 is an integer too.
        let is_whole = |number: &f64| !self.is_datadog && kind == "INTEGER" && number.fract() == 0.0;
        let whole = value.as_f64().filter(is_whole).map(|number| Value::from(number as i64));
        if is_valid { Some(value.clone()) } else { whole }
    }

    /// Reports a value or a variation for which the SDK has a meaning: the decisions that need it are errors.
    fn tolerate(&mut self, scope: &mut Scope<'_>, node: Node<'_>, expected: &str) {
        let before = scope.problems.errors();
        node.expected(&mut scope.problems, &format!("{expected}; decisions that need it are errors"));
        scope.tolerated += scope.problems.errors() - before;
        self.has_error = true;
    }

    fn allocation(&mut self, scope: &mut Scope<'_>, node: Node<'_>) -> Option<Allocation> {
        let key = scope.required_text(node, "key")?;
        let start = scope.member(node, "startAt", micros);
        let end = scope.member(node, "endAt", micros);
        let rules = scope.member(node, "rules", |scope, node| {
            scope.list(node, |scope, node| {
                scope.required(node, "conditions", |scope, node| {
                    scope.list(node, |scope, node| Condition::compile(scope, node, self.is_datadog))
                })
            })
        });
        let do_log = scope.member(node, "doLog", |scope, node| node.boolean(&mut scope.problems)).unwrap_or(true);
        let (rules, is_dated) = (rules.unwrap_or_default(), start.is_some() || end.is_some());
        let splits = scope.required(node, "splits", |scope, node| {
            let is_only = node.value.as_array().is_some_and(|splits| splits.len() == 1);
            scope.list(node, |scope, node| {
                let (mut split, has_shards) = self.split(scope, node, &key, do_log)?;
                split.reason = Reason::Vendor(match rules.is_empty() {
                    false => "targeting_match",
                    true if is_dated && is_only && split.shards.is_empty() => "default",
                    true if is_only && !has_shards => "static",
                    true => "split",
                });
                Some(split)
            })
        })?;
        // Requests know the time in milliseconds.
        let start_ms = start.map(|start| start.saturating_add(999).div_euclid(1_000));
        Some(Allocation { key, start_ms, end_ms: end.map(|end| end.div_euclid(1_000)), rules, splits })
    }

    /// A split, without its reason, and whether it has shards at all.
    fn split(
        &mut self,
        scope: &mut Scope<'_>,
        node: Node<'_>,
        allocation: &str,
        do_log: bool,
    ) -> Option<(Split, bool)> {
        let variation = scope.required_text(node, "variationKey")?;
        let mut extra = Map::new();
        if self.is_datadog {
            let number = node.value.get("serialId").filter(|id| id.is_i64());
            number.and_then(|number| extra.insert("serial_id".to_owned(), number.clone()));
        } else {
            let own = scope.member(node, "extraLogging", |scope, node| node.object(&mut scope.problems).cloned());
            extra = own.unwrap_or_default();
        }
        let mut shards =
            scope.required(node, "shards", |scope, node| scope.list(node, |scope, node| self.shard(scope, node)))?;
        let has_shards = !shards.is_empty();
        shards.retain(|shard| !shard.ranges.contains(&(0, shard.total)));
        let found = self.by_key.get(&variation).copied();
        if found.is_none() {
            let path = node.path.field("variationKey");
            let value = node.value.get("variationKey").unwrap_or(&Value::Null);
            self.tolerate(scope, Node { value, path: &path }, "a key of `variations`");
        }
        let outcome = found.and_then(|position| self.outcome(position, allocation, do_log, extra));
        Some((Split { shards, outcome, reason: DEFAULT }, has_shards))
    }

    /// Adds an outcome with the variation at `position`, and gives its own position. None if the variation has no valid value.
    fn outcome(
        &mut self,
        position: usize,
        allocation: &str,
        in_experiment: bool,
        extra: Map<String, Value>,
    ) -> Option<usize> {
        let (variation, value) = self.variations.get(position)?;
        let (bytes, value) = value.as_ref()?;
        self.bytes += OUTCOME_SIZE + bytes;
        if self.bytes > FLAG_OUTCOME_BYTES_MAX {
            // The flag is disabled.
            return Some(0);
        }
        let (variation, value) = (variation.clone(), value.clone());
        let experiment = Some(format!("{}-{allocation}", self.key));
        self.outcomes.push(Outcome { variant: Some(variation), experiment, value, in_experiment });
        self.reports.push(Report { allocation: allocation.to_owned(), extra });
        Some(self.outcomes.len() - 1)
    }

    fn shard(&self, scope: &mut Scope<'_>, node: Node<'_>) -> Option<Shard> {
        let salt = scope.required_text(node, "salt")?;
        let total = if self.is_datadog { scope.required(node, "totalShards", shards)? } else { self.total_shards };
        let ranges = scope.required(node, "ranges", |scope, node| {
            scope.list(node, |scope, node| {
                let start = scope.required(node, "start", bound)?;
                Some((start, scope.required(node, "end", bound)?))
            })
        })?;
        Some(Shard { salt, total, ranges })
    }
}

fn bound(scope: &mut Scope<'_>, node: Node<'_>) -> Option<u32> {
    u32::try_from(node.integer(0..=u64::from(u32::MAX), &mut scope.problems)?).ok()
}

fn shards(scope: &mut Scope<'_>, node: Node<'_>) -> Option<u32> {
    u32::try_from(node.integer(1..=u64::from(u32::MAX), &mut scope.problems)?).ok()
}

fn micros(scope: &mut Scope<'_>, node: Node<'_>) -> Option<i64> {
    let micros = node.value.as_str().and_then(moment::micros);
    if micros.is_none() {
        node.expected(&mut scope.problems, "a time in RFC 3339");
    }
    micros
}
