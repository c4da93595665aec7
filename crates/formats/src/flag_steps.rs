//! Compiles payloads that hold flags by their keys in the member `flags`, flag by flag.

use crate::conditions::SavedGroups;
use crate::diagnostics::{Node, Problems};
use crate::document::KEY_BYTES_MAX;
use crate::flags::{Flag, FlagEntries};
use crate::format::{Compiled, Options};
use crate::scope::Scope;
use crate::stepwise::{KEYS_PER_STEP, Leftovers, Steps, size};
use edgesplit_engine::flag::{FlagEvaluator, Outcome};
use serde_json::{Map, Value};

/// Compiles the flags of one vendor.
pub(crate) trait FlagReader: Send {
    /// Reads the members beside the `count` flags. False, and a problem, if the payload is refused.
    fn head(&mut self, config: Node<'_>, count: usize, problems: &mut Problems) -> bool;

    /// Sees each flag before the first is compiled.
    fn see(&mut self, _flag: &Value) {}

    /// Compiles the flag at `node`, and stores it. Adds the bytes of other parts of the config that it read to `bytes`.
    fn read(
        &mut self,
        scope: &mut Scope<'_>,
        config: Node<'_>,
        node: Node<'_>,
        key: &str,
        bytes: &mut usize,
    ) -> Result<&[Outcome], Unread>;

    /// The revision of the payload, its evaluator, and the entries that only its compilation needed.
    fn finish(self: Box<Self>) -> (Option<String>, Box<dyn FlagEvaluator>, Leftovers);
}

/// The reason why a flag is not stored.
pub(crate) enum Unread {
    /// It is disabled alone.
    Disabled,
    /// It refuses the payload.
    Refused,
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
        let Some(flags) = flags(config) else {
            let path = config.path.field("flags");
            let value = config.value.get("flags").unwrap_or(&Value::Null);
            Node { value, path: &path }.expected(&mut self.entries.problems, "an object of flags");
            return Stage::Refused;
        };
        self.keys.reserve_exact(flags.len());
        self.entries.reserve(flags.len());
        if self.reader.head(config, flags.len(), &mut self.entries.problems) { Stage::Keys(0) } else { Stage::Refused }
    }

    fn list(&mut self, config: Node<'_>, from: usize) -> Stage {
        for (key, flag) in flags(config).into_iter().flatten().skip(from).take(KEYS_PER_STEP) {
            self.reader.see(flag);
            self.keys.push(key.clone());
        }
        if self.keys.len() > from { Stage::Keys(self.keys.len()) } else { Stage::Flag(0) }
    }

    /// Compiles the flag with this number, and gives the bytes of config that are compiled in the same time.
    fn flag(&mut self, config: Node<'_>, position: usize) -> (Stage, usize) {
        let Some(key) = self.keys.get_mut(position).map(std::mem::take) else { return (Stage::Done, 0) };
        let Some(value) = flags(config).and_then(|flags| flags.get(&key)) else { return (Stage::Done, 0) };
        let list = config.path.field("flags");
        let path = list.field(&key);
        let mut scope = Scope::new(&mut self.patterns);
        if !(1..=KEY_BYTES_MAX).contains(&key.len()) {
            scope.problems.error(&path, format!("expected a key of 1 to {KEY_BYTES_MAX} bytes"));
        }
        let mut bytes = size(value);
        let mut next = Stage::Flag(position + 1);
        match self.reader.read(&mut scope, config, Node { value, path: &path }, &key, &mut bytes) {
            Ok(outcomes) => {
                let number = self.count;
                self.count += 1;
                bytes += self.entries.add(&Flag { key: &key, position, number, outcomes, path, shares_key: false });
            }
            Err(unread) => {
                if matches!(unread, Unread::Refused) {
                    next = Stage::Refused;
                }
                self.entries.disable(Some(key.clone()), position, &scope.problems);
            }
        }
        self.entries.problems.append(scope.problems);
        (next, bytes + self.patterns.element_bytes())
    }
}

fn flags(config: Node<'_>) -> Option<&Map<String, Value>> {
    config.value.get("flags")?.as_object()
}

impl Steps for FlagSteps {
    fn step(&mut self, config: Node<'_>) -> Option<usize> {
        let (next, bytes) = match self.stage {
            Stage::Head => (self.head(config), 1),
            Stage::Keys(from) => (self.list(config, from), KEYS_PER_STEP),
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
