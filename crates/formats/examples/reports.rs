//! Prints the events and the redirect that a vendor's payload leads to, for `make conformance`.
//!
//!     reports FORMAT CONFIG < VISITORS
//!
//! Each line is a visitor, `{"id", "attributes"}`; each answer has the host that takes the events, the events, and the target
//! of a redirect.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "a tool of the tests")]

use edgesplit_engine::attribute::AttributeName;
use edgesplit_engine::condition::StepBudget;
use edgesplit_engine::flag::{FlagEvaluator, FlagExposure, FlagSink, FlagVisitor};
use edgesplit_engine::observer::Observer;
use edgesplit_engine::reason::Reason;
use edgesplit_formats::events::{EventKind, EventWire, VendorEvent};
use edgesplit_formats::{Options, compile_bytes, find};
use serde_json::{Value, json};
use std::fmt;
use std::io::BufRead;
use std::time::{SystemTime, UNIX_EPOCH};

/// The host that events are sent to by default.
const HOST: &str = "logx.optimizely.com";

struct Sink<'a> {
    evaluator: &'a dyn FlagEvaluator,
    wire: &'a dyn EventWire,
    attributes: &'a Value,
    aliases: &'a [(String, AttributeName)],
    steps: &'a StepBudget,
    events: Vec<Value>,
    redirect: Option<String>,
}

impl Observer for Sink<'_> {
    fn check(&mut self, _name: &str, _passed: bool, _detail: fmt::Arguments<'_>) {}
}

impl FlagSink for Sink<'_> {
    fn decided(&mut self, _flag: usize, _outcome: Option<usize>, _reason: Reason) {}

    fn exposed(&mut self, exposure: &FlagExposure<'_>) {
        let event = VendorEvent {
            kind: EventKind::Exposure(*exposure),
            unit: exposure.unit,
            id: "id",
            time_ms: 0,
            attributes: self.attributes,
            aliases: self.aliases,
            keeps_url_query: true,
            steps: self.steps,
        };
        let mut out = Vec::new();
        assert!(self.wire.write(&event, Some(self.evaluator), &mut out), "the vendor has an event for it");
        self.events.push(serde_json::from_slice(&out).expect("an event is JSON"));
    }

    fn redirected(&mut self, location: &str) -> bool {
        self.redirect = Some(location.to_owned());
        true
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [format, config] = arguments.as_slice() else { panic!("reports FORMAT CONFIG") };
    let format = find(format).expect("a format");
    let compiled = compile_bytes(&std::fs::read(config).expect("a config"), &Options::new(format, 64));
    let snapshot = compiled.snapshot.expect("a config in force");
    let evaluator = snapshot.flag_evaluator.as_deref().expect("a vendor's format");
    let wire = format.event_wire().expect("a vendor that takes events");
    let flags: Vec<usize> = (0..).take_while(|flag| !evaluator.outcomes(*flag).is_empty()).collect();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time after 1970");
    let now_ms = i64::try_from(now.as_millis()).expect("a time of this age");
    for line in std::io::stdin().lock().lines() {
        let visitor: Value = serde_json::from_str(&line.expect("a line")).expect("a visitor is JSON");
        let attributes = &visitor["attributes"];
        let names = attributes.as_object().expect("attributes").keys();
        let aliases: Vec<_> = names.map(|name| (name.clone(), AttributeName::Named(name.clone()))).collect();
        let (events, redirect) = (Vec::new(), None);
        let steps = &StepBudget::new(u32::MAX);
        let mut sink = Sink { evaluator, wire, attributes, aliases: &aliases, steps, events, redirect };
        let id = visitor["id"].as_str();
        evaluator.decide(&flags, &FlagVisitor::new(id, attributes, steps, now_ms), &mut sink);
        let host = wire.host(&wire.head(evaluator), HOST).unwrap_or(HOST);
        println!("{}", json!({"host": host, "events": sink.events, "redirect": sink.redirect}));
    }
}
