//! What a seed means: how many VMs there are, how they are configured, what goes wrong and how often.

use crate::mutants::Mutant;
use edgesplit_testkit::random::Random;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// The name of the plugin in every run.
pub const PLUGIN: &str = "sim";

/// Largest body of experiments that is taken.
pub const CONFIG_BYTES_MAX: usize = 16_384;

/// The longest `retry-after` that the service asks for.
pub const RETRY_AFTER_S_MAX: u64 = 20;

/// One run.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// Worker VMs beside the one of the main thread.
    pub workers: usize,
    /// How long things go wrong, in milliseconds.
    pub faults_ms: u64,
    /// Crashes per million host calls.
    pub crashes: u32,
    /// How often a VM loses its thread at a host call, per million.
    pub pauses: u32,
    /// How many of a million such pauses are long: a starved thread.
    pub long_pauses: u32,
    /// Mean milliseconds between two changes of a service's health.
    pub shift_ms: u64,
    /// Mean milliseconds between two steps of the clock; 0: none.
    pub jump_ms: u64,
    /// Mean milliseconds between two reloads of the listener; 0: none.
    pub reload_ms: u64,
    /// Mean milliseconds between two restarts of the process; 0: none.
    pub restart_ms: u64,
    /// Mean milliseconds between two changes of the experiments.
    pub config_ms: u64,
    /// Mean milliseconds between two requests.
    pub request_ms: u64,
    /// How many visitors there are.
    pub visitors: u64,
    /// Calls that the network drops, doubles or delays while a service is well, per million.
    pub noise: u32,
    /// There is a fallback.
    pub fallback: bool,
    /// Events as lines.
    pub ndjson: bool,
    /// `experiments.refresh`.
    pub refresh_ms: u64,
    /// `events.timeout` and `experiments.timeout`.
    pub timeout_ms: u64,
    /// `events.batch.max_events`.
    pub batch_events: usize,
    /// `events.batch.max_bytes`.
    pub batch_bytes: usize,
    /// `events.batch.max_age`.
    pub batch_age_ms: u64,
    /// `events.outbox.max_bytes`.
    pub outbox_bytes: usize,
    /// `events.outbox.max_batches`.
    pub outbox_batches: usize,
    /// `events.outbox.max_age`.
    pub outbox_age_ms: u64,
    /// `events.outbox.on_full` is `drop_newest`.
    pub drop_newest: bool,
    /// `events.retry.backoff_min`.
    pub backoff_min_ms: u64,
    /// `events.retry.backoff_max`.
    pub backoff_max_ms: u64,
    /// `events.retry.lease`.
    pub lease_ms: u64,
    /// `events.dedupe.window`.
    pub window_ms: u64,
    /// `events.dedupe.max_entries`.
    pub dedupe_entries: usize,
    /// `events.outbox.spool`, for native processes. Others have no disk.
    pub spool: Option<PathBuf>,
    /// Changes of the disk that fail, per million.
    pub disk_errors: u32,
    /// Mean microseconds that a change of the disk takes.
    pub disk_us: u64,
}

impl Scenario {
    /// The scenario of a seed.
    pub fn new(rng: &mut Random) -> Scenario {
        let sometimes = |rng: &mut Random, odds: u64, mean: u64| if rng.one_in(odds) { mean } else { 0 };
        let batch_bytes = rng.pick(&[700, 2_000, 8_000, 262_144]);
        let timeout_ms = rng.pick(&[300, 1_000, 2_000]);
        let backoff_min_ms = rng.pick(&[200, 1_000]);
        Scenario {
            workers: rng.range(1, 4) as usize,
            faults_ms: rng.range(15_000, 50_000),
            crashes: rng.pick(&[0, 0, 20, 100, 500, 2_000]),
            pauses: rng.pick(&[0, 20_000, 100_000, 300_000]),
            long_pauses: rng.pick(&[0, 0, 500, 5_000]),
            shift_ms: rng.pick(&[1_000, 4_000, 10_000]),
            jump_ms: sometimes(rng, 3, 15_000),
            reload_ms: sometimes(rng, 4, 15_000),
            restart_ms: sometimes(rng, 5, 25_000),
            config_ms: rng.pick(&[2_000, 8_000]),
            request_ms: rng.pick(&[10, 40, 150]),
            visitors: rng.pick(&[20, 1_000, 1_000_000]),
            noise: rng.pick(&[0, 20_000, 200_000]),
            fallback: rng.one_in(3),
            ndjson: rng.one_in(4),
            refresh_ms: rng.pick(&[500, 2_000, 5_000]),
            timeout_ms,
            batch_events: rng.pick(&[1, 3, 10, 500]),
            batch_bytes,
            batch_age_ms: rng.pick(&[50, 300, 1_000]),
            outbox_bytes: rng.pick(&[batch_bytes, batch_bytes * 3, batch_bytes + 6_000, 16 << 20]),
            outbox_batches: rng.pick(&[1, 3, 12, 256]),
            outbox_age_ms: rng.pick(&[4_000, 20_000, 24 * 3_600_000, 24 * 3_600_000]),
            drop_newest: rng.one_in(3),
            backoff_min_ms,
            backoff_max_ms: backoff_min_ms * rng.pick(&[1, 4, 10]),
            lease_ms: timeout_ms + rng.pick(&[1, 500, 5_000]),
            window_ms: rng.pick(&[2_000, 60_000, 1_800_000]),
            dedupe_entries: rng.pick(&[2, 100, 100_000]),
            spool: None,
            disk_errors: 0,
            disk_us: 0,
        }
    }

    /// Changes the scenario into one of native processes: they crash often, in changes of the disk too, and have a spool.
    pub fn use_native(&mut self, rng: &mut Random, spool: &Path) {
        self.spool = Some(spool.to_owned());
        self.restart_ms = rng.pick(&[3_000, 8_000, 20_000]);
        self.crashes = rng.pick(&[0, 2_000, 20_000]);
        self.disk_errors = rng.pick(&[0, 0, 5_000, 100_000]);
        self.disk_us = rng.pick(&[200, 3_000, 60_000]);
        // The ledger does not calculate the exposures that a full memory forgets.
        self.dedupe_entries = 100_000;
    }

    /// Whether nothing but the services and the network misbehaves.
    pub fn is_calm(&self) -> bool {
        self.crashes == 0 && self.long_pauses == 0 && self.jump_ms == 0 && self.reload_ms == 0 && self.restart_ms == 0
    }

    /// The plugin configuration as the VMs get it: with a mutant, not the one that the checks know.
    pub fn plugin_config(&self, mutant: Option<Mutant>) -> Vec<u8> {
        let ms = |ms: u64| Value::from(format!("{ms}ms"));
        let (batches, max_age_ms, entries) = match mutant {
            Some(Mutant::NoBounds) => (self.outbox_batches * 4, self.outbox_age_ms, self.dedupe_entries),
            Some(Mutant::NeverTooOld) => (self.outbox_batches, 30 * 24 * 3_600_000, self.dedupe_entries),
            Some(Mutant::ForgetsVisitors) => (self.outbox_batches, self.outbox_age_ms, 1),
            _ => (self.outbox_batches, self.outbox_age_ms, self.dedupe_entries),
        };
        let config = json!({
            "experiments": {
                "cluster": "experiments", "path": "/experiments.json", "refresh": ms(self.refresh_ms),
                "timeout": ms(self.timeout_ms), "max_bytes": CONFIG_BYTES_MAX,
            },
            "visitor": {"id": [{"header": "x-user-id"}]},
            "events": {
                "format": if self.ndjson { "ndjson" } else { "native" },
                "cluster": "collector", "path": "/v1/events", "timeout": ms(self.timeout_ms),
                "fallback": self.fallback.then(|| json!({"cluster": "backup", "path": "/"})),
                "batch": {
                    "max_events": self.batch_events, "max_bytes": self.batch_bytes, "max_age": ms(self.batch_age_ms),
                },
                "dedupe": {"window": ms(self.window_ms), "max_entries": entries},
                "outbox": {
                    "max_bytes": self.outbox_bytes, "max_batches": batches, "max_age": ms(max_age_ms),
                    "on_full": if self.drop_newest { "drop_newest" } else { "drop_oldest" },
                    "spool": self.spool,
                },
                "retry": {
                    "backoff_min": ms(self.backoff_min_ms), "backoff_max": ms(self.backoff_max_ms),
                    "lease": ms(self.lease_ms),
                },
            },
        });
        config.to_string().into_bytes()
    }
}
