//! Getting the experiments: one VM of the process fetches them on a tick, the others pick the result up from shared data.
//!
//! Two shared values per source: a small [`state`] that every tick looks at, and the body of the last good config. A body is
//! only stored once it compiled, so whatever is there can be loaded by a VM that starts later: it is warm at once. Sources do
//! not share them, since VMs of several are in use at once while listeners drain; a list of the sources bounds how many there
//! are.

pub mod state;

use crate::host::{Call, Host, HostError, Reply, SetError, status};
use crate::metrics::{Counter, Metrics};
use crate::plugin_config::Source;
use edgesplit_engine::hash::{fingerprint, seeded};
use edgesplit_engine::snapshot::Snapshot;
use edgesplit_formats::diagnostics::{Problems, Severity};
use edgesplit_formats::{Compilation, Compiled, NATIVE, Options};
use state::{Body, Sources, State, Validator};

/// How often a change of the state is tried before it is left for the next tick.
pub const CAS_TRIES_MAX: u32 = 8;

/// How many VMs may fetch before their first tick. The first VM of a process is a trial that is thrown away with its
/// calls, so that a second one has to get a chance for the config to be there before the first request.
pub const START_FETCHES_MAX: u8 = 2;

/// How much longer than its call a fetch lease lasts: what was fetched has to be compiled.
const LEASE_GRACE_MS: u64 = 5_000;

/// How much of a config is compiled at a time, between which the worker serves requests. A smaller one is compiled at once.
pub const COMPILED_BYTES_PER_STEP: usize = 16 << 10;

/// How many problems of one config are written to the log.
pub const LOGGED_PROBLEMS_MAX: usize = 20;

/// Fetches the experiments and keeps up with what other VMs fetched.
#[derive(Debug)]
pub struct ConfigSync {
    source: Source,
    /// What the configs are compiled with.
    options: Options,
    /// Names the source.
    source_id: u64,
    /// Tells this VM from the others.
    vm: u64,
    configured_ms: i64,
    /// What the keys in shared data begin with.
    prefix: String,
    state_key: String,
    body_key: String,
    /// The version of the state that was last loaded.
    loaded: u64,
    /// What the source tells the body in force from a newer one by.
    validator: Option<Validator>,
    /// Names the bytes of the body in force.
    body_id: u64,
    call: Option<u32>,
    compiling: Option<Compiling>,
    /// When the source last confirmed the config, as far as this VM has seen.
    confirmed_ms: Option<i64>,
}

/// A config that is compiled bit by bit.
#[derive(Debug)]
struct Compiling {
    compilation: Box<dyn Compilation>,
    validator: Option<Validator>,
    body_id: u64,
    origin: Origin,
}

/// Where it came from.
#[derive(Debug)]
enum Origin {
    /// From the source: the others get it from here.
    Fetched,
    /// From shared data, where this version was.
    Shared(State),
}

impl ConfigSync {
    /// Starts with nothing loaded. `prefix` is put in front of all keys in shared data.
    pub fn new(source: Source, options: Options, vm: u64, prefix: &str, now_ms: i64) -> ConfigSync {
        let endpoint = &source.endpoint;
        let mut parts: Vec<&[u8]> =
            vec![endpoint.cluster.as_bytes(), endpoint.authority.as_bytes(), endpoint.path.as_bytes()];
        // What one format takes is nothing to another. Native sources keep the names that they have always had.
        parts.extend((options.format != NATIVE).then_some(options.format.name().as_bytes()));
        parts.extend(endpoint.headers.iter().flat_map(|(name, value)| [name.as_bytes(), value.as_bytes()]));
        let source_id = fingerprint(&parts) as u64;
        let (state_key, body_key) = keys(prefix, source_id);
        ConfigSync {
            source_id,
            options,
            vm,
            configured_ms: now_ms,
            prefix: prefix.to_owned(),
            state_key,
            body_key,
            loaded: 0,
            validator: None,
            body_id: 0,
            call: None,
            compiling: None,
            confirmed_ms: None,
            source,
        }
    }

    /// Milliseconds since the source last confirmed the config; since this VM was configured, if it never did.
    pub fn age_ms(&self, now_ms: i64) -> i64 {
        now_ms.saturating_sub(self.confirmed_ms.unwrap_or(self.configured_ms)).max(0)
    }

    /// Whether there is something to go on with soon.
    pub fn is_compiling(&self) -> bool {
        self.compiling.is_some()
    }

    /// Before the first tick: loads what is there, or starts the first fetch.
    pub fn start(&mut self, host: &impl Host, now_ms: i64, metrics: &mut Metrics) -> Option<Snapshot> {
        self.register(host, metrics);
        let state = self.read(host, metrics)?;
        if state.version != 0 {
            // No request waits yet but the one that this VM was made for.
            self.load(host, &state, metrics);
            return self.compile_on(host, now_ms, usize::MAX, metrics);
        }
        self.fetch_if(host, now_ms, metrics, |state| {
            let may = state.version == 0 && state.start_fetches < START_FETCHES_MAX;
            state.start_fetches = state.start_fetches.saturating_add(1);
            may
        });
        if self.call.is_none() {
            // Clusters that are discovered may be there a moment later: the first tick tries again.
            self.update(host, metrics, |state| {
                let failed = state.holder == self.vm && state.version == 0;
                state.next_fetch_ms = now_ms;
                failed
            });
        }
        None
    }

    /// The regular work: loads what another VM fetched, or fetches when it is time. Gives a new snapshot, if there is one.
    pub fn tick(&mut self, host: &impl Host, now_ms: i64, metrics: &mut Metrics) -> Option<Snapshot> {
        if self.compiling.is_some() {
            return self.compile_on(host, now_ms, COMPILED_BYTES_PER_STEP, metrics);
        }
        let state = self.read(host, metrics)?;
        let mut loaded = None;
        if state.version == 0 {
            // Nobody published yet, or the source made room for others: the next fetch is for everybody, not for this VM alone.
            self.loaded = 0;
            self.validator = None;
        } else {
            if state.version != self.loaded {
                self.load(host, &state, metrics);
                loaded = self.compile_on(host, now_ms, COMPILED_BYTES_PER_STEP, metrics);
            }
            self.confirmed_ms = Some(state.confirmed_ms);
        }
        let refresh_ms = self.source.refresh_ms;
        if self.call.is_none() && self.compiling.is_none() && state.is_due(now_ms, refresh_ms) {
            self.fetch_if(host, now_ms, metrics, |state| state.is_due(now_ms, refresh_ms));
        }
        loaded
    }

    /// Puts the source on the list of those that are kept, and clears what is kept of the one that leaves it.
    fn register(&self, host: &impl Host, metrics: &mut Metrics) {
        let key = format!("{}/config", self.prefix);
        for _ in 0..CAS_TRIES_MAX {
            let Ok(shared) = host.shared_get(&key) else { break };
            let mut sources = Sources::decode(&shared.value).unwrap_or_default();
            let Some(gone) = sources.configured(self.source_id) else { return };
            match host.shared_set(&key, &sources.encode(), shared.cas) {
                Ok(()) => {
                    for key in gone.map(|gone| keys(&self.prefix, gone)).into_iter().flat_map(<[String; 2]>::from) {
                        // Where somebody else writes just now, the source is still in use: its VMs mend it.
                        let _ = host.shared_get(&key).map(|shared| host.shared_set(&key, &[], shared.cas));
                    }
                    return;
                }
                Err(SetError::Stale) => {}
                Err(SetError::Failed) => break,
            }
        }
        metrics.add(Counter::CasExhausted, 1);
    }

    fn read(&self, host: &impl Host, metrics: &mut Metrics) -> Option<State> {
        let Ok(shared) = host.shared_get(&self.state_key) else {
            metrics.add(Counter::SharedData, 1);
            return None;
        };
        // What cannot be read counts as nothing, and is written over.
        Some(State::decode(&shared.value).unwrap_or_default())
    }

    /// Changes the state by compare-and-swap; `change` says whether it wants to. False where nothing was written.
    fn update(&self, host: &impl Host, metrics: &mut Metrics, change: impl Fn(&mut State) -> bool) -> bool {
        for _ in 0..CAS_TRIES_MAX {
            let Ok(shared) = host.shared_get(&self.state_key) else { break };
            let mut state = State::decode(&shared.value).unwrap_or_default();
            if !change(&mut state) {
                return false;
            }
            match host.shared_set(&self.state_key, &state.encode(), shared.cas) {
                Ok(()) => return true,
                Err(SetError::Stale) => {}
                Err(SetError::Failed) => break,
            }
        }
        metrics.add(Counter::CasExhausted, 1);
        false
    }

    /// Takes the fetch lease if `may` and dispatches the fetch.
    fn fetch_if(&mut self, host: &impl Host, now_ms: i64, metrics: &mut Metrics, may: impl Fn(&mut State) -> bool) {
        let lease_ms = i64::try_from(self.source.timeout_ms.saturating_add(LEASE_GRACE_MS)).unwrap_or(i64::MAX);
        let holder = self.vm;
        let leased = self.update(host, metrics, |state| {
            let may = may(state);
            state.holder = holder;
            state.leased_ms = now_ms;
            state.lease_until_ms = now_ms.saturating_add(lease_ms);
            may
        });
        if !leased {
            return;
        }
        let endpoint = &self.source.endpoint;
        let mut headers = vec![
            (":method", "GET"),
            (":path", endpoint.path.as_str()),
            (":authority", endpoint.authority.as_str()),
            (":scheme", "http"),
            ("accept", "application/json"),
        ];
        headers.extend(endpoint.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        headers.extend(self.validator.as_ref().map(Validator::condition));
        let call = Call { cluster: &endpoint.cluster, headers, body: &[], timeout_ms: self.source.timeout_ms };
        match host.dispatch(&call) {
            Ok(token) => self.call = Some(token),
            Err(HostError) => {
                metrics.add(Counter::Dispatch, 1);
                let found = format!("there is no cluster {:?}", endpoint.cluster);
                self.failed(host, now_ms, &found, metrics);
            }
        }
    }

    /// Takes in the reply to the fetch. The outer `None`: the token is another's.
    pub fn on_reply(
        &mut self,
        host: &impl Host,
        now_ms: i64,
        token: u32,
        reply: &impl Reply,
        metrics: &mut Metrics,
    ) -> Option<Option<Snapshot>> {
        self.call.take_if(|call| *call == token)?;
        let headers = reply.headers();
        let status = status(&headers);
        match status {
            Some(304) if self.validator.is_some() => {
                metrics.add(Counter::FetchNotModified, 1);
                self.confirmed(host, now_ms, None, metrics);
                Some(None)
            }
            Some(200) => Some(self.fetched(host, now_ms, &headers, reply, metrics)),
            _ => {
                let found = status.map_or("no answer".to_owned(), |status| format!("status {status}"));
                self.failed(host, now_ms, &found, metrics);
                Some(None)
            }
        }
    }

    fn fetched(
        &mut self,
        host: &impl Host,
        now_ms: i64,
        headers: &crate::http::headers::HeaderMap,
        reply: &impl Reply,
        metrics: &mut Metrics,
    ) -> Option<Snapshot> {
        if reply.body_len() > self.source.max_bytes {
            let problem =
                format!("{} bytes, more than experiments.max_bytes ({})", reply.body_len(), self.source.max_bytes);
            self.refused(host, now_ms, &problem, metrics);
            return None;
        }
        let body = reply.body(self.source.max_bytes);
        let body_id = seeded(self.vm, &body);
        let validator = Validator::of(headers);
        if self.loaded != 0 && body_id == self.body_id {
            metrics.add(Counter::FetchSuccess, 1);
            self.validator = validator;
            self.confirmed(host, now_ms, None, metrics);
            return None;
        }
        let compilation = self.options.format.begin(body, &self.options);
        self.compiling = Some(Compiling { compilation, validator, body_id, origin: Origin::Fetched });
        self.compile_on(host, now_ms, COMPILED_BYTES_PER_STEP, metrics)
    }

    /// Compiles the next `bytes_max` bytes of the config that is being compiled. Gives the snapshot once it is in force.
    fn compile_on(
        &mut self,
        host: &impl Host,
        now_ms: i64,
        bytes_max: usize,
        metrics: &mut Metrics,
    ) -> Option<Snapshot> {
        let mut compiling = self.compiling.take()?;
        if !compiling.compilation.advance(bytes_max) {
            self.compiling = Some(compiling);
            return None;
        }
        let Compiling { compilation, validator, body_id, origin } = compiling;
        let (compiled, text) = compilation.finish();
        match origin {
            Origin::Fetched => {
                let snapshot = self.publish(host, now_ms, compiled, validator.clone(), text, metrics)?;
                (self.validator, self.body_id) = (validator, body_id);
                Some(snapshot)
            }
            Origin::Shared(state) => {
                (self.validator, self.body_id, self.confirmed_ms) = (validator, body_id, Some(state.confirmed_ms));
                compiled.snapshot
            }
        }
    }

    /// Gives a config that was fetched to the other VMs. Nothing comes back where it cannot be in force.
    fn publish(
        &mut self,
        host: &impl Host,
        now_ms: i64,
        compiled: Compiled,
        validator: Option<Validator>,
        text: Vec<u8>,
        metrics: &mut Metrics,
    ) -> Option<Snapshot> {
        let Some(snapshot) = compiled.snapshot else {
            let first = compiled.problems.iter().find(|problem| problem.severity == Severity::Error);
            self.refused(host, now_ms, &first.map(ToString::to_string).unwrap_or_default(), metrics);
            return None;
        };
        metrics.add(Counter::FetchSuccess, 1);
        log_problems(host, "the config that was fetched", &compiled.problems);
        // A version is a name, not a count: two VMs that both publish never mean the same by it.
        let version = (host.random() as u64).max(1);
        if !self.store(host, &Body { version, validator, text }, metrics) {
            self.failed_quietly(host, now_ms, metrics);
            return None;
        }
        if !self.confirmed(host, now_ms, Some(version), metrics) {
            // Not in force anywhere: a VM with a config of its own would answer for it with its validator, and the others
            // would never get it. The next fetch brings it again.
            return None;
        }
        self.loaded = version;
        Some(snapshot)
    }

    fn store(&self, host: &impl Host, body: &Body, metrics: &mut Metrics) -> bool {
        let stored = host
            .shared_get(&self.body_key)
            .is_ok_and(|shared| host.shared_set(&self.body_key, &body.encode(), shared.cas).is_ok());
        if !stored {
            metrics.add(Counter::SharedData, 1);
        }
        stored
    }

    /// The source answered: notes that, and the version if it is a new one, and when to ask again.
    fn confirmed(&mut self, host: &impl Host, now_ms: i64, version: Option<u64>, metrics: &mut Metrics) -> bool {
        let next_ms = self.next_fetch_ms(host, now_ms);
        self.confirmed_ms = Some(now_ms);
        self.update(host, metrics, |state| {
            state.version = version.unwrap_or(state.version);
            state.confirmed_ms = now_ms;
            state.next_fetch_ms = next_ms;
            state.lease_until_ms = 0;
            true
        })
    }

    fn failed(&self, host: &impl Host, now_ms: i64, found: &str, metrics: &mut Metrics) {
        metrics.add(Counter::FetchFailure, 1);
        host.log(log::Level::Warn, &format!("experiments could not be fetched ({found}); the last good ones stay"));
        self.failed_quietly(host, now_ms, metrics);
    }

    fn refused(&self, host: &impl Host, now_ms: i64, problem: &str, metrics: &mut Metrics) {
        metrics.add(Counter::ConfigRejected, 1);
        host.log(
            log::Level::Error,
            &format!("the fetched experiments are refused: {problem}; the last good ones stay"),
        );
        self.failed_quietly(host, now_ms, metrics);
    }

    /// Asks again at the refresh interval.
    fn failed_quietly(&self, host: &impl Host, now_ms: i64, metrics: &mut Metrics) {
        let next_ms = self.next_fetch_ms(host, now_ms);
        self.update(host, metrics, |state| {
            state.next_fetch_ms = next_ms;
            state.lease_until_ms = 0;
            true
        });
    }

    /// When to fetch next: within the last tenth of the interval, so that proxies which started together drift apart and a
    /// change still arrives within one interval.
    fn next_fetch_ms(&self, host: &impl Host, now_ms: i64) -> i64 {
        let refresh_ms = self.source.refresh_ms;
        let jitter = host.random() as u64 % (refresh_ms / 10).max(1);
        now_ms.saturating_add(i64::try_from(refresh_ms - jitter).unwrap_or(i64::MAX))
    }

    /// Begins to compile the body that another VM stored.
    fn load(&mut self, host: &impl Host, state: &State, metrics: &mut Metrics) {
        let Ok(shared) = host.shared_get(&self.body_key) else { return };
        // Whatever comes of it, this version is not tried again on every tick: the next fetch mends it.
        self.loaded = state.version;
        let Some(body) = Body::decode(&shared.value) else {
            metrics.add(Counter::SharedDataCorrupt, 1);
            return;
        };
        if body.version != state.version {
            // Its publisher died before it said so, or two published at once. Left alone, this VM would answer for it with its
            // validator, and the others would never get it.
            let known = state.version;
            let published = self.update(host, metrics, |state| {
                let may = state.version == known;
                state.version = body.version;
                may
            });
            if published {
                self.loaded = body.version;
            }
        }
        let Body { validator, text, .. } = body;
        let (body_id, compilation) = (seeded(self.vm, &text), self.options.format.begin(text, &self.options));
        self.compiling = Some(Compiling { compilation, validator, body_id, origin: Origin::Shared(*state) });
    }
}

/// Where the state and the body of a source are.
fn keys(prefix: &str, source_id: u64) -> (String, String) {
    let state = format!("{prefix}/config/{source_id:016x}");
    let body = format!("{state}/body");
    (state, body)
}

/// Writes what is wrong with a config to the proxy's log.
pub fn log_problems(host: &impl Host, what: &str, problems: &Problems) {
    for problem in problems.iter().take(LOGGED_PROBLEMS_MAX) {
        let level = match problem.severity {
            Severity::Error => log::Level::Error,
            Severity::Warning => log::Level::Warn,
        };
        host.log(level, &format!("{what}: {problem}"));
    }
    let more = problems.iter().count().saturating_sub(LOGGED_PROBLEMS_MAX);
    if more > 0 {
        host.log(log::Level::Warn, &format!("{what}: {more} more problems"));
    }
}
