//! The outbox on a disk: a thread that keeps the files of `edgesplit_filter::spool` up to the process's store.
//!
//! - `folder`: the files.
//! - `reporter`: the metrics and the log.
//! - `SpoolThread`: one for each plugin of the process, however many configurations of it are alive.

mod folder;
mod reporter;
#[cfg(test)]
mod tests;

pub(crate) use reporter::SpoolReporter;

use crate::native::store::Store;
use edgesplit_filter::events::outbox::index_key;
use edgesplit_filter::host::{SetError, Shared};
use edgesplit_filter::metrics::name_part;
use edgesplit_filter::plugin_config::OutboxLimits;
use edgesplit_filter::spool::{CLAIM_EVERY_MS, Counts, RETRY_AFTER_MS, Spool, Values};
use folder::Folder;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Changes within this time go to the disk together.
const GROUP_COMMIT: Duration = Duration::from_millis(20);

/// The threads of this process.
static THREADS: Mutex<Vec<Weak<SpoolThread>>> = Mutex::new(Vec::new());

/// A spool and its thread, which ends with the last configuration of its plugin.
#[derive(Debug)]
pub(crate) struct SpoolThread {
    prefix: String,
    store: &'static Store,
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

/// The state that the thread shares with its owner.
#[derive(Debug, Default)]
struct State {
    is_over: AtomicBool,
    report: Mutex<Report>,
}

/// The events of the disk since the last call.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// The counts by their names behind `edgesplit.<plugin>.`.
    pub(crate) counts: Counts,
    /// The last problem, for the log.
    pub(crate) problem: Option<String>,
}

impl Values for Store {
    fn get(&self, key: &str) -> Shared {
        Store::get(self, key)
    }

    fn set(&self, key: &str, value: &[u8], cas: u32) -> Result<(), SetError> {
        Store::set(self, key, value, cas)
    }
}

impl SpoolThread {
    /// The spool of `plugin`, if `limits` have one: a running one, or a new one. Configurations of one plugin share it; its
    /// folder and its limits are those of the first.
    ///
    /// # Errors
    /// The thread could not be started.
    pub(crate) fn open(
        store: &'static Store,
        plugin: &str,
        limits: &OutboxLimits,
        random: u128,
    ) -> Result<Option<Arc<SpoolThread>>, String> {
        let Some(directory) = &limits.spool else { return Ok(None) };
        let prefix = format!("edgesplit/{plugin}");
        let mut threads = lock(&THREADS);
        threads.retain(|thread| thread.strong_count() > 0);
        let is_same = |thread: &Arc<SpoolThread>| thread.prefix == prefix && std::ptr::eq(thread.store, store);
        if let Some(thread) = threads.iter().filter_map(Weak::upgrade).find(is_same) {
            return Ok(Some(thread));
        }
        let process = format!("{}-{:016x}", std::process::id(), (random >> 64) as u64);
        let folder = Folder::new(Path::new(directory).join(name_part(plugin)), process);
        let spool = Spool::new(folder, &prefix, limits.clone(), random as u64);
        let state = Arc::new(State::default());
        let (of_thread, index_key) = (Arc::clone(&state), index_key(&prefix));
        let thread = Builder::new()
            .name("edgesplit-spool".to_owned())
            .spawn(move || run(spool, store, &of_thread, &index_key))
            .map_err(|error| format!("the thread of the spool does not start: {error}"))?;
        let thread = Arc::new(SpoolThread { prefix, store, state, thread: Some(thread) });
        threads.push(Arc::downgrade(&thread));
        Ok(Some(thread))
    }

    /// The events of the disk since the last call.
    pub(crate) fn take_report(&self) -> Report {
        std::mem::take(&mut *lock(&self.state.report))
    }
}

impl Drop for SpoolThread {
    fn drop(&mut self) {
        self.state.is_over.store(true, Ordering::Relaxed);
        self.store.wake();
        // The thread's last commit: the events of this process are on disk when it returns.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// Follows the outbox until the end.
fn run(mut spool: Spool<Folder>, store: &Store, state: &State, index_key: &str) {
    while !state.is_over.load(Ordering::Relaxed) {
        let seen = spool.commit(store, now_ms());
        state.add(&mut spool);
        let timeout_ms = if spool.is_behind() { RETRY_AFTER_MS } else { CLAIM_EVERY_MS };
        let timeout = Duration::from_millis(timeout_ms.unsigned_abs());
        store.wait_for_change(index_key, seen, timeout, &state.is_over);
        std::thread::sleep(GROUP_COMMIT);
    }
    spool.finish(store, now_ms());
    state.add(&mut spool);
}

impl State {
    fn add(&self, spool: &mut Spool<Folder>) {
        let mut report = lock(&self.report);
        report.counts.add(&spool.take_counts());
        if let Some(problem) = spool.take_problem() {
            report.problem = Some(problem);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change is complete before anything can panic.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
