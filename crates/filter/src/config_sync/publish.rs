//! The end of a fetch: the config is given to the other VMs, or the failure is reported.

use super::ConfigSync;
use super::fetch::FetchFailure;
use super::problems::log_problems;
use super::revision::is_lower;
use super::state::{Body, Validator};
use crate::env::Env;
use crate::host::{Host, Shared};
use crate::metrics::Counter;
use crate::shared_data::{Record, swap};
use edgesplit_engine::snapshot::Snapshot;
use edgesplit_formats::Compiled;
use edgesplit_formats::diagnostics::Severity;

impl ConfigSync {
    /// Gives a config that was fetched to the other VMs. `None` if it cannot be in force.
    pub(super) fn publish(
        &mut self,
        env: &mut Env<'_, impl Host>,
        compiled: Compiled,
        validator: Option<Validator>,
        (text, text_hash): (Vec<u8>, u64),
    ) -> Option<Snapshot> {
        let Some(snapshot) = compiled.snapshot else {
            let first = compiled.problems.iter().find(|problem| problem.severity == Severity::Error);
            self.fail(env, &FetchFailure::Refused(first.map(ToString::to_string).unwrap_or_default()));
            return None;
        };
        if self.source.monotonic && is_lower(snapshot.revision.as_deref(), self.revision.as_deref()) {
            self.fail(env, &FetchFailure::Refused(too_old(&snapshot, self.revision.as_deref())));
            return None;
        }
        env.metrics.add(Counter::FetchSuccess, 1);
        log_problems(env.host, "the config that was fetched", &compiled.problems, snapshot.disabled.len());
        // A version is a name, not a number: two VMs that both publish must not use the same one.
        let version = (env.host.random() as u64).max(1);
        let revision = if self.source.monotonic { snapshot.revision.clone() } else { None };
        let body = Body { version, validator, revision, text_hash };
        let mut is_changed = false;
        let stored = swap(env, &self.body_key, &mut |env, stored| {
            let stored = Body::decode(stored);
            is_changed = stored.as_ref().is_some_and(|stored| stored.text_hash != text_hash);
            let stored_revision = stored.and_then(|stored| stored.revision);
            // Another VM may have stored a newer config in the meantime. This VM loads it with its next tick.
            let is_new = !is_lower(body.revision.as_deref(), stored_revision.as_deref());
            (is_new && env.host.shared_set(&self.text_key, &text, Shared::OVERWRITE).is_ok()).then(|| body.encode())
        });
        if stored != Ok(true) {
            self.schedule_retry(env);
            return None;
        }
        env.metrics.add(Counter::ConfigChanges, u64::from(is_changed));
        if !self.confirm(env, Some(version)) {
            // The config is not in force anywhere. If this VM used it alone, it would answer fetches with its validator, and
            // the other VMs would never get it. The next fetch brings it again.
            return None;
        }
        self.loaded = version;
        Some(snapshot)
    }

    /// The source answered: records this, a new version, if there is one, and the time of the next fetch.
    pub(super) fn confirm(&mut self, env: &mut Env<'_, impl Host>, version: Option<u64>) -> bool {
        let (now_ms, next_ms) = (env.now_ms, self.next_fetch_ms(env));
        self.confirmed_ms = Some(now_ms);
        self.update(env, &|state| {
            state.version = version.unwrap_or(state.version);
            state.confirmed_ms = now_ms;
            state.next_fetch_ms = next_ms;
            state.lease_until_ms = 0;
            true
        })
    }

    /// Reports a failed fetch. The config in force stays.
    pub(super) fn fail(&self, env: &mut Env<'_, impl Host>, failure: &FetchFailure) {
        env.metrics.add(failure.counter(), 1);
        let (level, message) = failure.message(&self.source.endpoint.cluster, self.loaded == 0);
        env.host.log(level, &message);
        self.schedule_retry(env);
    }

    /// Ends the lease and schedules the next fetch after the refresh interval.
    pub(super) fn schedule_retry(&self, env: &mut Env<'_, impl Host>) {
        let next_ms = self.next_fetch_ms(env);
        self.update(env, &|state| {
            state.next_fetch_ms = next_ms;
            state.lease_until_ms = 0;
            true
        });
    }

    /// The time of the next fetch: within the last tenth of the interval. Proxies that started together drift apart, and a
    /// change still arrives within one interval.
    fn next_fetch_ms(&self, env: &Env<'_, impl Host>) -> i64 {
        let refresh_ms = self.source.refresh_ms;
        let jitter = env.host.random() as u64 % (refresh_ms / 10).max(1);
        env.now_ms.saturating_add(i64::try_from(refresh_ms - jitter).unwrap_or(i64::MAX))
    }
}

/// The problem of a config whose revision is lower than `in_force`.
fn too_old(snapshot: &Snapshot, in_force: Option<&str>) -> String {
    let in_force = in_force.unwrap_or_default();
    match &snapshot.revision {
        Some(revision) => format!(
            "revision {revision:?} is lower than {in_force:?}, the one in force, and experiments.monotonic is on"
        ),
        None => format!("it has no revision, {in_force:?} is in force, and experiments.monotonic is on"),
    }
}
