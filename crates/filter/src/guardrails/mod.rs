//! Guardrails over all workers of a proxy. Each worker adds its counts to a table in shared data and evaluates it, so a variant
//! is switched off for all workers at once and stays off. This happens on the tick, never in a request.

pub mod table;

use crate::env::Env;
use crate::events::dedupe::Dedupe;
use crate::host::Host;
use crate::metrics::Metrics;
use crate::shared_data;
use edgesplit_engine::attribute::Attributes;
use edgesplit_engine::decide::unit;
use edgesplit_engine::guardrail::Tally;
use edgesplit_engine::hash::fingerprint;
use edgesplit_engine::snapshot::{Choice, Snapshot, State};
use std::sync::Arc;
use table::{Row, Table};

/// How often workers exchange their counts.
pub const EXCHANGE_EVERY_MS: i64 = 500;

/// A worker counts a visitor of a variant once in this time.
const VISITOR_WINDOW_MS: u64 = 24 * 3_600_000;

/// How many counted visitors a worker remembers; at least the last half of them. A forgotten visitor counts again, which is then
/// at most one count in so many.
const COUNTED_VISITORS_MAX: usize = 20_000;

/// Distinguishes a visitor's error from the visitor in the memory of counted ones.
const ERROR: u64 = 0x5bd1_e995_7b7d_159d;

/// The guarded variants that a request was assigned, until its response is counted.
#[derive(Debug, Default)]
pub struct GuardedVisits {
    /// The revision that the positions belong to.
    revision: u64,
    /// Positions in the list of guarded variants, each with the visitor's name.
    visits: Vec<(usize, u64)>,
}

impl GuardedVisits {
    /// Whether no guarded variant was assigned.
    pub fn is_empty(&self) -> bool {
        self.visits.is_empty()
    }
}

/// The guardrails of the snapshot in force.
#[derive(Debug)]
pub struct Guardrails {
    key: String,
    snapshot: Arc<Snapshot>,
    /// Identifies the revision: another one starts from zero.
    revision: u64,
    guarded: Vec<Guarded>,
    /// The tags of the variants that are switched off.
    off: Vec<u64>,
    exchanged_ms: i64,
    /// The visitors that were counted: no single one can switch a variant off.
    counted: Dedupe,
}

/// A variant under a guardrail, or the baseline that it is compared with.
#[derive(Debug)]
struct Guarded {
    choice: Choice,
    tag: u64,
    /// The position of its baseline in the list: its own, for a baseline.
    baseline: usize,
    /// Counts that are not in shared data yet.
    fresh: Tally,
}

impl Guardrails {
    /// Nothing is guarded yet. The key in shared data begins with `prefix`; `seed` is secret.
    pub fn new(prefix: &str, seed: u64) -> Guardrails {
        Guardrails {
            key: format!("{prefix}/guardrails"),
            snapshot: Arc::default(),
            revision: 0,
            guarded: Vec::new(),
            off: Vec::new(),
            exchanged_ms: i64::MIN,
            counted: Dedupe::new(seed, VISITOR_WINDOW_MS, COUNTED_VISITORS_MAX),
        }
    }

    /// Guards `snapshot` from now on, at once with the counts of other workers for its revision.
    pub fn install(&mut self, host: &impl Host, now_ms: i64, snapshot: &Arc<Snapshot>, metrics: &mut Metrics) {
        let env = &mut Env::new(host, now_ms, metrics);
        self.exchange(env);
        for guarded in self.guarded.iter().filter(|guarded| self.off.contains(&guarded.tag)) {
            self.record_switch(env, guarded, false);
        }
        self.guarded = guarded(snapshot);
        self.revision = revision(snapshot, &self.guarded);
        self.snapshot = Arc::clone(snapshot);
        self.off.clear();
        self.exchange(env);
        for guarded in self.guarded.iter().enumerate().filter(|(at, one)| one.baseline != *at).map(|(_, one)| one) {
            self.record_switch(env, guarded, self.off.contains(&guarded.tag));
        }
    }

    /// The tags of the variants that are switched off.
    pub fn off(&self) -> &[u64] {
        &self.off
    }

    /// The guarded variants among the `choices` of a visitor, if there are any, for [`Guardrails::count`].
    #[inline(always)]
    pub fn visits(&self, choices: &[Choice], visitor: &impl Attributes) -> Option<GuardedVisits> {
        if self.guarded.is_empty() { None } else { self.guarded_visits(choices, visitor) }
    }

    #[inline(never)]
    fn guarded_visits(&self, choices: &[Choice], visitor: &impl Attributes) -> Option<GuardedVisits> {
        let visit = |choice: &Choice| {
            let at = self.guarded.binary_search_by_key(choice, |guarded| guarded.choice).ok()?;
            let (experiment, variant) = self.snapshot.choice(*choice)?;
            let unit = unit(&experiment.unit, visitor)?;
            Some((at, self.counted.names.visitor(unit.as_bytes()) ^ variant.tag))
        };
        let visits: Vec<(usize, u64)> = choices.iter().filter_map(visit).collect();
        (!visits.is_empty()).then_some(GuardedVisits { revision: self.revision, visits })
    }

    /// Counts a response. Each visitor of a variant counts once, and once more as an error, however many requests there are.
    pub fn count(&mut self, visits: &GuardedVisits, status: u16, now_ms: i64) {
        if visits.revision != self.revision {
            return;
        }
        let window = self.counted.names.window(now_ms);
        for (at, name) in &visits.visits {
            let Some(guarded) = self.guarded.get_mut(*at) else { continue };
            let visitors = u64::from(self.counted.remember(*name, window));
            let is_error = (500..600).contains(&status);
            let errors = u64::from(is_error && self.counted.remember(name ^ ERROR, window));
            guarded.fresh.add(Tally { visitors, errors });
        }
    }

    /// Exchanges counts with the other workers, if it is time.
    pub fn tick(&mut self, host: &impl Host, now_ms: i64, metrics: &mut Metrics) {
        let is_due = now_ms.saturating_sub(self.exchanged_ms) >= EXCHANGE_EVERY_MS || now_ms < self.exchanged_ms;
        if is_due && !self.guarded.is_empty() {
            self.exchange(&mut Env::new(host, now_ms, metrics));
        }
    }

    /// Adds the fresh counts to the table, evaluates it, and applies the result.
    fn exchange(&mut self, env: &mut Env<'_, impl Host>) {
        self.exchanged_ms = env.now_ms;
        if self.guarded.is_empty() {
            return;
        }
        let mut rows = Vec::new();
        let exchanged = shared_data::update(env, &self.key, |table: &mut Table| {
            rows = table.rows(self.revision, self.guarded.iter().map(|guarded| guarded.tag));
            if self.guarded.iter().all(|guarded| guarded.fresh == Tally::default()) {
                return None;
            }
            for (row, guarded) in rows.iter_mut().zip(&self.guarded) {
                row.tally.add(guarded.fresh);
            }
            let disabled = self.evaluate(&mut rows);
            table.put(self.revision, rows.clone());
            Some(disabled)
        });
        // After an error, the fresh counts wait for the next exchange.
        let Ok(disabled) = exchanged else { return };
        if let Some(disabled) = disabled {
            for guarded in &mut self.guarded {
                guarded.fresh = Tally::default();
            }
            for at in disabled {
                self.log_disabled(env, &rows, at);
            }
        }
        self.apply_disabled(env, &rows);
    }

    /// Switches off every variant that is worse than its baseline. Gives the positions of those that were on.
    fn evaluate(&self, rows: &mut [Row]) -> Vec<usize> {
        let mut disabled = Vec::new();
        for (at, guarded) in self.guarded.iter().enumerate().filter(|(at, guarded)| guarded.baseline != *at) {
            let Some(baseline) = rows.get(guarded.baseline).map(|row| row.tally) else { continue };
            let Some(row) = rows.get_mut(at).filter(|row| !row.off) else { continue };
            let experiment = self.snapshot.experiments.get(guarded.choice.experiment);
            let Some(guardrail) = experiment.and_then(|experiment| experiment.guardrail) else { continue };
            if guardrail.is_worse(baseline, row.tally, &mut row.looks) {
                row.off = true;
                disabled.push(at);
            }
        }
        disabled
    }

    /// Logs that a variant was switched off: once for the proxy, by the worker that did it.
    fn log_disabled(&self, env: &Env<'_, impl Host>, rows: &[Row], at: usize) {
        let Some(guarded) = self.guarded.get(at) else { return };
        let (Some(row), Some(baseline)) = (rows.get(at), rows.get(guarded.baseline)) else { return };
        let Some((experiment, variant)) = self.snapshot.choice(guarded.choice) else { return };
        let message = format!(
            "guardrail: variant {:?} of experiment {:?} is switched off on this proxy until the config's next revision: {} of its {} \
             visitors were answered 5xx, {} of the baseline's {}",
            variant.key,
            experiment.key,
            row.tally.errors,
            row.tally.visitors,
            baseline.tally.errors,
            baseline.tally.visitors
        );
        env.host.log(log::Level::Error, &message);
    }

    /// Stops this worker from assigning the variants that are switched off.
    fn apply_disabled(&mut self, env: &mut Env<'_, impl Host>, rows: &[Row]) {
        for (_, guarded) in rows.iter().zip(&self.guarded).filter(|(row, _)| row.off) {
            if self.off.contains(&guarded.tag) {
                continue;
            }
            self.off.push(guarded.tag);
            self.record_switch(env, guarded, true);
        }
    }

    /// Sets the gauge of a variant.
    fn record_switch(&self, env: &mut Env<'_, impl Host>, guarded: &Guarded, off: bool) {
        if let Some((experiment, variant)) = self.snapshot.choice(guarded.choice) {
            env.metrics.switched(&experiment.key, variant, off);
        }
    }
}

/// The variants of running experiments with a guardrail, grouped by experiment.
fn guarded(snapshot: &Snapshot) -> Vec<Guarded> {
    let mut guarded = Vec::new();
    for (at, experiment) in snapshot.experiments.iter().enumerate() {
        if experiment.guardrail.is_none() || experiment.state != State::Running {
            continue;
        }
        let Some(baseline) = experiment.variants.iter().position(|variant| variant.baseline) else { continue };
        let baseline = guarded.len() + baseline;
        let variants = experiment.variants.iter().enumerate();
        guarded.extend(variants.map(|(variant, of)| Guarded {
            choice: Choice { experiment: at, variant },
            tag: of.tag,
            baseline,
            fresh: Tally::default(),
        }));
    }
    guarded
}

/// Identifies the revision, and the guarded variants with it: a config may have no revision.
fn revision(snapshot: &Snapshot, guarded: &[Guarded]) -> u64 {
    let mut parts: Vec<Vec<u8>> = vec![snapshot.revision.clone().unwrap_or_default().into_bytes()];
    for (experiment, variant) in guarded.iter().filter_map(|guarded| snapshot.choice(guarded.choice)) {
        let Some(guardrail) = experiment.guardrail else { continue };
        parts.push(variant.tag.to_le_bytes().to_vec());
        parts.push(variant.bucket_end.to_le_bytes().to_vec());
        parts.push(guardrail.min_exposures.to_le_bytes().to_vec());
        parts.push(guardrail.max_5xx_ratio_increase.to_le_bytes().to_vec());
        parts.push(guardrail.confidence.to_le_bytes().to_vec());
    }
    let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
    fingerprint(&parts) as u64
}
