//! A whole format in one file: flags, each with the shares of its variants in percent. Its service takes lists of texts.
//!
//! `{"toy": {"button": {"red": 30, "blue": 70}}}`

use edgesplit_engine::flag::{FlagEvaluator, FlagExposure, FlagSink, FlagVisitor, Outcome};
use edgesplit_engine::hash::Salt;
use edgesplit_engine::reason::Reason;
use edgesplit_formats::diagnostics::{Node, Problems};
use edgesplit_formats::events::{EventKind, EventWire, VendorEvent, write_joined};
use edgesplit_formats::flags::{Flag, FlagEntries};
use edgesplit_formats::stepwise::{Leftovers, Steps};
use edgesplit_formats::{Compiled, Format, Options};
use serde_json::{Value, json};

pub(crate) struct Toy;

impl Format for Toy {
    fn name(&self) -> &'static str {
        "toy"
    }

    fn recognises(&self, document: &Value) -> bool {
        document.get("toy").is_some()
    }

    fn steps(&self, options: &Options) -> Box<dyn Steps> {
        Box::new(ToySteps::new(options))
    }

    fn event_wire(&self) -> Option<&dyn EventWire> {
        Some(self)
    }
}

impl EventWire for Toy {
    fn content_type(&self) -> &'static str {
        "application/toys"
    }

    fn write(&self, event: &VendorEvent<'_>, _evaluator: Option<&dyn FlagEvaluator>, out: &mut Vec<u8>) -> bool {
        let EventKind::Exposure(FlagExposure { experiment, variant, .. }) = event.kind else { return false };
        let text = format!("{} saw {} {}", event.unit, variant.unwrap_or("no"), experiment);
        out.extend_from_slice(json!(text).to_string().as_bytes());
        true
    }

    fn write_body(&self, _head: &[u8], events: &mut dyn Iterator<Item = &[u8]>, out: &mut Vec<u8>) {
        write_joined(br#"{"toys":["#, events, b"]}", out);
    }
}

/// A flag: the end of each variant's buckets, and the variants.
struct ToyFlag {
    key: String,
    salt: Salt,
    ends: Vec<u64>,
    outcomes: Vec<Outcome>,
}

struct ToySteps {
    flags: Vec<ToyFlag>,
    entries: FlagEntries,
}

impl ToySteps {
    fn new(options: &Options) -> ToySteps {
        ToySteps { flags: Vec::new(), entries: FlagEntries::new(options) }
    }
}

impl Steps for ToySteps {
    fn step(&mut self, config: Node<'_>) -> Option<usize> {
        let number = self.flags.len();
        let (key, shares) = config.value.get("toy")?.as_object()?.iter().nth(number)?;
        let mut end = 0;
        let (ends, outcomes) = (shares.as_object().into_iter().flatten())
            .map(|(variant, share)| {
                end += share.as_u64().unwrap_or(0) * 100;
                let (variant, value) = (Some(variant.clone()), variant.as_str().into());
                (end, Outcome { variant, experiment: None, value, in_experiment: true })
            })
            .unzip();
        let flag = ToyFlag { key: key.clone(), salt: Salt::new(format!("toy/{key}/")), ends, outcomes };
        let (list, outcomes) = (config.path.field("toy"), &flag.outcomes);
        self.entries.add(&Flag { key, position: number, number, outcomes, path: list.field(key), shares_key: false });
        self.flags.push(flag);
        Some(100)
    }

    fn report(&mut self, problems: Problems) {
        self.entries.problems.append(problems);
    }

    fn finish(self: Box<Self>) -> (Compiled, Leftovers) {
        (self.entries.finish(None, Box::new(ToyEvaluator(self.flags))), Leftovers::default())
    }
}

struct ToyEvaluator(Vec<ToyFlag>);

impl FlagEvaluator for ToyEvaluator {
    fn decide(&self, flags: &[usize], visitor: &FlagVisitor<'_>, sink: &mut dyn FlagSink) {
        for &number in flags {
            let Some(unit) = visitor.id else {
                sink.decided(number, None, Reason::NoUnit);
                continue;
            };
            let Some(flag) = self.0.get(number) else { continue };
            let bucket = u64::from(flag.salt.bucket(unit));
            let outcome = flag.ends.iter().position(|end| bucket < *end);
            sink.check("bucket", outcome.is_some(), format_args!("{bucket}"));
            sink.decided(number, outcome, Reason::Vendor("played"));
            if let Some(outcome) = outcome {
                let variant = flag.outcomes.get(outcome).and_then(|outcome| outcome.variant.as_deref());
                let (experiment, outcome) = (flag.key.as_str(), Some((number, outcome)));
                sink.exposed(&FlagExposure { experiment, variant, attribute: "id", unit, typed_unit: None, outcome });
            }
        }
    }

    fn outcomes(&self, flag: usize) -> &[Outcome] {
        self.0.get(flag).map(|flag| flag.outcomes.as_slice()).unwrap_or_default()
    }
}
