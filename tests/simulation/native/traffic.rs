//! Requests to native processes, and replies to their calls.

use super::ledger_of;
use super::world::World;
use crate::fault_injection;
use crate::network::Answer;
use crate::sim::Event;
use crate::workload::{Doc, Visit};
use edgesplit_filter::events::event::{derived_id, exposure_fingerprint};
use edgesplit_filter::http::headers::HeaderBlock;
use edgesplit_filter::metrics::revision_hash;
use edgesplit_testkit::native_process::lines;

/// Workers of Envoy, as the host has them.
const WORKERS: u64 = 2;

/// A request whose response is on its way.
pub struct Stream {
    visit: Visit,
    /// The names of its exposures, and their windows.
    exposures: Vec<(u128, i64)>,
    /// Whether goals were known.
    has_goals: bool,
}

impl World<'_> {
    /// A visitor's request, at the newest config.
    pub fn request(&mut self) {
        let wait_us = self.sim.rng.exponential(self.sim.scenario.request_ms * 1_000);
        self.sim.after(wait_us, Event::Request);
        let visit = Visit::new(&mut self.sim.rng, self.sim.scenario.visitors);
        let (worker, response_us) = (self.sim.rng.range(0, WORKERS - 1), self.sim.rng.range(500, 60_000));
        let Some((config, _)) = self.newest() else { return };
        self.last += 1;
        let stream = self.last;
        self.visit(config, worker, stream, visit);
        self.sim.after(response_us, Event::Response(config, stream));
    }

    /// Plays a request, and checks its assignments.
    pub fn visit(&mut self, number: u64, worker: u64, stream: u64, visit: Visit) {
        let process = self.configs[&number].process;
        let headers = lines(&HeaderBlock::from_pairs(&visit.request_headers()));
        let written = self.play(process, "request", &[number, stream, worker], &headers);
        let assigned = written.into_iter().find(|(name, _)| name == "x-ab-assignments").map(|(_, value)| value);
        let World { sim, configs, .. } = self;
        let Some(config) = configs.get_mut(&number) else { return };
        let is_in_force = |doc: &&Doc| revision_hash(Some(&doc.revision)) == config.in_force;
        let doc = sim.docs.values().find(is_in_force);
        let has_goals = doc.is_some();
        let expected = doc.and_then(|doc| doc.assignments(&visit.visitor, visit.path));
        let window = config.now_ms.div_euclid(sim.scenario.window_ms as i64);
        let exposures = doc.map_or(Vec::new(), |doc| doc.exposures(&visit.visitor, visit.path));
        let name = |(experiment, variant): (String, &str)| {
            (exposure_fingerprint(&visit.visitor, &experiment, variant, window), window)
        };
        let is_new = |(name, window): &(u128, i64)| !config.reported.has_seen(*name as u64, *window);
        let exposures = exposures.into_iter().map(name).filter(is_new).collect();
        if expected != assigned {
            let revision = doc.map(|doc| doc.revision.clone());
            let Visit { visitor, path, .. } = &visit;
            sim.violated(format!("{visitor} on {path}: {assigned:?} under {revision:?}, expected {expected:?}"));
        }
        config.streams.insert(stream, Stream { visit, exposures, has_goals });
    }

    /// Plays the response to a request.
    pub fn respond(&mut self, number: u64, stream: u64) {
        let Some(config) = self.configs.get_mut(&number) else { return };
        let Some(Stream { visit, exposures, has_goals }) = config.streams.remove(&stream) else { return };
        let is_new = |(name, window): &(u128, i64)| config.reported.remember(*name as u64, *window);
        let ids: Vec<u128> = exposures.into_iter().filter(is_new).map(|(name, _)| derived_id(name).as_u128()).collect();
        let process = config.process;
        let headers = lines(&HeaderBlock::from_pairs(&visit.response_headers()));
        self.play(process, "response", &[number, stream, visit.status.parse().unwrap()], &headers);
        let is_goal = has_goals && visit.path == "/api/orders" && visit.status.starts_with('2');
        let result = ledger_of(&mut self.sim).emitted(number, &ids, is_goal.then_some(visit.visitor.as_str()));
        self.sim.check(result);
    }

    pub fn reply(&mut self, call: u64, timed_out: bool) {
        let Some((number, token, answer)) = self.sim.take_reply(call, timed_out) else { return };
        let Some(process) = self.configs.get(&number).map(|config| config.process) else { return };
        let result = ledger_of(&mut self.sim).replied(number, token, &answer);
        self.sim.check(result);
        let Answer { mut headers, body, is_events } = answer;
        if let Some(mutant) = self.sim.mutant {
            fault_injection::reply(mutant, is_events, &mut headers);
        }
        let is_reset = u64::from(headers.is_empty());
        let headers = lines(&HeaderBlock::from_pairs(&headers));
        let numbers = [number, token.into(), is_reset, headers.len() as u64];
        self.play(process, "reply", &numbers, &[headers, body].concat());
    }
}
