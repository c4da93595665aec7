//! The payload: what GrowthBook's `/api/features/<key>` serves, compiled whole.

use super::decrypt::decrypt;
use super::experiment::{self, Attribute, Experiment, Parent};
use super::feature::{Bandits, Feature};
use super::redirect::{self, RedirectTest};
use super::wire::{Scope, text};
use crate::conditions::SavedGroups;
use crate::diagnostics::{Node, Path, Problems, Severity};
use edgesplit_engine::attribute::{AttributeName, AttributeValue, Attributes};
use edgesplit_engine::condition::StepBudget;
use edgesplit_engine::flag::Outcome;
use edgesplit_engine::snapshot::Disabled;
use edgesplit_engine::sort::sort_by;
use js_regex::STEPS_MAX;
use serde_json::Value;
use std::borrow::Cow;
use std::collections::HashMap;

/// Longer keys are refused: they would end in headers, metrics and events.
pub const KEY_BYTES_MAX: usize = 256;

/// How long a chain of features may be that are prerequisites of each other. It bounds the stack that deciding takes.
pub const PREREQUISITE_DEPTH_MAX: usize = 32;

/// Everything known of one payload: immutable, replaced whole.
#[derive(Debug, Default)]
pub struct Payload {
    pub(super) revision: Option<String>,
    pub(super) features: Vec<Feature>,
    pub(super) by_key: HashMap<String, usize>,
    pub(super) disabled: Vec<Disabled>,
    pub(super) redirects: Vec<RedirectTest>,
    pub(super) sticky_attributes: Vec<Attribute>,
}

/// What compiling found and made.
#[derive(Debug)]
pub struct Compiled {
    /// The payload; none where the document is refused whole.
    pub payload: Option<Payload>,
    /// Everything that is wrong, warnings included.
    pub problems: Problems,
}

/// Parses and compiles `bytes`. `key` decrypts what is encrypted in them.
pub fn compile_bytes(bytes: &[u8], key: Option<&str>) -> Compiled {
    match serde_json::from_slice::<Value>(bytes) {
        Ok(value) => compile(&value, key),
        Err(error) => {
            let mut problems = Problems::new();
            problems.error(&Path::Root, format!("not JSON: {error}"));
            Compiled { payload: None, problems }
        }
    }
}

/// Compiles the document `value`. `key` decrypts what is encrypted in it.
pub fn compile(value: &Value, key: Option<&str>) -> Compiled {
    compile_at(value, &Path::Root, key)
}

/// Compiles the document `value` that stands at `path` in another one.
pub fn compile_at(value: &Value, path: &Path<'_>, key: Option<&str>) -> Compiled {
    let mut problems = Problems::new();
    let payload = document(Node { value, path }, key, &mut problems);
    Compiled { payload, problems }
}

const FIELDS: &[&str] = &[
    "status",
    "features",
    "encryptedFeatures",
    "experiments",
    "encryptedExperiments",
    "savedGroups",
    "encryptedSavedGroups",
    "contextualBandits",
    "encryptedContextualBandits",
    "dateUpdated",
];

fn document(node: Node<'_>, key: Option<&str>, problems: &mut Problems) -> Option<Payload> {
    node.object(problems)?;
    node.unknown_fields(FIELDS, Severity::Warning, problems);
    // Decrypt everything before anything else: with the wrong key all of it fails.
    let features = part(node, "features", "encryptedFeatures", key, problems)?;
    let saved_groups = part(node, "savedGroups", "encryptedSavedGroups", key, problems)?;
    let bandits = part(node, "contextualBandits", "encryptedContextualBandits", key, problems)?;
    let experiments = part(node, "experiments", "encryptedExperiments", key, problems)?;
    let path = node.path.field("features");
    if features.is_null() {
        problems.error(&path, "missing; expected an object of features");
        return None;
    }
    let features = Node { value: &features, path: &path }.object(problems)?;
    let path = node.path.field("savedGroups");
    let saved_groups = match &*saved_groups {
        Value::Null => Value::Object(Default::default()),
        // Without its groups, what targets by them would be about other visitors.
        value => Value::Object(Node { value, path: &path }.object(problems)?.clone()),
    };
    let mut groups = SavedGroups::new(saved_groups);

    let mut scope = Scope::new(&mut groups);
    let revision = scope.member(node, "dateUpdated", text);
    let path = node.path.field("contextualBandits");
    let bandits = read_bandits(Node { value: &bandits, path: &path }, &mut scope);
    problems.append(scope.problems);

    let mut payload = Payload { revision, ..Payload::default() };
    let path = node.path.field("features");
    for (position, (key, value)) in features.iter().enumerate() {
        let path = path.field(key);
        let mut scope = Scope::new(&mut groups);
        if !(1..=KEY_BYTES_MAX).contains(&key.len()) {
            scope.problems.error(&path, format!("expected a key of 1 to {KEY_BYTES_MAX} bytes"));
        }
        let feature = Feature::compile(&mut scope, Node { value, path: &path }, key, position, &bandits);
        match feature.filter(|_| !scope.is_disabled()) {
            Some(feature) => payload.features.push(feature),
            None => payload.disabled.push(disabled(Some(key.clone()), position, &scope.problems)),
        }
        problems.append(scope.problems);
    }
    let path = node.path.field("experiments");
    redirect::compile(Node { value: &experiments, path: &path }, &mut groups, &mut payload, problems);
    payload.link(node.path, problems);
    payload.sticky_attributes = payload.find_sticky_attributes();
    Some(payload)
}

/// The member `name`, decrypted where it is encrypted, null where it is not there. None where it cannot be decrypted.
fn part<'a>(
    node: Node<'a>,
    name: &str,
    encrypted_name: &str,
    key: Option<&str>,
    problems: &mut Problems,
) -> Option<Cow<'a, Value>> {
    let path = node.path.field(encrypted_name);
    match node.value.get(encrypted_name) {
        None | Some(Value::Null) => Some(node.value.get(name).map_or(Cow::Owned(Value::Null), Cow::Borrowed)),
        Some(value) => {
            let encrypted = Node { value, path: &path }.string(problems)?;
            let Some(key) = key else {
                problems.error(&path, "is encrypted, and no key is configured");
                return None;
            };
            let plain = decrypt(encrypted, key).and_then(|text| serde_json::from_slice(text.as_bytes()).ok());
            if plain.is_none() {
                problems.error(&path, "cannot be decrypted to JSON with the configured key");
            }
            plain.map(Cow::Owned)
        }
    }
}

fn read_bandits(node: Node<'_>, scope: &mut Scope<'_>) -> Bandits {
    let mut bandits = Bandits::new();
    if node.value.is_null() {
        return bandits;
    }
    for (id, value) in node.object(&mut scope.problems).into_iter().flatten() {
        let path = node.path.field(id);
        let before = (scope.problems.errors(), scope.tolerated);
        let bandit = experiment::bandit(scope, Node { value, path: &path });
        let is_disabled = scope.problems.errors() - before.0 > scope.tolerated - before.1;
        bandits.push((id.clone(), bandit.filter(|_| !is_disabled)));
    }
    bandits
}

/// What is told of a part that is wrong.
pub(super) fn disabled(key: Option<String>, position: usize, problems: &Problems) -> Disabled {
    let first = problems.iter().find(|problem| problem.severity == Severity::Error);
    Disabled { key, position, problem: first.map(ToString::to_string).unwrap_or_default() }
}

impl Payload {
    /// The time of its last change, which is its name.
    pub fn revision(&self) -> Option<&str> {
        self.revision.as_deref()
    }

    /// The valid features, sorted by key.
    pub fn features(&self) -> &[Feature] {
        &self.features
    }

    /// The place of the feature `key` among the valid ones.
    pub fn feature(&self, key: &str) -> Option<usize> {
        self.by_key.get(key).copied()
    }

    /// The invalid features and experiments: switched off alone.
    pub fn disabled(&self) -> &[Disabled] {
        &self.disabled
    }

    /// The valid URL redirect tests, in the order of the payload.
    pub fn redirects(&self) -> &[RedirectTest] {
        &self.redirects
    }

    /// The names of the attributes that sticky buckets are kept by, sorted.
    pub fn sticky_attributes(&self) -> impl Iterator<Item = &str> {
        self.sticky_attributes.iter().map(|attribute| attribute.written.as_str())
    }

    /// Switches off what hangs on too long a chain of prerequisites, then ties every prerequisite to its feature.
    fn link(&mut self, root: &Path<'_>, problems: &mut Problems) {
        let path = root.field("features");
        let deep = super::prerequisites::too_deep(&self.features);
        let features = std::mem::take(&mut self.features);
        for (feature, deep) in features.into_iter().zip(deep) {
            if !deep {
                self.features.push(feature);
                continue;
            }
            let mut own = Problems::new();
            let message = format!("more than {PREREQUISITE_DEPTH_MAX} features are prerequisites of each other here");
            own.error(&path.field(&feature.key), message);
            self.disabled.push(disabled(Some(feature.key), feature.position, &own));
            problems.append(own);
        }
        self.by_key = self.features.iter().enumerate().map(|(at, feature)| (feature.key.clone(), at)).collect();
        let outcomes: Vec<Vec<Outcome>> = self.features.iter().map(|feature| feature.outcomes.clone()).collect();
        for Feature { key, rules, .. } in &mut self.features {
            let path = path.field(key);
            let path = path.field("rules");
            for (position, rule) in rules.iter_mut().enumerate() {
                tie(&mut rule.parents, &path.index(position), &self.by_key, &outcomes, problems);
            }
        }
        let path = root.field("experiments");
        for test in &mut self.redirects {
            tie(&mut test.experiment.parents, &path.index(test.position), &self.by_key, &outcomes, problems);
        }
    }

    /// Compiles one experiment that is no part of a payload, as the SDK's `run` takes it, beside the features of this one.
    pub fn experiment(
        &self,
        node: Node<'_>,
        saved_groups: &Value,
        problems: &mut Problems,
    ) -> Option<(Experiment, Vec<Outcome>)> {
        let mut groups = SavedGroups::new(saved_groups.clone());
        let mut scope = Scope::new(&mut groups);
        let values = scope
            .required(node, "variations", |scope, node| node.array(&mut scope.problems).map(<[Value]>::to_vec))
            .unwrap_or_default();
        let mut experiment = Experiment::compile_whole(&mut scope, node, &values).filter(|_| !scope.is_disabled());
        problems.append(scope.problems);
        if let Some(experiment) = &mut experiment {
            let outcomes: Vec<_> = self.features.iter().map(|feature| feature.outcomes.clone()).collect();
            tie(&mut experiment.parents, node.path, &self.by_key, &outcomes, problems);
        }
        experiment.map(|experiment| {
            let outcomes = experiment.outcomes(&values).collect();
            (experiment, outcomes)
        })
    }

    fn find_sticky_attributes(&self) -> Vec<Attribute> {
        let rules = self.features.iter().flat_map(|feature| &feature.rules);
        let of_rules = rules.filter_map(|rule| match &rule.kind {
            super::feature::RuleKind::Experiment(experiment, _) => Some(&**experiment),
            _ => None,
        });
        let of_tests = self.redirects.iter().map(|test| &test.experiment);
        let units = of_rules.chain(of_tests).map(|experiment| &experiment.unit);
        let attributes = units.flat_map(|unit| [Some(&unit.attribute), unit.fallback.as_ref()]).flatten();
        let mut attributes: Vec<&Attribute> = attributes.collect();
        sort_by(&mut attributes, |a, b| a.written < b.written);
        attributes.dedup_by(|a, b| a.written == b.written);
        attributes.into_iter().cloned().collect()
    }
}

/// Ties prerequisites to their features, and decides in advance which of those features' outcomes pass.
fn tie(
    parents: &mut [Parent],
    path: &Path<'_>,
    by_key: &HashMap<String, usize>,
    outcomes: &[Vec<Outcome>],
    problems: &mut Problems,
) {
    let path = path.field("parentConditions");
    for (position, parent) in parents.iter_mut().enumerate() {
        parent.feature = by_key.get(&parent.id).copied();
        let condition = parent.condition.as_ref();
        let passes = |value: &Value| match condition {
            // A value that exceeds the limit of work passes nothing, as it would not in a request.
            Some(condition) => condition.matches(&ParentValue(value), &StepBudget::new(STEPS_MAX)) == Ok(true),
            None => true,
        };
        match parent.feature.and_then(|at| outcomes.get(at)) {
            Some(outcomes) => parent.passes = outcomes.iter().map(|outcome| passes(&outcome.value)).collect(),
            None => {
                // Which the SDK decides by, so it disables nothing else.
                let message = format!("there is no valid feature {:?}: its value is null", parent.id);
                problems.error(&path.index(position).field("id"), message);
                parent.passes = vec![passes(&Value::Null)];
            }
        }
    }
}

/// What the condition of a prerequisite sees: the parent's value under the name `value`.
struct ParentValue<'v>(&'v Value);

impl Attributes for ParentValue<'_> {
    fn attribute<'a>(&'a self, name: &'a AttributeName) -> AttributeValue<'a> {
        let AttributeName::Named(name) = name else { return AttributeValue::Missing };
        let mut parts = name.split('.');
        let found = match parts.next() {
            Some("value") => parts.try_fold(self.0, |value, part| match value {
                Value::Array(list) => list.get(part.parse::<usize>().ok()?),
                value => value.get(part),
            }),
            _ => None,
        };
        found.map_or(AttributeValue::Missing, AttributeValue::Json)
    }
}
