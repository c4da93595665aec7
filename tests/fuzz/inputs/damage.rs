//! Payloads of vendors' services with damaged parts: members that are unknown, missing or of another type, and references to
//! something that is not there. A damaged flag changes nothing about the others, and a damaged segment, evaluator or cohort
//! nothing about flags that do not name it. Every problem has the path of the damaged part or of a flag that names it.
//!
//! `FORMAT=posthog` damages payloads of this format only. Without it, the first byte selects the format.

use edgesplit_engine::condition::request_budget;
use edgesplit_engine::decide::DecisionInput;
use edgesplit_engine::decide_flags;
use edgesplit_engine::flag::{FlagDecisions, FlagVisitor};
use edgesplit_formats::diagnostics::Problem;
use edgesplit_formats::{Compiled, Options, compile_bytes, find};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::LazyLock;

/// So many cache keys that no flag is over the budget.
const BUDGET: u64 = 1 << 40;

/// The time of the decisions.
const NOW_MS: i64 = 1_795_392_000_000;

/// A payload in a format.
struct Sample {
    format: &'static str,
    payload: Value,
    /// The member that holds the flags, as an object or as a list.
    flags: &'static str,
    /// The member that names a flag in a list.
    key: &'static str,
    /// The members that every flag must have.
    required: &'static [&'static str],
    /// A part that flags share, if there is one.
    shared: Option<SharedPart>,
    /// The problems and decisions before anything is damaged.
    problems: Vec<Problem>,
    decisions: Decisions,
}

/// A segment, an evaluator or a cohort.
#[derive(Clone, Copy)]
struct SharedPart {
    /// The JSON pointer to it.
    pointer: &'static str,
    path: &'static str,
    /// The text in flags that name it.
    reference: &'static str,
}

impl SharedPart {
    /// Removes it from its list or object.
    fn remove(self, payload: &mut Value) {
        let (parts, name) = self.pointer.rsplit_once('/').expect("a pointer");
        match payload.pointer_mut(parts).expect("the shared parts") {
            Value::Object(parts) => drop(parts.remove(name)),
            parts => drop(parts.as_array_mut().expect("a list").remove(name.parse().expect("a position"))),
        }
    }
}

const SEGMENT: SharedPart = SharedPart { pointer: "/segments/0", path: "segments[0]", reference: r#""segments":[1]"# };
const EVALUATOR: SharedPart =
    SharedPart { pointer: "/$evaluators/isDach", path: "$evaluators.isDach", reference: r#""$ref":"isDach""# };
const COHORT: SharedPart = SharedPart { pointer: "/cohorts/1", path: "cohorts.1", reference: r#""type":"cohort""# };

const EPPO: &[&str] = &["key", "enabled", "variationType", "variations", "allocations"];

/// The variant and the reason of every visitor, by the flag's key.
type Decisions = BTreeMap<String, Vec<Option<(Option<String>, &'static str)>>>;

static SAMPLES: LazyLock<Vec<Sample>> = LazyLock::new(|| {
    [
        ("eppo", include_str!("../../../examples/eppo.json"), ("flags", ""), EPPO, None),
        ("eppo", include_str!("../corpus/vendors/seed-datadog").split_at(1).1, ("flags", ""), EPPO, None),
        (
            "unleash",
            include_str!("../../../examples/unleash.json"),
            ("features", "name"),
            &["name", "enabled"],
            Some(SEGMENT),
        ),
        ("flagd", include_str!("../../../examples/flagd.json"), ("flags", ""), &["state", "variants"], Some(EVALUATOR)),
        ("posthog", include_str!("../../../examples/posthog.json"), ("flags", "key"), &["key"], Some(COHORT)),
    ]
    .into_iter()
    .map(|(format, text, (flags, key), required, shared)| {
        let payload: Value = serde_json::from_str(text).expect("a sample");
        let compiled = compile(format, &payload);
        let problems = compiled.problems.iter().cloned().collect();
        let decisions = decisions(&compiled);
        Sample { format, payload, flags, key, required, shared, problems, decisions }
    })
    .collect()
});

fn compile(format: &str, payload: &Value) -> Compiled {
    let format = find(format).expect("a registered format");
    compile_bytes(payload.to_string().as_bytes(), &Options::new(format, BUDGET))
}

/// The decisions of all flags for a few visitors, with and without attributes.
fn decisions(compiled: &Compiled) -> Decisions {
    let mut decisions = Decisions::new();
    let Some(snapshot) = &compiled.snapshot else { return decisions };
    let rules = snapshot.flag_evaluator.as_deref().expect("a vendor's format has rules");
    for number in 0..8 {
        let id = if number == 0 { "qa-1".to_owned() } else { format!("visitor-{number}") };
        let attributes = match number % 4 {
            0 => json!({}),
            1 => json!({"country": "DE", "plan": "pro", "app_version": "2.1.0"}),
            2 => json!({"country": "FR", "plan": "free", "app_version": "3.0.0-beta"}),
            _ => json!({"country": "CH", "plan": "professional", "app_version": "10.2"}),
        };
        let steps = request_budget();
        let visitor = FlagVisitor::new(Some(&id), &attributes, &steps, NOW_MS);
        let input = DecisionInput::unrestricted(NOW_MS, &steps);
        for (number, flag) in (0..).zip(&snapshot.experiments) {
            let mut found = FlagDecisions::default();
            decide_flags(snapshot, rules, &[number], &input, &visitor, &mut found);
            let decided = found.decided.first().map(|(flag, outcome, reason)| {
                let variant = outcome.and_then(|outcome| rules.outcomes(*flag)[outcome].variant.clone());
                (variant, reason.name())
            });
            decisions.entry(flag.key.clone()).or_default().push(decided);
        }
    }
    decisions
}

/// Takes one input.
pub(crate) fn run(data: &[u8]) {
    let mut bytes = Bytes(data);
    let samples: Vec<&Sample> = match std::env::var("FORMAT") {
        Ok(format) => SAMPLES.iter().filter(|sample| sample.format == format).collect(),
        Err(_) => SAMPLES.iter().collect(),
    };
    let sample = samples[bytes.below(samples.len())];
    let mut payload = sample.payload.clone();
    let mut damaged = Vec::new();
    for _ in 0..bytes.below(4) {
        damaged.extend(damage_flag(sample, &mut payload, &mut bytes));
    }
    let choice = bytes.below(5);
    let is_elsewhere_damaged = choice == 1;
    if is_elsewhere_damaged {
        damage_elsewhere(sample, &mut payload, &mut bytes);
    }
    let shared = sample.shared.filter(|_| choice > 1);
    let is_missing = choice == 4;
    if let Some(part) = shared {
        match is_missing {
            true => part.remove(&mut payload),
            false => damage(payload.pointer_mut(part.pointer).expect("a shared part"), &mut bytes),
        }
    }
    let compiled = compile(sample.format, &payload);
    let context = || format!("{payload:#}\n{:?}", compiled.problems);
    if compiled.snapshot.is_none() {
        assert!(compiled.problems.errors() > 0, "refused without a reason: {}", context());
        let is_of_sdk = compiled.problems.iter().any(|problem| problem.path.ends_with(".defaultVariant"));
        assert!(is_of_sdk || is_elsewhere_damaged, "refused as a whole: {}", context());
    }
    if is_elsewhere_damaged || has_total_shards(&payload) != has_total_shards(&sample.payload) {
        return;
    }
    let lacks_member = |flag: &&SampleFlag| {
        let value = flag.value(&payload[sample.flags]);
        sample.required.iter().any(|name| value.get(name).is_none_or(Value::is_null))
    };
    let lacking: Vec<SampleFlag> = damaged.iter().filter(lacks_member).cloned().collect();
    let affected = with_dependents(sample, damaged, shared);
    for problem in compiled.problems.iter().filter(|problem| !sample.problems.contains(problem)) {
        let mut paths = affected.iter().map(|flag| flag.path.as_str()).chain(shared.map(|part| part.path));
        let is_inside = paths.any(|path| problem.path.starts_with(path));
        assert!(is_inside, "a problem elsewhere: {problem}: {}", context());
    }
    if let Some(part) = shared.filter(|part| is_missing && payload[sample.flags].to_string().contains(part.reference)) {
        let has_problem = compiled.problems.iter().any(|problem| !sample.problems.contains(problem));
        assert!(has_problem, "no problem, but there is no {}: {}", part.path, context());
    }
    let Some(snapshot) = &compiled.snapshot else { return };
    for flag in &snapshot.disabled {
        let is_affected = affected.iter().any(|affected| affected.position == flag.position);
        assert!(is_affected && !flag.problem.is_empty(), "{flag:?}: {}", context());
    }
    let decisions = decisions(&compiled);
    for flag in lacking {
        let has_problem = compiled.problems.iter().any(|problem| problem.path.starts_with(&flag.path));
        assert!(has_problem, "no problem, but {flag:?} lacks a member: {}", context());
        // A flag of Datadog is not disabled: its SDKs decide it without a variant.
        let decided = decisions.get(&flag.key).into_iter().flatten().flatten();
        let variants: Vec<&String> = decided.filter_map(|(variant, _)| variant.as_ref()).collect();
        assert!(variants.is_empty(), "{flag:?} lacks a member, but gives {variants:?}: {}", context());
    }
    for (key, expected) in sample.decisions.iter().filter(|(key, _)| affected.iter().all(|flag| flag.key != **key)) {
        assert_eq!(decisions.get(key), Some(expected), "{key}: {}", context());
    }
}

/// A flag of a sample.
#[derive(Debug, Clone, PartialEq)]
struct SampleFlag {
    key: String,
    position: usize,
    path: String,
}

impl SampleFlag {
    fn named(sample: &Sample, key: &str, position: usize) -> SampleFlag {
        SampleFlag { key: key.to_owned(), position, path: format!("{}.{key}", sample.flags) }
    }

    fn listed(sample: &Sample, position: usize) -> SampleFlag {
        let key = sample.payload[sample.flags][position][sample.key].as_str().expect("a key");
        SampleFlag { key: key.to_owned(), position, path: format!("{}[{position}]", sample.flags) }
    }

    /// The flag among these.
    fn value<'a>(&self, flags: &'a Value) -> &'a Value {
        if flags.is_object() { &flags[&self.key] } else { &flags[self.position] }
    }
}

/// Whether all flags of a payload have `totalShards`. One without makes Eppo's payload one of Datadog's.
fn has_total_shards(payload: &Value) -> bool {
    let flags = payload["flags"].as_object();
    flags.is_some_and(|flags| flags.values().all(|flag| flag.get("totalShards").is_some()))
}

/// The bytes of an input. After its end, there are zeros.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    /// A number below `end`, which is at most 256.
    fn below(&mut self, end: usize) -> usize {
        let byte = self.0.split_off_first().copied().unwrap_or_default();
        usize::from(byte) % end.max(1)
    }

    /// A short text.
    fn text(&mut self) -> String {
        let count = self.below(16).min(self.0.len());
        String::from_utf8_lossy(self.0.split_off(..count).unwrap_or_default()).into_owned()
    }
}

/// Damages one flag, and gives it. It does not get the key of another one.
fn damage_flag(sample: &Sample, payload: &mut Value, bytes: &mut Bytes<'_>) -> Option<SampleFlag> {
    let position = bytes.below(sample.decisions.len());
    let (found, flag) = match &mut payload[sample.flags] {
        Value::Object(flags) => {
            let (key, flag) = flags.iter_mut().nth(position)?;
            (SampleFlag::named(sample, key, position), flag)
        }
        flags => (SampleFlag::listed(sample, position), &mut flags[position]),
    };
    damage(flag, bytes);
    let is_taken = |key: &str| key != found.key && sample.decisions.contains_key(key);
    if flag[sample.key].as_str().is_some_and(is_taken) {
        flag[sample.key] = Value::Null;
    }
    Some(found)
}

/// Damages a part that is no flag, such as a segment.
fn damage_elsewhere(sample: &Sample, payload: &mut Value, bytes: &mut Bytes<'_>) {
    let parts: Vec<String> = payload.as_object().into_iter().flat_map(Map::keys).cloned().collect();
    let part = &parts[bytes.below(parts.len())];
    if part != sample.flags {
        damage(&mut payload[part], bytes);
    }
}

/// Damages `node`, or something in it.
fn damage(node: &mut Value, bytes: &mut Bytes<'_>) {
    let count = match node {
        Value::Object(members) => members.len(),
        Value::Array(elements) => elements.len(),
        _ => 0,
    };
    let choice = bytes.below(8);
    if choice < 5 && count > 0 {
        let child = bytes.below(count);
        match node {
            Value::Object(members) => {
                members.values_mut().nth(child).into_iter().for_each(|child| damage(child, bytes))
            }
            node => damage(&mut node[child], bytes),
        }
        return;
    }
    match (choice, node) {
        (0 | 5, Value::Object(members)) => {
            members.insert(format!("unknown{}", bytes.text()), value(bytes));
        }
        (1 | 6, Value::Object(members)) if count > 0 => {
            let name = members.keys().nth(bytes.below(count)).cloned().unwrap_or_default();
            members.remove(&name);
        }
        (1 | 6, Value::Array(elements)) if count > 0 => drop(elements.remove(bytes.below(count))),
        // It refers to something that is not there.
        (0 | 1 | 5, Value::String(text)) => text.push_str("-missing"),
        (_, node) => *node = value(bytes),
    }
}

/// A value of any type.
fn value(bytes: &mut Bytes<'_>) -> Value {
    match bytes.below(12) {
        0 => Value::Null,
        1 => true.into(),
        2 => false.into(),
        3 => 0.into(),
        4 => (-1).into(),
        5 => 0.5.into(),
        6 => u64::MAX.into(),
        7 => 1e300.into(),
        8 => json!([]),
        9 => json!({}),
        10 => json!([[bytes.text()], {"": bytes.below(3)}]),
        _ => bytes.text().into(),
    }
}

/// The damaged flags, and those that depend on them or on the shared part: their text names one of them.
fn with_dependents(sample: &Sample, mut found: Vec<SampleFlag>, shared: Option<SharedPart>) -> Vec<SampleFlag> {
    let flags: Vec<(SampleFlag, String)> = match &sample.payload[sample.flags] {
        Value::Object(flags) => {
            let flags = flags.iter().enumerate();
            flags.map(|(position, (key, flag))| (SampleFlag::named(sample, key, position), flag.to_string())).collect()
        }
        flags => {
            let flags = flags.as_array().into_iter().flatten().enumerate();
            flags.map(|(position, flag)| (SampleFlag::listed(sample, position), flag.to_string())).collect()
        }
    };
    for _ in &flags {
        for (flag, text) in &flags {
            let is_dependent = found.iter().any(|known| text.contains(&format!("\"{}\"", known.key)));
            let names_shared = shared.is_some_and(|part| text.contains(part.reference));
            if (is_dependent || names_shared) && !found.contains(flag) {
                found.push(flag.clone());
            }
        }
    }
    found
}
