//! The experiments of this VM: one VM of the process fetches the config on a tick, the others take it from shared data.
//!
//! Each source has three shared values: a small [`state`], which every tick reads, and the last good config with its text.
//! Only a config that compiled is stored, so a VM that starts later can load it at once. Sources do not share values,
//! because VMs of several are in use at the same time while listeners drain. A list bounds the number of sources.

mod compiling;
pub mod decoder;
mod fetch;
mod gzip;
mod problems;
mod publish;
mod revision;
pub mod state;

use crate::call_failure::CallFailure;
use crate::env::Env;
use crate::host::{Host, Reply, Shared};
use crate::metrics::{Counter, Metrics};
use crate::plugin_config::{Scheme, Source};
use crate::shared_data::{read, swap, update};
use compiling::{Compiling, Origin};
use decoder::Decoder;
use edgesplit_engine::hash::fingerprint;
use edgesplit_engine::snapshot::Snapshot;
use edgesplit_formats::{NATIVE, Options, without_byte_order_mark};
use fetch::{Answer, FetchFailure};
pub use problems::log_problems;
use state::{Body, Sources, State, Validator, keys};

/// How many VMs may fetch before their first tick. The first VM of a process is a trial that is thrown away with its calls. A
/// second one must get a chance, for the config to be present before the first request.
pub const START_FETCHES_MAX: u8 = 2;

/// How much longer than its call a fetch lease lasts, to compile the answer.
const LEASE_GRACE_MS: u64 = 5_000;

/// How much of a config is decompressed at a time.
const DECODED_BYTES_PER_STEP: usize = 256 << 10;

/// Fetches the config and follows the other VMs.
pub struct ConfigSync {
    source: Source,
    /// The options of the compiler.
    options: Options,
    /// Identifies the source.
    source_id: u64,
    /// Identifies this VM.
    vm: u64,
    configured_ms: i64,
    /// The beginning of all keys in shared data.
    prefix: String,
    state_key: String,
    body_key: String,
    text_key: String,
    /// The version of the state that was last loaded.
    loaded: u64,
    /// The validator of the body in force.
    validator: Option<Validator>,
    /// The hash of the text in force.
    text_hash: u64,
    /// The revision in force.
    revision: Option<String>,
    call: Option<u32>,
    /// When to renew the fetch lease, if it is still needed then.
    renew_ms: i64,
    decoding: Option<(Decoder, Option<Validator>)>,
    compiling: Option<Compiling>,
    /// When the source last confirmed the config, as far as this VM knows.
    confirmed_ms: Option<i64>,
    has_ticked: bool,
}

impl ConfigSync {
    /// Nothing is loaded yet, and a config with the revision `inline` is in force, if there is one. All keys in shared data
    /// begin with `prefix`.
    pub fn new(
        source: Source,
        options: Options,
        inline: Option<String>,
        vm: u64,
        prefix: &str,
        now_ms: i64,
    ) -> ConfigSync {
        let endpoint = &source.endpoint;
        let mut parts: Vec<&[u8]> =
            vec![endpoint.cluster.as_bytes(), endpoint.authority.as_bytes(), endpoint.path.as_bytes()];
        // A body of one format is useless to another. Native sources keep the ids that they have always had.
        parts.extend((options.format != NATIVE).then_some(options.format.name().as_bytes()));
        parts.extend((endpoint.scheme != Scheme::Http).then_some(endpoint.scheme.name().as_bytes()));
        parts.extend(endpoint.headers.iter().flat_map(|(name, value)| [name.as_bytes(), value.as_bytes()]));
        let source_id = fingerprint(&parts) as u64;
        let [state_key, body_key, text_key] = keys(prefix, source_id);
        ConfigSync {
            source_id,
            options,
            vm,
            configured_ms: now_ms,
            prefix: prefix.to_owned(),
            state_key,
            body_key,
            text_key,
            loaded: 0,
            validator: None,
            text_hash: 0,
            revision: inline,
            call: None,
            renew_ms: i64::MAX,
            decoding: None,
            compiling: None,
            confirmed_ms: None,
            has_ticked: false,
            source,
        }
    }

    /// Milliseconds since the source last confirmed the config, or since this VM was configured if it never did.
    pub fn age_ms(&self, now_ms: i64) -> i64 {
        now_ms.saturating_sub(self.confirmed_ms.unwrap_or(self.configured_ms)).max(0)
    }

    /// Whether a config is being decompressed or compiled.
    pub fn is_compiling(&self) -> bool {
        self.decoding.is_some() || self.compiling.is_some()
    }

    /// Before the first tick: loads the config from shared data, or starts the first fetch.
    pub fn start(&mut self, host: &impl Host, now_ms: i64, metrics: &mut Metrics) -> Option<Snapshot> {
        let env = &mut Env::new(host, now_ms, metrics);
        self.register(env);
        let state: State = read(env, &self.state_key).ok()?.unwrap_or_default();
        if state.version != 0 {
            // Only the request that started this VM waits.
            self.load(env, &state);
            if let Some(compiling) = &mut self.compiling {
                compiling.do_at_once();
            }
            return self.compile_step(env);
        }
        self.fetch_if(env, &|state| {
            let is_allowed = state.version == 0 && state.start_fetches < START_FETCHES_MAX;
            state.start_fetches = state.start_fetches.saturating_add(1);
            is_allowed
        });
        if self.call.is_none() {
            // A cluster that is discovered may appear a moment later: the first tick tries again.
            self.update(env, &|state| {
                let has_failed = state.holder == self.vm && state.version == 0;
                state.next_fetch_ms = now_ms;
                has_failed
            });
        }
        None
    }

    /// The regular work: loads a config that another VM fetched, or fetches if it is time. Gives a new snapshot, if there is
    /// one.
    pub fn tick(&mut self, host: &impl Host, now_ms: i64, metrics: &mut Metrics) -> Option<Snapshot> {
        let env = &mut Env::new(host, now_ms, metrics);
        self.has_ticked = true;
        if self.is_compiling() {
            self.renew_lease(env);
            return if self.decoding.is_some() { self.decode_step(env) } else { self.compile_step(env) };
        }
        let state: State = read(env, &self.state_key).ok()?.unwrap_or_default();
        let mut snapshot = None;
        if state.version == 0 {
            // No VM has published yet, or the source was removed from the list: the next fetch is for all VMs.
            self.loaded = 0;
            self.validator = None;
        } else {
            if state.version != self.loaded {
                self.load(env, &state);
                snapshot = self.compile_step(env);
            }
            self.confirmed_ms = Some(state.confirmed_ms);
        }
        let refresh_ms = self.source.refresh_ms;
        if self.call.is_none() && self.compiling.is_none() && state.is_due(now_ms, refresh_ms) {
            self.fetch_if(env, &|state| state.is_due(now_ms, refresh_ms));
        }
        snapshot
    }

    /// Puts the source on the list of kept ones, and clears the values of the one that no longer fits.
    fn register(&self, env: &mut Env<'_, impl Host>) {
        let key = format!("{}/config", self.prefix);
        let Ok(Some(Some(removed))) = update(env, &key, |sources: &mut Sources| sources.register(self.source_id))
        else {
            return;
        };
        for key in keys(&self.prefix, removed) {
            // If the source is still in use, its VMs fetch the config again.
            let _ = swap(env, &key, &mut |_, _| Some(Vec::new()));
        }
    }

    /// Changes the state if `change` agrees. False if nothing was written.
    fn update(&self, env: &mut Env<'_, impl Host>, change: &dyn Fn(&mut State) -> bool) -> bool {
        update(env, &self.state_key, |state: &mut State| change(state).then_some(())) == Ok(Some(()))
    }

    /// Takes the fetch lease if `is_allowed`, and starts the fetch.
    fn fetch_if(&mut self, env: &mut Env<'_, impl Host>, is_allowed: &dyn Fn(&mut State) -> bool) {
        if !self.lease(env, is_allowed) {
            return;
        }
        match fetch::dispatch(env.host, &self.source, self.validator.as_ref()) {
            Ok(token) => self.call = Some(token),
            // The first tick tries again. `envoy --mode validate` has neither clusters nor ticks.
            Err(_) if !self.has_ticked => self.schedule_retry(env),
            Err(error) => {
                env.metrics.add(Counter::Dispatch, 1);
                self.fail(env, &FetchFailure::Call(error.into()));
            }
        }
    }

    /// Takes or renews the fetch lease if `is_allowed`. False if it is not, or nothing was written.
    fn lease(&mut self, env: &mut Env<'_, impl Host>, is_allowed: &dyn Fn(&mut State) -> bool) -> bool {
        let (holder, now_ms) = (self.vm, env.now_ms);
        let lease_ms = i64::try_from(self.source.timeout_ms.saturating_add(LEASE_GRACE_MS)).unwrap_or(i64::MAX);
        self.renew_ms = now_ms.saturating_add(lease_ms / 2);
        self.update(env, &|state| {
            let is_allowed = is_allowed(state);
            (state.holder, state.leased_ms) = (holder, now_ms);
            state.lease_until_ms = now_ms.saturating_add(lease_ms);
            is_allowed
        })
    }

    /// Renews the fetch lease of this VM, if half of it is over: compiling a large config takes many ticks.
    fn renew_lease(&mut self, env: &mut Env<'_, impl Host>) {
        let (holder, now_ms) = (self.vm, env.now_ms);
        if now_ms >= self.renew_ms {
            self.lease(env, &|state| state.holder == holder && now_ms < state.lease_until_ms);
        }
    }

    /// Handles the reply to the fetch. The outer `None` means that the token belongs to another call.
    pub fn on_reply(
        &mut self,
        host: &impl Host,
        now_ms: i64,
        token: u32,
        reply: &impl Reply,
        metrics: &mut Metrics,
    ) -> Option<Option<Snapshot>> {
        let env = &mut Env::new(host, now_ms, metrics);
        self.call.take_if(|call| *call == token)?;
        match fetch::answer(reply, self.source.max_bytes, self.options.format) {
            Ok(Answer::NotModified) if self.validator.is_some() => {
                env.metrics.add(Counter::FetchNotModified, 1);
                self.confirm(env, None);
            }
            Ok(Answer::NotModified) => self.fail(env, &FetchFailure::Call(CallFailure::Status(304))),
            Ok(Answer::Config(decoder, validator)) => {
                self.decoding = Some((decoder, validator));
                return Some(self.decode_step(env));
            }
            Err(failure) => {
                if matches!(failure, FetchFailure::Call(CallFailure::Status(400..=499))) {
                    // The validator may be the problem.
                    self.validator = None;
                }
                self.fail(env, &failure);
            }
        }
        Some(None)
    }

    /// Decompresses the next part of a config that was fetched.
    fn decode_step(&mut self, env: &mut Env<'_, impl Host>) -> Option<Snapshot> {
        let (mut decoder, validator) = self.decoding.take()?;
        match decoder.advance(DECODED_BYTES_PER_STEP) {
            Ok(true) => return self.fetched(env, decoder.text, validator),
            Ok(false) => self.decoding = Some((decoder, validator)),
            Err(problem) => self.fail(env, &FetchFailure::Refused(problem)),
        }
        None
    }

    /// Compiles a config that was fetched.
    fn fetched(
        &mut self,
        env: &mut Env<'_, impl Host>,
        text: Vec<u8>,
        validator: Option<Validator>,
    ) -> Option<Snapshot> {
        let text = without_byte_order_mark(text);
        self.compiling = Some(Compiling::new(text, self.source_id, validator, Origin::Fetched));
        self.compile_step(env)
    }

    /// Compiles the next part of the config. Gives the snapshot once it is in force.
    fn compile_step(&mut self, env: &mut Env<'_, impl Host>) -> Option<Snapshot> {
        let mut compiling = self.compiling.take()?;
        for _ in 0..compiling.steps {
            if compiling.advance_hash() {
                if self.is_known(env, &mut compiling) {
                    return None;
                }
                compiling.begin(&self.options);
            }
            if compiling.advance() {
                return self.compiled(env, compiling);
            }
        }
        self.compiling = Some(compiling);
        None
    }

    /// Whether a config, of which the text was hashed, need not be compiled, or cannot be.
    fn is_known(&mut self, env: &mut Env<'_, impl Host>, compiling: &mut Compiling) -> bool {
        match compiling.origin {
            Origin::Fetched if self.loaded != 0 && compiling.text_hash == self.text_hash => {
                env.metrics.add(Counter::FetchSuccess, 1);
                self.validator = compiling.validator.take();
                self.confirm(env, None);
                true
            }
            Origin::Shared(state, text_hash) if compiling.text_hash != text_hash => {
                // The next fetch is for all VMs.
                env.metrics.add(Counter::SharedDataCorrupt, 1);
                let now_ms = env.now_ms;
                self.update(env, &|current| {
                    let is_unchanged = current.version == state.version;
                    (current.version, current.next_fetch_ms) = (0, now_ms);
                    is_unchanged
                });
                true
            }
            Origin::Fetched | Origin::Shared(..) => false,
        }
    }

    /// Puts a config into force that was compiled.
    fn compiled(&mut self, env: &mut Env<'_, impl Host>, compiling: Compiling) -> Option<Snapshot> {
        let Compiling { validator, text_hash, origin, .. } = compiling;
        let (compiled, text) = compiling.compilation?.finish();
        let snapshot = match origin {
            Origin::Fetched => Some(self.publish(env, compiled, validator.clone(), (text, text_hash))?),
            Origin::Shared(state, _) => {
                self.confirmed_ms = Some(state.confirmed_ms);
                compiled.snapshot
            }
        };
        (self.validator, self.text_hash) = (validator, text_hash);
        if let Some(snapshot) = &snapshot {
            self.revision.clone_from(&snapshot.revision);
        }
        snapshot
    }

    /// Begins to compile the config that another VM stored.
    fn load(&mut self, env: &mut Env<'_, impl Host>, state: &State) {
        let Ok(body) = read(env, &self.body_key) else { return };
        let Ok(Shared { value: text, .. }) = env.host.shared_get(&self.text_key) else {
            env.metrics.add(Counter::SharedData, 1);
            return;
        };
        // Even if the config cannot be read, later ticks do not try this version again: the next fetch replaces it.
        self.loaded = state.version;
        let Some(Body { version, validator, text_hash, .. }) = body else { return };
        if version != state.version {
            // Its publisher crashed before it could record the version, or two VMs published at once. Otherwise this VM would
            // use the config alone, answer fetches with its validator, and the other VMs would never get it.
            let known = state.version;
            let is_published = self.update(env, &|state| {
                let is_unchanged = state.version == known;
                state.version = version;
                is_unchanged
            });
            if is_published {
                self.loaded = version;
            }
        }
        let state = State { version: self.loaded, ..*state };
        let origin = Origin::Shared(state, text_hash);
        self.compiling = Some(Compiling::new(text, self.source_id, validator, origin));
    }
}

#[cfg(test)]
mod tests;
