//! Sticky buckets: the variations that a visitor got before, stored with the visitor.
//!
//! A document holds the assignments of one value of one attribute. GrowthBook's SDKs keep it in a cookie (or elsewhere)
//! called `gbStickyBuckets__` and the attribute's name and value joined by `||`.

use super::experiment::Sticky;
use serde_json::{Map, Value, json};

/// The start of the names of GrowthBook's cookies for sticky buckets.
pub const COOKIE_PREFIX: &str = "gbStickyBuckets__";

/// The assignments of one visitor, as one attribute names them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StickyDocument {
    /// The attribute's name.
    pub attribute: String,
    /// Its value.
    pub unit: String,
    /// The variation's key, a text, by the key of the experiment and its version, such as `checkout__0`.
    pub assignments: Map<String, Value>,
    /// Whether it was changed since it was read, and must be stored again.
    pub is_changed: bool,
}

/// All documents of one visitor.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StickyDocuments(Vec<StickyDocument>);

impl StickyDocument {
    /// Reads a document as GrowthBook's SDKs write it. None if it is not one.
    pub fn from_json(value: &Value) -> Option<StickyDocument> {
        let text = |name: &str| value.get(name)?.as_str().filter(|text| !text.is_empty());
        let mut assignments = Map::new();
        for (key, to) in value.get("assignments")?.as_object()? {
            if to.is_string() {
                assignments.insert(key.clone(), to.clone());
            }
        }
        Some(StickyDocument {
            attribute: text("attributeName")?.to_owned(),
            unit: text("attributeValue")?.to_owned(),
            assignments,
            is_changed: false,
        })
    }

    /// The document as GrowthBook's SDKs write it.
    pub fn to_json(&self) -> Value {
        json!({
            "attributeName": self.attribute.as_str(),
            "attributeValue": self.unit.as_str(),
            "assignments": self.assignments.clone(),
        })
    }

    /// The document's name: the attribute's name and value.
    pub fn key(&self) -> String {
        format!("{}||{}", self.attribute, self.unit)
    }
}

impl StickyDocuments {
    /// Adds a document; it takes the place of one of the same name.
    pub fn add(&mut self, document: StickyDocument) {
        self.0.retain(|other| (&other.attribute, &other.unit) != (&document.attribute, &document.unit));
        self.0.push(document);
    }

    /// All documents.
    pub fn iter(&self) -> impl Iterator<Item = &StickyDocument> {
        self.0.iter()
    }

    fn get(&self, attribute: &str, unit: &str) -> Option<&StickyDocument> {
        self.0.iter().find(|document| document.attribute == attribute && document.unit == unit)
    }

    /// The stored bucket of the experiment of `sticky`, by these values of its attribute and of its fallback.
    pub(super) fn lookup(&self, sticky: &Sticky, own: (&str, &str), fallback: Option<(&str, &str)>) -> Kept<'_> {
        let own = self.get(own.0, own.1);
        let fallback = fallback.and_then(|(attribute, unit)| self.get(attribute, unit));
        let both = || own.into_iter().chain(fallback);
        let before = |key: &str| sticky.version_of(key).is_some_and(|version| version < sticky.version_min);
        if sticky.version_min > 0 && both().flat_map(|document| document.assignments.keys()).any(|key| before(key)) {
            return Kept::Blocked;
        }
        // A bucket of the experiment's own attribute takes precedence.
        let variation = both().find_map(|document| document.assignments.get(&sticky.key)?.as_str());
        variation.map_or(Kept::Nothing, Kept::Variation)
    }

    /// Keeps the variation of the experiment under `key`.
    pub(super) fn keep(&mut self, attribute: &str, unit: &str, key: &str, variation: &str) {
        let at = self.0.iter().position(|document| document.attribute == attribute && document.unit == unit);
        let at = at.unwrap_or_else(|| {
            self.0.push(StickyDocument {
                attribute: attribute.to_owned(),
                unit: unit.to_owned(),
                assignments: Map::new(),
                is_changed: false,
            });
            self.0.len() - 1
        });
        if let Some(document) = self.0.get_mut(at)
            && document.assignments.get(key).is_none_or(|kept| kept != variation)
        {
            document.assignments.insert(key.to_owned(), variation.into());
            document.is_changed = true;
        }
    }
}

/// A visitor's sticky bucket of an experiment, as the documents have it.
pub(super) enum Kept<'a> {
    Nothing,
    /// A variation's key.
    Variation(&'a str),
    /// A bucket of a version whose visitors are out.
    Blocked,
}

impl Sticky {
    /// The version that `key` is of, if it is a key of the same experiment.
    fn version_of(&self, key: &str) -> Option<u64> {
        let (experiment, _) = self.key.rsplit_once("__")?;
        let version = key.strip_prefix(experiment)?.strip_prefix("__")?;
        let number: u64 = version.parse().ok()?;
        (number.to_string() == version).then_some(number)
    }
}
