//! Compiles a payload, as GrowthBook's `/api/features/<key>` serves it, element by element.

use super::decrypt::decrypt;
use super::experiment;
use super::feature::{Bandits, Feature};
use super::payload::Payload;
use super::prerequisites::{depends_on, tie, undecidable};
use super::redirect::{self, RedirectTest};
use super::wire::{Scope, text};
use crate::conditions::SavedGroups;
use crate::diagnostics::{Node, Path, Problems};
use crate::document::KEY_BYTES_MAX;
use crate::stepwise::size;
use edgesplit_engine::json;
use edgesplit_engine::snapshot::Disabled;
use serde_json::Value;
use std::collections::HashSet;

/// The result of compiling a payload.
#[derive(Debug)]
pub struct Compiled {
    /// The payload; none if the document is refused as a whole.
    pub payload: Option<Payload>,
    /// All problems, warnings included.
    pub problems: Problems,
}

/// Compiles the payload in `bytes`. `key` decrypts its encrypted parts.
pub fn compile_bytes(bytes: &[u8], key: Option<&str>) -> Compiled {
    match json::read(bytes) {
        Ok(value) => compile(&value, key),
        Err(error) => {
            let mut problems = Problems::new();
            problems.error(&Path::Root, format!("not JSON: {error}"));
            Compiled { payload: None, problems }
        }
    }
}

/// Compiles the payload `value`. `key` decrypts its encrypted parts.
pub fn compile(value: &Value, key: Option<&str>) -> Compiled {
    let mut problems = Problems::new();
    let mut draft = Draft::new(key);
    while draft.step(Node::root(value), &mut problems).is_some() {}
    Compiled { payload: draft.finish(), problems }
}

/// The approximate bytes of config that take as long as the head of a payload.
const HEAD_BYTES: usize = 8 << 10;

/// A payload that is being compiled.
#[derive(Default)]
pub(super) struct Draft {
    stage: Stage,
    key: Option<String>,
    /// The decrypted parts, if they are encrypted.
    decrypted_features: Option<Value>,
    decrypted_experiments: Option<Value>,
    /// The keys of all features.
    keys: Vec<String>,
    /// The keys of the disabled features.
    disabled: HashSet<String>,
    groups: SavedGroups,
    bandits: Bandits,
    payload: Payload,
}

/// The part of a payload that is compiled next.
#[derive(Debug, Default)]
enum Stage {
    #[default]
    Head,
    /// The feature with this number.
    Feature(usize),
    /// The experiment with this number.
    Experiment(usize),
    /// The features that depend on each other.
    Dependencies,
    /// The prerequisites of the valid feature with this number.
    Tie(usize),
    Refused,
    Done,
}

impl Draft {
    /// Begins with nothing.
    pub(super) fn new(key: Option<&str>) -> Draft {
        Draft { key: key.map(str::to_owned), ..Draft::default() }
    }

    /// Compiles the next element of the payload at `node`, and gives its approximate size; none if nothing is left.
    pub(super) fn step(&mut self, node: Node<'_>, problems: &mut Problems) -> Option<usize> {
        let (next, bytes) = match self.stage {
            Stage::Head => match self.read_head(node, problems) {
                Some(()) => (Stage::Feature(0), HEAD_BYTES),
                None => (Stage::Refused, 0),
            },
            Stage::Feature(number) => match self.read_feature(number, node, problems) {
                Some(bytes) => (Stage::Feature(number + 1), bytes),
                None => (Stage::Experiment(0), 0),
            },
            Stage::Experiment(number) => match self.read_experiment(number, node, problems) {
                Some(bytes) => (Stage::Experiment(number + 1), bytes),
                None => (Stage::Dependencies, 0),
            },
            Stage::Dependencies => {
                self.disable_undecidable(node.path, problems);
                (Stage::Tie(0), self.payload.features.len() / 4)
            }
            Stage::Tie(number) => match self.tie_feature(number, node.path, problems) {
                Some(bytes) => (Stage::Tie(number + 1), bytes),
                None => {
                    self.tie_redirects(node.path, problems);
                    self.payload.sticky_attributes = self.payload.find_sticky_attributes();
                    (Stage::Done, 0)
                }
            },
            Stage::Refused | Stage::Done => return None,
        };
        self.stage = next;
        Some(bytes)
    }

    /// The compiled payload; none if it is refused as a whole.
    pub(super) fn finish(self) -> Option<Payload> {
        matches!(self.stage, Stage::Done).then_some(self.payload)
    }

    fn read_head(&mut self, node: Node<'_>, problems: &mut Problems) -> Option<()> {
        node.object(problems)?;
        // Everything is decrypted first, because the wrong key spoils all of it.
        let mut decrypt = |name| decrypted(node, name, self.key.as_deref(), problems);
        self.decrypted_features = decrypt("encryptedFeatures")?;
        let groups = decrypt("encryptedSavedGroups")?;
        let bandits = decrypt("encryptedContextualBandits")?;
        self.decrypted_experiments = decrypt("encryptedExperiments")?;
        let path = node.path.field("features");
        match part(&self.decrypted_features, node, "features") {
            None => {
                problems.error(&path, "missing; expected an object of features");
                return None;
            }
            Some(value) => self.keys = Node { value, path: &path }.object(problems)?.keys().cloned().collect(),
        }
        self.payload.feature_count = self.keys.len();
        self.payload.features.reserve_exact(self.keys.len());
        self.payload.by_key.reserve(self.keys.len());
        let path = node.path.field("savedGroups");
        let groups = match part(&groups, node, "savedGroups") {
            None => Value::Object(Default::default()),
            // Without its groups, a condition that names one would be about other visitors.
            Some(value) => Value::Object(Node { value, path: &path }.object(problems)?.clone()),
        };
        self.groups = SavedGroups::new(groups);
        let mut scope = Scope::new(&mut self.groups);
        self.payload.revision = scope.member(node, "dateUpdated", text);
        let path = node.path.field("contextualBandits");
        if let Some(value) = part(&bandits, node, "contextualBandits") {
            self.bandits = read_bandits(Node { value, path: &path }, &mut scope);
        }
        problems.append(scope.problems);
        Some(())
    }

    fn read_feature(&mut self, position: usize, node: Node<'_>, problems: &mut Problems) -> Option<usize> {
        // Each key is freed with its feature: freeing all of them at once would take long.
        let key = &std::mem::take(self.keys.get_mut(position)?);
        let value = part(&self.decrypted_features, node, "features")?.get(key)?;
        let list = node.path.field("features");
        let path = list.field(key);
        let mut scope = Scope::new(&mut self.groups);
        if !(1..=KEY_BYTES_MAX).contains(&key.len()) {
            scope.problems.error(&path, format!("expected a key of 1 to {KEY_BYTES_MAX} bytes"));
        }
        let feature = Feature::compile(&mut scope, Node { value, path: &path }, key, position, &self.bandits);
        match feature.filter(|_| !scope.is_disabled()) {
            Some(feature) => {
                self.payload.by_key.insert(feature.key.clone(), self.payload.features.len());
                self.payload.features.push(feature);
            }
            None => {
                self.disabled.insert(key.clone());
                self.payload.disabled.push(disabled(Some(key.clone()), position, &scope.problems));
            }
        }
        problems.append(scope.problems);
        Some(size(value))
    }

    fn read_experiment(&mut self, position: usize, node: Node<'_>, problems: &mut Problems) -> Option<usize> {
        let path = node.path.field("experiments");
        let value = part(&self.decrypted_experiments, node, "experiments")?;
        let Some(list) = value.as_array() else {
            Node { value, path: &path }.expected(problems, "a list");
            return None;
        };
        let value = list.get(position)?;
        let mut scope = Scope::new(&mut self.groups);
        let test = redirect::read(&mut scope, Node { value, path: &path.index(position) }, position);
        if scope.is_disabled() {
            let key = value.get("key").and_then(Value::as_str).map(str::to_owned);
            self.payload.disabled.push(disabled(key, self.payload.feature_count + position, &scope.problems));
        } else {
            self.payload.redirects.extend(test);
        }
        problems.append(scope.problems);
        Some(size(value))
    }

    /// Disables the features that cannot be decided, and the redirect tests that depend on a disabled feature.
    fn disable_undecidable(&mut self, root: &Path<'_>, problems: &mut Problems) {
        let (features, experiments) = (root.field("features"), root.field("experiments"));
        let count = self.payload.feature_count;
        let payload = &mut self.payload;
        let found = undecidable(&payload.features, &payload.by_key, &self.disabled);
        if self.disabled.is_empty() && found.iter().all(Option::is_none) {
            return;
        }
        let mut disable = |path: &Path<'_>, key: &str, position, problem: String| {
            let mut own = Problems::new();
            own.error(path, problem);
            payload.disabled.push(disabled(Some(key.to_owned()), position, &own));
            problems.append(own);
        };
        payload.by_key.clear();
        for (feature, problem) in std::mem::take(&mut payload.features).into_iter().zip(found) {
            if let Some(problem) = problem {
                disable(&features.field(&feature.key), &feature.key, feature.position, problem);
                self.disabled.insert(feature.key);
                continue;
            }
            payload.by_key.insert(feature.key.clone(), payload.features.len());
            payload.features.push(feature);
        }
        payload.redirects.retain(|RedirectTest { experiment, position, .. }| {
            let parent = experiment.parents.iter().find(|parent| self.disabled.contains(&parent.id));
            if let Some(parent) = parent {
                disable(&experiments.index(*position), &experiment.key, count + position, depends_on(&parent.id));
            }
            parent.is_none()
        });
    }

    fn tie_feature(&mut self, number: usize, root: &Path<'_>, problems: &mut Problems) -> Option<usize> {
        let Payload { features, by_key, .. } = &mut self.payload;
        let feature = features.get_mut(number)?;
        let (list, key) = (root.field("features"), feature.key.clone());
        let path = list.field(&key);
        let path = path.field("rules");
        // A prerequisite may be the feature itself, but needs no rules of it.
        let mut rules = std::mem::take(&mut feature.rules);
        for (position, rule) in rules.iter_mut().enumerate() {
            tie(&mut rule.parents, &path.index(position), by_key, features, problems);
        }
        let bytes = rules.len() * 64;
        if let Some(feature) = features.get_mut(number) {
            feature.rules = rules;
        }
        Some(bytes)
    }

    fn tie_redirects(&mut self, root: &Path<'_>, problems: &mut Problems) {
        let path = root.field("experiments");
        let Payload { features, redirects, by_key, .. } = &mut self.payload;
        for test in redirects {
            tie(&mut test.experiment.parents, &path.index(test.position), by_key, features, problems);
        }
    }
}

/// A part of the payload: the decrypted one, else the member `name`. None if it is missing or null.
fn part<'a>(decrypted: &'a Option<Value>, node: Node<'a>, name: &str) -> Option<&'a Value> {
    decrypted.as_ref().or_else(|| node.value.get(name)).filter(|value| !value.is_null())
}

/// The decrypted member `name`, if it is encrypted. None if it cannot be decrypted.
fn decrypted(node: Node<'_>, name: &str, key: Option<&str>, problems: &mut Problems) -> Option<Option<Value>> {
    let path = node.path.field(name);
    match node.value.get(name) {
        None | Some(Value::Null) => Some(None),
        Some(value) => {
            let encrypted = Node { value, path: &path }.string(problems)?;
            let Some(key) = key else {
                problems.error(&path, "is encrypted, and no key is configured");
                return None;
            };
            let plain = decrypt(encrypted, key).and_then(|text| json::read(text.as_bytes()).ok());
            if plain.is_none() {
                problems.error(&path, "cannot be decrypted to JSON with the configured key");
            }
            plain.map(Some)
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

/// The entry of a part that is disabled.
fn disabled(key: Option<String>, position: usize, problems: &Problems) -> Disabled {
    Disabled { key, position, problem: problems.first_error() }
}
