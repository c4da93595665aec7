//! The state of a worker between requests, and its regular work.
//!
//! A VM has one worker. A native process has one for each thread: the one that [`Worker::configure`] makes fetches the config and
//! sends the events, and its siblings take both from it.

use super::assignment_set::AssignmentSets;
use super::guardrails::Guardrails;
use super::request::RequestScratch;
use crate::config_sync::{ConfigSync, log_problems};
use crate::decision_counts::DecisionCounts;
use crate::env::Env;
use crate::events::pipeline::Pipeline;
use crate::events::recorder::SharedRecorder;
use crate::host::{Host, Reply, StreamHost};
use crate::http::headers::NameSet;
use crate::http::owned_names::OwnedNames;
use crate::identification::Identification;
use crate::internal_redirect::Legs;
use crate::metrics::{Counter, Gauge, Metrics, experiment_tag, revision_hash};
use crate::owned_names;
use crate::plugin_config::PluginConfig;
use crate::response_plan::ResponsePlan;
use edgesplit_engine::decide::schedule_reason;
use edgesplit_engine::reason::Reason;
use edgesplit_engine::snapshot::{Experiment, Snapshot};
use edgesplit_formats::Options;
use edgesplit_formats::diagnostics::{Node, Path, Problems};
use std::sync::Arc;

/// How often a VM does its regular work.
pub const TICK_MS: u64 = 100;

/// How often it does so while it compiles a config, or waits for its first one.
pub const FIRST_TICK_MS: u64 = 10;

/// How long it waits for its first config at that rate.
const FIRST_TICKS_FOR_MS: i64 = 2_000;

/// How many parts of replaced snapshots are freed at a time, such as variants and paths.
const FREED_PARTS_PER_TICK: usize = 2_000;

/// How many replaced snapshots are kept, to free them in parts.
const RETIRED_SNAPSHOTS_MAX: usize = 4;

/// How often gauges are set that change with time alone.
const GAUGES_EVERY_MS: i64 = 1_000;

/// One plugin in one VM, or in one thread.
pub struct Worker {
    /// The plugin configuration.
    pub config: Arc<PluginConfig>,
    /// The experiments in force.
    pub snapshot: Option<Arc<Snapshot>>,
    /// The names of request headers that clients cannot send.
    pub owned: OwnedNames,
    /// The time of the last tick. Requests use it, because a host call costs more than a precise time is worth.
    pub now_ms: i64,
    /// The counters and gauges.
    pub metrics: Metrics,
    /// The events that requests emit, if they are configured.
    pub recorder: Option<SharedRecorder>,
    /// Buffers for the current request.
    pub scratch: RequestScratch,
    /// The sets of assignments of the last requests.
    pub assignment_sets: AssignmentSets,
    /// The decisions about each experiment.
    pub decisions: DecisionCounts,
    /// The variants that are switched off.
    pub guardrails: Guardrails,
    /// The check that requests have ids.
    pub identification: Identification,
    /// The legs of internal redirects that wait for the next one.
    pub legs: Legs,
    sync: Option<ConfigSync>,
    /// Sends the events. A sibling has none.
    pipeline: Option<Pipeline>,
    /// The key of shared data with the names of all configs so far.
    names_key: String,
    /// Snapshots that were replaced, and are freed in parts.
    retired: Vec<Arc<Snapshot>>,
    configured_ms: i64,
    gauges_ms: i64,
}

impl Worker {
    /// Configures the plugin called `plugin`.
    ///
    /// # Errors
    /// Everything that is wrong with the configuration: the proxy has to refuse it.
    pub fn configure(host: &impl Host, plugin: &str, configuration: &[u8]) -> Result<Worker, Problems> {
        let config = PluginConfig::parse(configuration)?;
        let inline = match &config.experiments.inline {
            Some(inline) => Some(inline_snapshot(host, inline, &config.compile_options())?),
            None => None,
        };
        let now_ms = host.now_ms();
        let vm = host.random() as u64;
        let prefix = format!("edgesplit/{plugin}");
        let inline_revision = inline.as_ref().and_then(|snapshot| snapshot.revision.clone());
        let source = config.experiments.source.clone();
        let pipeline = config.events.clone().map(|events| Pipeline::new(events, vm, &prefix, TICK_MS));
        let sync = source
            .map(|source| ConfigSync::new(source, config.compile_options(), inline_revision, vm, &prefix, now_ms));
        let recorder = pipeline.as_ref().map(|pipeline| pipeline.recorder.clone());
        let mut worker = Worker::new(host, plugin, Arc::new(config), recorder, (vm, now_ms));
        (worker.sync, worker.pipeline) = (sync, pipeline);
        worker.own_names(host, &NameSet::default());
        let fetched = worker.sync.as_mut().and_then(|sync| sync.start(host, now_ms, &mut worker.metrics));
        if let Some(snapshot) = fetched.or(inline) {
            worker.install_new(host, snapshot);
        }
        worker.metrics.flush(host);
        Ok(worker)
    }

    /// A worker for another thread of the process, with the configuration, the events and the experiments of this one.
    pub fn sibling(&self, host: &impl Host, plugin: &str) -> Worker {
        let (vm, config) = (host.random() as u64, Arc::clone(&self.config));
        let mut sibling = Worker::new(host, plugin, config, self.recorder.clone(), (vm, self.now_ms));
        sibling.own_names(host, &NameSet::default());
        sibling.follow(host, self);
        sibling
    }

    fn new(
        host: &impl Host,
        plugin: &str,
        config: Arc<PluginConfig>,
        recorder: Option<SharedRecorder>,
        (vm, now_ms): (u64, i64),
    ) -> Worker {
        let prefix = format!("edgesplit/{plugin}");
        Worker {
            metrics: Metrics::define(host, plugin),
            snapshot: None,
            recorder,
            pipeline: None,
            sync: None,
            owned: config.request.owned_names(),
            names_key: format!("{prefix}/names"),
            retired: Vec::new(),
            scratch: RequestScratch::default(),
            identification: Identification::default(),
            assignment_sets: AssignmentSets::default(),
            decisions: DecisionCounts::default(),
            guardrails: Guardrails::new(&prefix, vm),
            legs: Legs::new(host, plugin),
            configured_ms: now_ms,
            gauges_ms: i64::MIN,
            now_ms,
            config,
        }
    }

    /// Puts a snapshot that this worker has compiled into force. If it is the first, reports that no request has an id.
    fn install_new(&mut self, host: &impl Host, snapshot: Snapshot) {
        if self.snapshot.is_none()
            && let Some(problem) = self.config.identity_problem(&snapshot)
        {
            host.log(log::Level::Warn, &format!("{problem}, so no visitor is in an experiment"));
        }
        self.install(host, Arc::new(snapshot));
    }

    /// Puts a snapshot into force. Requests in progress keep the one they began with.
    fn install(&mut self, host: &impl Host, snapshot: Arc<Snapshot>) {
        // Counts that are not flushed would keep the names of the previous snapshot.
        self.flush_counts();
        self.metrics.flush(host);
        self.metrics.record(host, Gauge::DisabledExperiments, snapshot.disabled.len() as u64);
        self.metrics.record(host, Gauge::RevisionHash, revision_hash(snapshot.revision.as_deref()));
        if let (Some(pipeline), Some(rules)) = (&mut self.pipeline, &snapshot.flag_evaluator) {
            pipeline
                .set_head(pipeline.recorder.format.vendor_wire().map(|wire| wire.head(&**rules)).unwrap_or_default());
        }
        self.own_names(host, &snapshot.owned_request_headers);
        self.assignment_sets.clear();
        self.decisions.reset(snapshot.experiments.len());
        self.guardrails.install(host, self.now_ms, &snapshot, &mut self.metrics);
        let variants = snapshot.experiments.iter().map(|experiment| experiment.variants.len()).sum();
        self.retired.extend(self.snapshot.replace(snapshot));
        self.release_names(variants);
        if self.retired.len() > RETIRED_SNAPSHOTS_MAX {
            // Requests in progress use it: the last of them frees it.
            self.retired.remove(0);
        }
    }

    /// Takes over the experiments of `control`, the worker that fetches them, if they have changed. The control worker frees
    /// the replaced ones.
    pub fn follow(&mut self, host: &impl Host, control: &Worker) {
        let Some(snapshot) = &control.snapshot else { return };
        if !self.snapshot.as_ref().is_some_and(|current| Arc::ptr_eq(current, snapshot)) {
            self.install(host, Arc::clone(snapshot));
            self.retired.clear();
        }
    }

    /// Frees a part of the snapshots that were replaced. Requests in progress may still use them.
    fn free_retired(&mut self) {
        let mut left = FREED_PARTS_PER_TICK;
        self.retired.retain_mut(|snapshot| {
            let Some(snapshot) = Arc::get_mut(snapshot) else { return true };
            snapshot.free(&mut left);
            left == 0
        });
    }

    /// Owns the names of all configs so far, and `names` of the next one.
    fn own_names(&mut self, host: &impl Host, names: &NameSet) {
        let Worker { owned, config, metrics, names_key, now_ms, .. } = self;
        owned_names::own(owned, &config.request, names, names_key, &mut Env::new(host, *now_ms, metrics));
    }

    /// Hands the counts of responses and decisions over to the metrics.
    pub fn flush_counts(&mut self) {
        self.assignment_sets.flush(&mut self.metrics);
        if let Some(snapshot) = &self.snapshot {
            self.decisions.flush(snapshot, &mut self.metrics);
        }
    }

    /// Takes in the plan of a stream that has ended without response headers.
    pub fn end_without_response(&mut self, host: &(impl Host + StreamHost), plan: ResponsePlan) {
        self.legs.end(host, plan, self.now_ms, &mut self.metrics);
    }

    /// How long to wait for the next tick.
    pub fn tick_period_ms(&self) -> u64 {
        let waits = self.sync.is_some() && self.snapshot.is_none();
        let waited_ms = self.now_ms.saturating_sub(self.configured_ms);
        let is_compiling = self.sync.as_ref().is_some_and(ConfigSync::is_compiling);
        let soon = is_compiling || (waits && (0..FIRST_TICKS_FOR_MS).contains(&waited_ms));
        if soon { FIRST_TICK_MS } else { TICK_MS }
    }

    /// The regular work.
    pub fn tick(&mut self, host: &impl Host) {
        self.now_ms = host.now_ms();
        self.flush_counts();
        // Counts are flushed before their events can be delivered: if this VM dies in between, the difference is its loss.
        self.metrics.flush(host);
        self.guardrails.tick(host, self.now_ms, &mut self.metrics);
        self.identification.report(host, &self.config.visitor, self.snapshot.as_deref());
        self.free_retired();
        if let Some(snapshot) = self.sync.as_mut().and_then(|sync| sync.tick(host, self.now_ms, &mut self.metrics)) {
            self.install_new(host, snapshot);
        }
        if let Some(pipeline) = &mut self.pipeline {
            pipeline.tick(host, self.now_ms, &mut self.metrics);
        }
        if self.now_ms.saturating_sub(self.gauges_ms) >= GAUGES_EVERY_MS || self.now_ms < self.gauges_ms {
            self.gauges_ms = self.now_ms;
            // The control worker knows the age of a sibling's config.
            if self.sync.is_some() || self.config.experiments.source.is_none() {
                let age_ms = self.sync.as_ref().map_or(0, |sync| sync.age_ms(self.now_ms));
                self.metrics.record(host, Gauge::AgeSeconds, age_ms.unsigned_abs() / 1_000);
            }
            self.release_names(0);
        }
        self.metrics.flush(host);
    }

    /// Releases the names of metrics of ended experiments, if there may be none left for `more` variants.
    fn release_names(&mut self, more: usize) {
        let Some(snapshot) = self.snapshot.as_ref().filter(|_| self.metrics.lacks_names(more)) else { return };
        let is_live = |experiment: &&Experiment| schedule_reason(experiment, self.now_ms) != Some(Reason::Ended);
        let live = snapshot.experiments.iter().filter(is_live).flat_map(|Experiment { key, variants, .. }| {
            variants.iter().map(|variant| variant.tag).chain([experiment_tag(key)])
        });
        self.metrics.release_names(live);
    }

    /// Takes in the reply to a call.
    pub fn on_reply(&mut self, host: &impl Host, token: u32, reply: &impl Reply) {
        self.now_ms = host.now_ms();
        let fetched =
            (self.sync.as_mut()).and_then(|sync| sync.on_reply(host, self.now_ms, token, reply, &mut self.metrics));
        match fetched {
            Some(Some(snapshot)) => self.install_new(host, snapshot),
            Some(None) => {}
            None => {
                let sent = self.pipeline.as_mut();
                let known = sent.is_some_and(|sent| sent.on_reply(host, self.now_ms, token, reply, &mut self.metrics));
                if !known {
                    self.metrics.add(Counter::StaleReply, 1);
                }
            }
        }
        self.metrics.flush(host);
    }

    /// Sends the remaining events before the VM ends.
    pub fn shut_down(&mut self, host: &impl Host) {
        self.now_ms = host.now_ms();
        self.flush_counts();
        self.metrics.flush(host);
        if let Some(pipeline) = &mut self.pipeline {
            pipeline.shut_down(host, self.now_ms, &mut self.metrics);
        }
        self.metrics.flush(host);
    }
}

/// Compiles the experiments of the plugin configuration itself. One bad experiment is disabled as always. A problem of the
/// whole document refuses the configuration.
fn inline_snapshot(host: &impl Host, inline: &serde_json::Value, options: &Options) -> Result<Snapshot, Problems> {
    let root = Path::Root;
    let experiments = root.field("experiments");
    let compiled = edgesplit_formats::compile_at(Node { value: inline, path: &experiments.field("inline") }, options);
    match compiled.snapshot {
        Some(snapshot) => {
            log_problems(host, "plugin configuration", &compiled.problems, snapshot.disabled.len());
            Ok(snapshot)
        }
        None => Err(compiled.problems),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_host::TestHost;
    use serde_json::json;

    #[test]
    fn missing_identity_is_logged_at_start() {
        let variants = json!([{"key": "a", "weight": 10_000, "baseline": true}]);
        for (visitor, unit, is_logged) in [
            (json!({}), "id", true),
            (json!({}), "cookie.uid", false),
            (json!({"id": [{"cookie": "uid"}]}), "id", false),
            (json!({"mint": {"cookie": "ab"}}), "id", false),
        ] {
            let experiment = json!({"key": "nav", "state": "running", "unit": unit, "variants": variants});
            let inline = json!({"schema": 1, "experiments": [experiment]});
            let config = json!({"experiments": {"inline": inline}, "visitor": visitor}).to_string();
            let host = TestHost::default();
            Worker::configure(&host, "shop", config.as_bytes()).unwrap();
            let is_about_ids = |line: &String| line.starts_with("no request has an id");
            assert_eq!(host.log.borrow().iter().any(is_about_ids), is_logged, "{config}");
        }
    }

    #[test]
    fn workers_can_move_to_other_threads() {
        fn assert_send<T: Send>() {}
        assert_send::<Worker>();
    }

    #[test]
    fn siblings_share_the_snapshot_and_the_recorder() {
        let variants = json!([{"key": "a", "weight": 10_000}]);
        let experiment = json!({"key": "nav", "state": "running", "variants": variants});
        let inline = json!({"schema": 1, "experiments": [experiment]});
        let config = json!({"experiments": {"inline": inline}, "events": {"cluster": "collector"}}).to_string();
        let host = TestHost::default();
        let mut control = Worker::configure(&host, "shop", config.as_bytes()).unwrap();
        let mut sibling = control.sibling(&host, "shop");
        assert_eq!(host.log.borrow().len(), 1, "one line about the missing ids: {:?}", host.log.borrow());
        let share = |a: &Worker, b: &Worker| Arc::ptr_eq(a.snapshot.as_ref().unwrap(), b.snapshot.as_ref().unwrap());
        assert!(share(&control, &sibling));
        assert!(sibling.recorder.as_ref().unwrap().lock().exposures.remember(7, 1));
        assert!(!control.recorder.as_ref().unwrap().lock().exposures.remember(7, 1), "one memory");

        control.install(&host, Arc::new(Snapshot::default()));
        assert!(!share(&control, &sibling));
        sibling.follow(&host, &control);
        assert!(share(&control, &sibling) && sibling.retired.is_empty());
        control.tick(&host);
        assert!(control.retired.is_empty(), "the control worker frees replaced snapshots");
    }
}
