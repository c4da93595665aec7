//! Optimizely's datafiles as snapshots.

use crate::Options;
use crate::diagnostics::{Node, Problems};
use crate::flags::{Flag, FlagEntries};
use crate::optimizely::{self, Client, Datafile, Event};
use edgesplit_engine::flag::{FlagEvent, FlagExposure, FlagRules, FlagSink, FlagVisitor, Happening, Outcome};
use edgesplit_engine::reason::Reason;
use edgesplit_engine::snapshot::Snapshot;
use serde_json::{Map, Value};

/// Who sends events.
const CLIENT: Client<'_> = Client { name: "edgesplit", version: env!("CARGO_PKG_VERSION") };

/// The name under which exposures say that the visitor's id was bucketed.
const UNIT_NAME: &str = "id";

#[derive(Debug)]
struct Rules(Datafile);

pub(crate) fn snapshot(node: Node<'_>, options: &Options, problems: &mut Problems) -> Option<Snapshot> {
    let compiled = optimizely::compile_at(node.value, node.path);
    problems.append(compiled.problems);
    let datafile = compiled.datafile?;
    let list = node.path.field("featureFlags");
    let experiments = node.path.field("experiments");
    let flag_count = node.value.get("featureFlags").and_then(Value::as_array).map_or(0, Vec::len);
    let mut entries = FlagEntries::new(options);
    for (number, flag) in datafile.flags.iter().enumerate() {
        let position = flag.position;
        let path = if position < flag_count { list.index(position) } else { experiments.field(&flag.key) };
        entries.add(&Flag { key: &flag.key, position, number, outcomes: flag.outcomes(), path }, problems);
    }
    let revision = Some(datafile.project.revision.clone()).filter(|revision| !revision.is_empty());
    let disabled = datafile.disabled.clone();
    Some(entries.finish(revision, &disabled, Box::new(Rules(datafile))))
}

impl FlagRules for Rules {
    fn decide(&self, flags: &[usize], visitor: &FlagVisitor<'_>, sink: &mut dyn FlagSink) {
        for &number in flags {
            let Some(flag) = self.0.flags.get(number) else { continue };
            let Some(id) = visitor.id else {
                sink.decided(number, None, Reason::NoUnit);
                continue;
            };
            let decision = self.0.decide(flag, id, &visitor.attributes);
            sink.decided(number, Some(decision.outcome), decision.reason);
            if decision.exposure
                && let Some(outcome) = flag.outcomes().get(decision.outcome)
            {
                sink.exposed(&FlagExposure {
                    experiment: outcome.experiment.as_deref().unwrap_or(&flag.key),
                    variant: outcome.variant.as_deref(),
                    attribute: UNIT_NAME,
                    unit: id,
                    outcome: Some((number, decision.outcome)),
                });
            }
        }
    }

    fn outcomes(&self, flag: usize) -> &[Outcome] {
        self.0.flags.get(flag).map_or(&[], |flag| flag.outcomes())
    }

    fn write_event(&self, event: &FlagEvent<'_>, out: &mut Vec<u8>) -> bool {
        let project = &self.0.project;
        let tags = Map::new();
        let happening = match event.happening {
            Happening::Exposure { flag, outcome } => {
                let impression = self.0.flags.get(flag).and_then(|flag| flag.impression(outcome));
                impression.map(optimizely::Happening::Impression)
            }
            Happening::Goal(key) => project.conversion_id(key).map(|id| optimizely::Happening::Conversion {
                id,
                key,
                revenue: None,
                value: None,
                tags: &tags,
            }),
        };
        let Some(happening) = happening else { return false };
        let attributes = project.visitor_attributes(&event.attributes);
        let (user_id, uuid, time_ms) = (event.unit, event.id, event.time_ms);
        Event { user_id, attributes: &attributes, happening, uuid, time_ms }.write(out);
        true
    }

    fn batch_head(&self) -> Vec<u8> {
        let mut head = Vec::new();
        self.0.project.write_batch_head(CLIENT, &mut head);
        head
    }
}
