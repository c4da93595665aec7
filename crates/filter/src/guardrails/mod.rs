//! Guardrails across the workers of a proxy: what each of them counts comes together in shared data, where whoever adds
//! to it also judges, so that a variant is switched off for all of them at once and stays so. On the tick, never in a request.

pub mod table;

use crate::config_sync::CAS_TRIES_MAX;
use crate::host::{Host, SetError};
use crate::metrics::{Counter, Metrics};
use edgesplit_engine::guardrail::Tally;
use edgesplit_engine::hash::fingerprint;
use edgesplit_engine::snapshot::{Choice, Snapshot, State};
use std::rc::Rc;
use table::{Row, Table};

/// How often workers exchange what they have counted.
pub const EXCHANGE_EVERY_MS: i64 = 500;

/// The guardrails of the snapshot in force.
#[derive(Debug)]
pub struct Guardrails {
    key: String,
    snapshot: Rc<Snapshot>,
    /// Names the revision: with another one everything begins anew.
    revision: u64,
    guarded: Vec<Guarded>,
    /// The tags of the variants that are switched off.
    off: Vec<u64>,
    exchanged_ms: i64,
}

/// A variant under a guardrail, or the baseline that others are compared with.
#[derive(Debug)]
struct Guarded {
    choice: Choice,
    tag: u64,
    /// Where the baseline stands in the list; its own place, for a baseline.
    baseline: usize,
    /// What was counted here and is not in shared data yet.
    fresh: Tally,
}

impl Guardrails {
    /// Nothing is guarded yet. `prefix` is put in front of the key in shared data.
    pub fn new(prefix: &str) -> Guardrails {
        Guardrails {
            key: format!("{prefix}/guardrails"),
            snapshot: Rc::default(),
            revision: 0,
            guarded: Vec::new(),
            off: Vec::new(),
            exchanged_ms: i64::MIN,
        }
    }

    /// Guards `snapshot` from now on. What other workers know of its revision counts at once.
    pub fn install(&mut self, host: &impl Host, now_ms: i64, snapshot: &Rc<Snapshot>, metrics: &mut Metrics) {
        self.exchange(host, now_ms, metrics);
        for guarded in self.guarded.iter().filter(|guarded| self.off.contains(&guarded.tag)) {
            if let Some((experiment, variant)) = self.snapshot.choice(guarded.choice) {
                metrics.switched(host, &experiment.key, variant, false);
            }
        }
        self.guarded = guarded(snapshot);
        self.revision = revision(snapshot, &self.guarded);
        self.snapshot = Rc::clone(snapshot);
        self.off.clear();
        self.exchange(host, now_ms, metrics);
        for guarded in self.guarded.iter().enumerate().filter(|(at, one)| one.baseline != *at).map(|(_, one)| one) {
            if let Some((experiment, variant)) = self.snapshot.choice(guarded.choice) {
                metrics.switched(host, &experiment.key, variant, self.off.contains(&guarded.tag));
            }
        }
    }

    /// The tags of the variants that are switched off.
    pub fn off(&self) -> &[u64] {
        &self.off
    }

    /// Counts responses of a variant.
    pub fn count(&mut self, tag: u64, tally: Tally) {
        if let Some(guarded) = self.guarded.iter_mut().find(|guarded| guarded.tag == tag) {
            guarded.fresh.add(tally);
        }
    }

    /// Exchanges counts with the other workers, if it is time.
    pub fn tick(&mut self, host: &impl Host, now_ms: i64, metrics: &mut Metrics) {
        let is_due = now_ms.saturating_sub(self.exchanged_ms) >= EXCHANGE_EVERY_MS || now_ms < self.exchanged_ms;
        if is_due && !self.guarded.is_empty() {
            self.exchange(host, now_ms, metrics);
        }
    }

    fn exchange(&mut self, host: &impl Host, now_ms: i64, metrics: &mut Metrics) {
        self.exchanged_ms = now_ms;
        if self.guarded.is_empty() {
            return;
        }
        for _ in 0..CAS_TRIES_MAX {
            let Ok(shared) = host.shared_get(&self.key) else {
                metrics.add(Counter::SharedData, 1);
                return;
            };
            let known = Table::decode(&shared.value);
            if known.is_none() && !shared.value.is_empty() {
                metrics.add(Counter::SharedDataCorrupt, 1);
            }
            let mut table = known.unwrap_or_default();
            let tags = self.guarded.iter().map(|guarded| guarded.tag);
            let mut rows = table.rows(self.revision, tags);
            if self.guarded.iter().all(|guarded| guarded.fresh == Tally::default()) {
                return self.obey(host, &rows, metrics);
            }
            for (row, guarded) in rows.iter_mut().zip(&self.guarded) {
                row.tally.add(guarded.fresh);
            }
            let switched = self.judge(&mut rows);
            table.put(self.revision, rows.clone());
            match host.shared_set(&self.key, &table.encode(), shared.cas) {
                Ok(()) => {
                    for guarded in &mut self.guarded {
                        guarded.fresh = Tally::default();
                    }
                    for at in switched {
                        self.tell(host, &rows, at);
                    }
                    return self.obey(host, &rows, metrics);
                }
                Err(SetError::Stale) => {}
                Err(SetError::Failed) => {
                    metrics.add(Counter::SharedData, 1);
                    return;
                }
            }
        }
        // What is fresh stays so until the next exchange.
        metrics.add(Counter::CasExhausted, 1);
    }

    /// Switches off what is worse than its baseline; gives the places of what was on before.
    fn judge(&self, rows: &mut [Row]) -> Vec<usize> {
        let mut switched = Vec::new();
        for (at, guarded) in self.guarded.iter().enumerate().filter(|(at, guarded)| guarded.baseline != *at) {
            let Some(baseline) = rows.get(guarded.baseline).map(|row| row.tally) else { continue };
            let Some(row) = rows.get_mut(at).filter(|row| !row.off) else { continue };
            let experiment = self.snapshot.experiments.get(guarded.choice.experiment);
            let Some(guardrail) = experiment.and_then(|experiment| experiment.guardrail) else { continue };
            if guardrail.is_worse(baseline, row.tally, &mut row.looks) {
                row.off = true;
                switched.push(at);
            }
        }
        switched
    }

    /// Writes to the log that a variant was switched off, once for the proxy: by the worker that did it.
    fn tell(&self, host: &impl Host, rows: &[Row], at: usize) {
        let Some(guarded) = self.guarded.get(at) else { return };
        let (Some(row), Some(baseline)) = (rows.get(at), rows.get(guarded.baseline)) else { return };
        let Some((experiment, variant)) = self.snapshot.choice(guarded.choice) else { return };
        let message = format!(
            "guardrail: variant {:?} of experiment {:?} is switched off on this proxy until the config's next revision: {} of its {} \
             responses were 5xx, {} of the baseline's {}",
            variant.key,
            experiment.key,
            row.tally.errors,
            row.tally.responses,
            baseline.tally.errors,
            baseline.tally.responses
        );
        host.log(log::Level::Error, &message);
    }

    /// Takes over what is off.
    fn obey(&mut self, host: &impl Host, rows: &[Row], metrics: &mut Metrics) {
        for (_, guarded) in rows.iter().zip(&self.guarded).filter(|(row, _)| row.off) {
            if self.off.contains(&guarded.tag) {
                continue;
            }
            self.off.push(guarded.tag);
            if let Some((experiment, variant)) = self.snapshot.choice(guarded.choice) {
                metrics.switched(host, &experiment.key, variant, true);
            }
        }
    }
}

/// The variants of running experiments that have a guardrail, each experiment's together.
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

/// Names the revision. Where the config does not, what is guarded does.
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
