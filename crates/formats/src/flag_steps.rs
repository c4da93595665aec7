//! Compiles payloads that hold flags in the member `flags`, flag by flag: by their keys in an object, or in a list.

use crate::conditions::SavedGroups;
use crate::diagnostics::{Node, Problems};
use crate::document::KEY_BYTES_MAX;
use crate::flags::{Flag, FlagEntries};
use crate::format::{Compiled, Options};
use crate::scope::Scope;
use crate::shape::text;
use crate::stepwise::{KEYS_PER_STEP, Leftovers, Steps, size};
use edgesplit_engine::flag::{FlagEvaluator, Outcome};
use serde_json::{Map, Value};

/// Compiles the flags of one vendor.
pub(crate) trait FlagReader: Send {
    /// Whether the flags are a list: each has its key in the member `key`, which the reader checks.
    fn has_list(&self) -> bool {
        false
    }

    /// Reads the members beside the `count` flags. False, and a problem, if the payload is refused.
    fn head(&mut self, config: Node<'_>, count: usize, problems: &mut Problems) -> bool;

    /// Sees each flag before the first is compiled.
    fn see(&mut self, _flag: &Value) {}

    /// Compiles the next part of the config that flags refer to, and gives its bytes; none if no part is left.
    fn read_part(&mut self, _scope: &mut Scope<'_>, _config: Node<'_>) -> Option<usize> {
        None
    }

    /// Compiles a flag, and stores it.
    fn read(&mut self, element: &mut Element<'_, '_>) -> Result<&[Outcome], Unread>;

    /// The revision of the payload, its evaluator, and the entries that only its compilation needed.
    fn finish(self: Box<Self>) -> (Option<String>, Box<dyn FlagEvaluator>, Leftovers);
}

/// A flag that is being compiled.
pub(crate) struct Element<'a, 'g> {
    pub(crate) scope: Scope<'g>,
    pub(crate) config: Node<'a>,
    pub(crate) node: Node<'a>,
    pub(crate) key: &'a str,
    /// The bytes of the config that were read for it.
    pub(crate) bytes: usize,
}

/// The reason why a flag is not stored.
pub(crate) enum Unread {
    /// It is disabled alone.
    Disabled,
    /// It refuses the payload.
    Refused,
    /// Parts that it refers to are compiled first, and it is read again.
    Waiting,
}

/// The steps of compiling a payload.
pub(crate) struct FlagSteps {
    reader: Box<dyn FlagReader>,
    stage: Stage,
    /// The keys of the flags, as far as they are listed and not compiled.
    keys: Vec<String>,
    patterns: SavedGroups,
    /// How many flags are stored.
    count: usize,
    entries: FlagEntries,
}

#[derive(Clone, Copy)]
enum Stage {
    Head,
    /// Lists the flags from this number on.
    Keys(usize),
    /// Compiles the parts that the flags from this number on refer to.
    Parts(usize),
    /// Compiles the flag with this number.
    Flag(usize),
    Refused,
    Done,
}

impl FlagSteps {
    pub(crate) fn begin(reader: Box<dyn FlagReader>, options: &Options) -> Box<dyn Steps> {
        Box::new(FlagSteps {
            reader,
            stage: Stage::Head,
            keys: Vec::new(),
            patterns: SavedGroups::default(),
            count: 0,
            entries: FlagEntries::new(options),
        })
    }

    fn head(&mut self, config: Node<'_>) -> Stage {
        let value = flags(config);
        let (count, expected) = match self.reader.has_list() {
            true => (value.as_array().map(Vec::len), "a list of flags"),
            false => (value.as_object().map(Map::len), "an object of flags"),
        };
        let Some(count) = count else {
            let path = config.path.field("flags");
            Node { value, path: &path }.expected(&mut self.entries.problems, expected);
            return Stage::Refused;
        };
        self.keys.reserve_exact(count);
        self.entries.reserve(count);
        if self.reader.head(config, count, &mut self.entries.problems) { Stage::Keys(0) } else { Stage::Refused }
    }

    fn list(&mut self, config: Node<'_>, from: usize) -> Stage {
        let mut see = |(key, flag): (&str, &Value)| {
            self.reader.see(flag);
            self.keys.push(key.to_owned());
        };
        match flags(config) {
            Value::Array(list) => {
                let flags = list.iter().skip(from).take(KEYS_PER_STEP);
                flags.for_each(|flag| see((text(flag, "key").unwrap_or_default(), flag)));
            }
            value => {
                let flags = value.as_object().into_iter().flatten().skip(from).take(KEYS_PER_STEP);
                flags.for_each(|(key, flag)| see((key, flag)));
            }
        }
        if self.keys.len() > from { Stage::Keys(self.keys.len()) } else { Stage::Parts(0) }
    }

    fn part(&mut self, config: Node<'_>, flag: usize) -> (Stage, usize) {
        let mut scope = Scope::new(&mut self.patterns);
        let bytes = self.reader.read_part(&mut scope, config);
        self.entries.problems.append(scope.problems);
        bytes.map_or((Stage::Flag(flag), 0), |bytes| (Stage::Parts(flag), bytes + self.patterns.element_bytes()))
    }

    /// Compiles the flag with this number, and gives the bytes of config that are compiled in the same time.
    fn flag(&mut self, config: Node<'_>, position: usize) -> (Stage, usize) {
        let Some(mut key) = self.keys.get_mut(position).map(std::mem::take) else { return (Stage::Done, 0) };
        let (list, flags) = (config.path.field("flags"), flags(config));
        let (value, path) = match flags {
            Value::Array(elements) => (elements.get(position), list.index(position)),
            members => (members.get(&key), list.field(&key)),
        };
        let Some(value) = value else { return (Stage::Done, 0) };
        let mut scope = Scope::new(&mut self.patterns);
        if flags.is_object() && !(1..=KEY_BYTES_MAX).contains(&key.len()) {
            scope.problems.error(&path, format_args!("expected a key of 1 to {KEY_BYTES_MAX} bytes"));
        }
        let mut next = Stage::Flag(position + 1);
        let node = Node { value, path: &path };
        let mut element = Element { scope, config, node, key: &key, bytes: size(value) };
        let result = self.reader.read(&mut element);
        let Element { scope, mut bytes, .. } = element;
        match result {
            Ok(outcomes) => {
                let number = self.count;
                self.count += 1;
                bytes += self.entries.add(&Flag { key: &key, position, number, outcomes, path, shares_key: false });
            }
            Err(Unread::Waiting) => {
                bytes += self.patterns.element_bytes();
                self.keys.get_mut(position).into_iter().for_each(|place| *place = std::mem::take(&mut key));
                return (Stage::Parts(position), bytes);
            }
            Err(unread) => {
                if matches!(unread, Unread::Refused) {
                    next = Stage::Refused;
                }
                let name = Some(key.clone()).filter(|key| flags.is_object() || !key.is_empty());
                self.entries.disable(name, position, &scope.problems);
            }
        }
        self.entries.problems.append(scope.problems);
        (next, bytes + self.patterns.element_bytes())
    }
}

fn flags(config: Node<'_>) -> &Value {
    config.value.get("flags").unwrap_or(&Value::Null)
}

impl Steps for FlagSteps {
    fn step(&mut self, config: Node<'_>) -> Option<usize> {
        let (next, bytes) = match self.stage {
            Stage::Head => (self.head(config), 1),
            Stage::Keys(from) => (self.list(config, from), KEYS_PER_STEP),
            Stage::Parts(flag) => self.part(config, flag),
            Stage::Flag(number) => self.flag(config, number),
            Stage::Refused | Stage::Done => return None,
        };
        self.stage = next;
        Some(bytes)
    }

    fn report(&mut self, problems: Problems) {
        self.entries.problems.append(problems);
    }

    fn finish(self: Box<Self>) -> (Compiled, Leftovers) {
        let (revision, evaluator, leftovers) = self.reader.finish();
        if !matches!(self.stage, Stage::Done) {
            return (Compiled { snapshot: None, problems: self.entries.problems }, leftovers);
        }
        (self.entries.finish(revision, evaluator), leftovers)
    }
}
