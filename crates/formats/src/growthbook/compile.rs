//! Compiles a payload, as GrowthBook's `/api/features/<key>` serves it, element by element.

mod dependents;

use super::decrypt::Decryption;
use super::experiment;
use super::feature::{Bandits, Feature, RULE_BYTES_PER_STEP, RuleKind};
use super::payload::{Payload, STICKY_ATTRIBUTES_MAX};
use super::prerequisites::Dependencies;
use super::redirect::{self, RedirectTest};
use super::tie::PAYLOAD_TIE_STEPS_MAX;
use super::wire::{Scope, text};
use crate::conditions::SavedGroups;
use crate::diagnostics::{Node, Path, Problems};
use crate::document::KEY_BYTES_MAX;
use crate::reading::Reading;
use crate::splitter::Malformed;
use crate::stepwise::{KEYS_PER_STEP, Leftovers, size};
use edgesplit_engine::snapshot::Disabled;
use serde_json::{Map, Value};
use std::collections::HashSet;
use std::sync::Arc;

/// How many bytes of config are compiled in the time of following a prerequisite, moving a feature and tying its
/// prerequisites without any steps.
const EDGE_BYTES: usize = 4;
const MOVE_BYTES: usize = 16;
const TIE_BYTES: usize = 16;
/// How many steps of tying are taken in the time of compiling a byte.
const TIE_STEPS_PER_BYTE: usize = 8;

/// The result of compiling a payload.
#[derive(Debug)]
pub struct Compiled {
    /// The payload; none if the document is refused as a whole.
    pub payload: Option<Payload>,
    /// All problems, warnings included.
    pub problems: Problems,
}

/// Compiles the payload `value`. `key` decrypts its encrypted parts.
pub fn compile(value: &Value, key: Option<&str>) -> Compiled {
    let mut problems = Problems::new();
    let mut draft = Draft::new(key);
    while draft.step(Node::root(value), &mut problems).is_some() {}
    Compiled { payload: draft.finish().0, problems }
}

/// How many bytes of an encrypted text are decrypted at a time, and of a decrypted one read.
const DECRYPTED_BYTES_PER_STEP: usize = 8 << 10;

/// The members that may be encrypted, and their names when they are. Everything is decrypted first, because the wrong key
/// spoils all of it.
const ENCRYPTED: [(&str, &str); 4] = [
    ("features", "encryptedFeatures"),
    ("savedGroups", "encryptedSavedGroups"),
    ("contextualBandits", "encryptedContextualBandits"),
    ("experiments", "encryptedExperiments"),
];

/// Compiles a part of the member of an object with this key and number. Gives the bytes of config that are compiled in the
/// same time, and whether the member is complete.
type ReadMember = fn(&mut Draft, Node<'_>, &str, usize, &mut Problems) -> (usize, bool);

/// The objects of a payload in the order in which they are compiled.
const OBJECTS: [(&str, ReadMember); 3] =
    [("savedGroups", Draft::read_group), ("contextualBandits", Draft::read_bandit), ("features", Draft::read_feature)];

/// A payload that is being compiled.
#[derive(Default)]
pub(super) struct Draft {
    stage: Stage,
    key: Option<String>,
    /// The decrypted parts by their names.
    decrypted: Map<String, Value>,
    /// The keys of the object that is compiled, as far as they are listed.
    keys: Vec<String>,
    /// The keys of the disabled features.
    disabled: HashSet<String>,
    groups: SavedGroups,
    bandits: Bandits,
    part: Option<FeaturePart>,
    dependencies: Dependencies,
    /// The features and redirect tests that move to those in force, if some cannot be decided.
    moved: (std::vec::IntoIter<Feature>, std::vec::IntoIter<RedirectTest>),
    tie_steps: u32,
    payload: Payload,
}

/// A feature that is compiled up to its rule of the number `next`, and its problems so far.
struct FeaturePart {
    feature: Feature,
    next: usize,
    problems: Problems,
    tolerated: usize,
}

/// The part of a payload that is compiled next.
#[derive(Default)]
enum Stage {
    #[default]
    Head,
    /// Looks for the encrypted part with this number.
    Encrypted(usize),
    Decrypting(usize, Box<Decryption>),
    /// The decrypted text of this part, which is being read.
    Reading(usize, Vec<u8>, Box<Reading>),
    /// The member with this number of the object with this number.
    Member(usize, usize),
    /// The experiment with this number.
    Experiment(usize),
    /// The features that depend on each other.
    Dependencies,
    /// The feature with this number, and then the redirect tests, if some cannot be decided.
    Move(usize),
    /// The prerequisites of the valid feature, or redirect test behind them, with this number.
    Tie(usize),
    Refused,
    Done,
}

impl Draft {
    /// Begins with nothing.
    pub(super) fn new(key: Option<&str>) -> Draft {
        Draft { key: key.map(str::to_owned), tie_steps: PAYLOAD_TIE_STEPS_MAX, ..Draft::default() }
    }

    /// Compiles the next element of the payload at `node`, and gives its approximate size; none if nothing is left.
    pub(super) fn step(&mut self, node: Node<'_>, problems: &mut Problems) -> Option<usize> {
        let (next, bytes) = match std::mem::take(&mut self.stage) {
            Stage::Head => match node.object(problems) {
                Some(_) => (Stage::Encrypted(0), 1),
                None => (Stage::Refused, 0),
            },
            Stage::Encrypted(number) => match ENCRYPTED.get(number) {
                Some(&(part, name)) => (self.begin_decryption(number, (part, name), node, problems), 1),
                None => (self.read_head(node, problems), 1),
            },
            Stage::Decrypting(number, decryption) => {
                (decrypt_part(number, decryption, node, problems), DECRYPTED_BYTES_PER_STEP)
            }
            Stage::Reading(number, text, reading) => {
                (self.read_decrypted(number, (text, reading), node, problems), DECRYPTED_BYTES_PER_STEP)
            }
            Stage::Member(object, number) => self.read_object(object, number, node, problems),
            Stage::Experiment(number) => match self.read_experiment(number, node, problems) {
                Some(bytes) => (Stage::Experiment(number + 1), bytes),
                None => (Stage::Dependencies, 0),
            },
            Stage::Dependencies => match self.dependencies.step(&self.payload, &self.disabled) {
                Some(edges) => (Stage::Dependencies, EDGE_BYTES * edges),
                None => (self.begin_move(), 0),
            },
            Stage::Move(number) => match self.move_next(number, node.path, problems) {
                Some(()) => (Stage::Move(number + 1), MOVE_BYTES),
                None => (Stage::Tie(0), 0),
            },
            Stage::Tie(number) => match self.tie(number, node.path, problems) {
                Some(bytes) => (Stage::Tie(number + 1), bytes),
                None => (Stage::Done, 0),
            },
            stage @ (Stage::Refused | Stage::Done) => {
                self.stage = stage;
                return None;
            }
        };
        self.stage = next;
        Some(bytes)
    }

    /// The compiled payload, unless it is refused as a whole, and the entries that only compiling it needed.
    pub(super) fn finish(self) -> (Option<Payload>, Leftovers) {
        let entries = self.groups.into_entries().chain(self.dependencies.into_entries());
        let entries = entries.chain(self.disabled.into_iter().map(drop));
        let leftovers = Leftovers::new(entries).with_values(self.decrypted);
        (Some(self.payload).filter(|_| matches!(self.stage, Stage::Done)), leftovers)
    }

    /// Begins to decrypt a part, if it is encrypted.
    fn begin_decryption(
        &self,
        number: usize,
        (part, name): (&str, &str),
        node: Node<'_>,
        problems: &mut Problems,
    ) -> Stage {
        let path = node.path.field(name);
        let Some(value) = node.value.get(name).filter(|value| !value.is_null()) else {
            return Stage::Encrypted(number + 1);
        };
        let Some(encrypted) = (Node { value, path: &path }).string(problems) else { return Stage::Refused };
        let Some(key) = self.key.as_deref() else {
            problems.error(&path, "is encrypted, and no key is configured");
            return Stage::Refused;
        };
        // The part as the only member of a document, to be read as any other.
        match Decryption::begin(encrypted, key, format!("{{\"{part}\":").into_bytes()) {
            Some(decryption) => Stage::Decrypting(number, Box::new(decryption)),
            None => refuse_encrypted(&path, problems),
        }
    }

    /// Reads the next bytes of a decrypted part.
    fn read_decrypted(
        &mut self,
        number: usize,
        (text, mut reading): (Vec<u8>, Box<Reading>),
        node: Node<'_>,
        problems: &mut Problems,
    ) -> Stage {
        match reading.advance(&text, DECRYPTED_BYTES_PER_STEP) {
            Ok(false) => return Stage::Reading(number, text, reading),
            Ok(true) => {
                let (document, found) = reading.finish();
                let is_one = document.len() == 1;
                self.decrypted.extend(document);
                if is_one {
                    problems.append(found);
                    return Stage::Encrypted(number + 1);
                }
            }
            // The part that was read is freed in steps.
            Err(Malformed) => self.decrypted.extend(reading.finish().0),
        }
        let name = ENCRYPTED.get(number).map_or("", |(_, name)| name);
        refuse_encrypted(&node.path.field(name), problems)
    }

    fn read_head(&mut self, node: Node<'_>, problems: &mut Problems) -> Stage {
        let Some(features) = part(&self.decrypted, node, "features") else {
            problems.error(&node.path.field("features"), "missing; expected an object of features");
            return Stage::Refused;
        };
        for (name, _) in OBJECTS {
            // Without its groups, a condition that names one would match other visitors.
            let value = part(&self.decrypted, node, name);
            let is_wrong =
                value.is_some_and(|value| Node { value, path: &node.path.field(name) }.object(problems).is_none());
            if is_wrong && name != "contextualBandits" {
                return Stage::Refused;
            }
        }
        let count = features.as_object().map_or(0, Map::len);
        self.payload.feature_count = count;
        self.payload.features.reserve_exact(count);
        self.payload.by_key.reserve(count);
        let mut scope = Scope::new(&mut self.groups);
        self.payload.revision = scope.member(node, "dateUpdated", text);
        problems.append(scope.problems);
        Stage::Member(0, 0)
    }

    /// Compiles the next part of an object, member by member.
    fn read_object(&mut self, object: usize, number: usize, node: Node<'_>, problems: &mut Problems) -> (Stage, usize) {
        let Some(&(name, read)) = OBJECTS.get(object) else { return (Stage::Experiment(0), 0) };
        // The parts are read in place, and put back.
        let decrypted = std::mem::take(&mut self.decrypted);
        let members = part(&decrypted, node, name).and_then(Value::as_object);
        let next = match (self.keys.get(number).cloned(), members) {
            (Some(key), Some(members)) => {
                let list = node.path.field(name);
                let value = members.get(&key).unwrap_or(&Value::Null);
                let (bytes, is_complete) = read(self, Node { value, path: &list.field(&key) }, &key, number, problems);
                if is_complete && let Some(key) = self.keys.get_mut(number) {
                    // Each key is freed with its member: freeing all of them at once would take long.
                    *key = String::new();
                }
                (Stage::Member(object, number + usize::from(is_complete)), bytes)
            }
            (None, Some(members)) if number < members.len() => {
                self.keys.extend(members.keys().skip(number).take(KEYS_PER_STEP).cloned());
                (Stage::Member(object, number), KEYS_PER_STEP)
            }
            _ => {
                self.keys.clear();
                (Stage::Member(object + 1, 0), 0)
            }
        };
        self.decrypted = decrypted;
        next
    }

    fn read_group(&mut self, node: Node<'_>, key: &str, _number: usize, _problems: &mut Problems) -> (usize, bool) {
        self.groups.prepare(key, node.value)
    }

    fn read_bandit(&mut self, node: Node<'_>, key: &str, _number: usize, problems: &mut Problems) -> (usize, bool) {
        let mut scope = Scope::new(&mut self.groups);
        let bandit = experiment::bandit(&mut scope, node);
        let bandit = bandit.filter(|_| !scope.is_disabled());
        problems.append(scope.problems);
        self.bandits.push((key.to_owned(), bandit.map(Arc::new)));
        (size(node.value) + self.groups.element_bytes(), true)
    }

    fn read_feature(&mut self, node: Node<'_>, key: &str, position: usize, problems: &mut Problems) -> (usize, bool) {
        let (mut feature, mut scope, mut next) = match self.part.take() {
            Some(FeaturePart { feature, next, problems, tolerated }) => {
                (Some(feature), Scope { problems, tolerated, groups: &mut self.groups }, next)
            }
            None => {
                let mut scope = Scope::new(&mut self.groups);
                if !(1..=KEY_BYTES_MAX).contains(&key.len()) {
                    scope.problems.error(node.path, format_args!("expected a key of 1 to {KEY_BYTES_MAX} bytes"));
                }
                (Feature::compile(&mut scope, node, key, position), scope, 0)
            }
        };
        if let Some(feature) =
            feature.take_if(|feature| !feature.compile_rules(&mut scope, node, &mut next, &self.bandits))
        {
            let Scope { problems, tolerated, groups } = scope;
            self.part = Some(FeaturePart { feature, next, problems, tolerated });
            return (RULE_BYTES_PER_STEP + groups.element_bytes(), false);
        }
        if let Some(feature) = &feature {
            for rule in &feature.rules {
                if let RuleKind::Experiment(experiment, _) = &rule.kind
                    && !self.payload.add_sticky_attributes(experiment)
                {
                    scope.problems.error(node.path, too_many_sticky_attributes());
                }
            }
        }
        match feature.filter(|_| !scope.is_disabled()) {
            Some(feature) => {
                self.payload.by_key.insert(feature.key.clone(), self.payload.features.len());
                self.payload.features.push(feature);
            }
            None => {
                self.disabled.insert(key.to_owned());
                self.payload.disabled.push(disabled(Some(key.to_owned()), position, &scope.problems));
            }
        }
        problems.append(scope.problems);
        (size(node.value) + self.groups.element_bytes(), true)
    }

    fn read_experiment(&mut self, position: usize, node: Node<'_>, problems: &mut Problems) -> Option<usize> {
        let path = node.path.field("experiments");
        let value = part(&self.decrypted, node, "experiments")?;
        let Some(list) = value.as_array() else {
            Node { value, path: &path }.expected(problems, "a list");
            return None;
        };
        let value = list.get(position)?;
        let mut scope = Scope::new(&mut self.groups);
        let path = path.index(position);
        let test = redirect::read(&mut scope, Node { value, path: &path }, position);
        if test.as_ref().is_some_and(|test| !self.payload.add_sticky_attributes(&test.experiment)) {
            scope.problems.error(&path, too_many_sticky_attributes());
        }
        if scope.is_disabled() {
            let key = value.get("key").and_then(Value::as_str).map(str::to_owned);
            self.payload.disabled.push(disabled(key, self.payload.feature_count + position, &scope.problems));
        } else {
            self.payload.redirects.extend(test);
        }
        problems.append(scope.problems);
        Some(size(value) + self.groups.element_bytes())
    }
}

/// Decrypts the next bytes of a part.
fn decrypt_part(number: usize, mut decryption: Box<Decryption>, node: Node<'_>, problems: &mut Problems) -> Stage {
    let name = ENCRYPTED.get(number).map_or("", |(_, name)| name);
    let encrypted = node.value.get(name).and_then(Value::as_str).unwrap_or_default();
    let text = match decryption.advance(encrypted, DECRYPTED_BYTES_PER_STEP) {
        Some(false) => return Stage::Decrypting(number, decryption),
        Some(true) => decryption.finish(),
        None => None,
    };
    match text {
        Some(mut text) => {
            text.push(b'}');
            Stage::Reading(number, text, Box::new(Reading::lossy()))
        }
        None => refuse_encrypted(&node.path.field(name), problems),
    }
}

fn refuse_encrypted(path: &Path<'_>, problems: &mut Problems) -> Stage {
    problems.error(path, "cannot be decrypted to JSON with the configured key");
    Stage::Refused
}

fn too_many_sticky_attributes() -> String {
    format!("sticky buckets would be kept by more than {STICKY_ATTRIBUTES_MAX} attributes")
}

/// A part of the payload: the decrypted one, else the member `name`. None if it is missing or null.
fn part<'a>(decrypted: &'a Map<String, Value>, node: Node<'a>, name: &str) -> Option<&'a Value> {
    decrypted.get(name).or_else(|| node.value.get(name)).filter(|value| !value.is_null())
}

/// The entry of a part that is disabled.
fn disabled(key: Option<String>, position: usize, problems: &Problems) -> Disabled {
    Disabled { key, position, problem: problems.first_error() }
}
