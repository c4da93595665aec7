//! The clock of the process. Envoy has no timers for filters, so a thread asks its main thread for the regular work of each config.

use super::abi::{Callbacks, Opaque};
use edgesplit_filter::worker::TICK_MS;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The ticks of one config.
#[derive(Debug)]
pub(crate) struct Ticks {
    callbacks: &'static Callbacks,
    /// Envoy's way to its main thread.
    scheduler: Opaque,
    period_ms: AtomicU64,
    /// Whether a tick is on its way. A busy main thread must not find a queue of them.
    is_due: AtomicBool,
}

#[derive(Debug)]
struct State {
    /// The configs that are in use.
    all: Vec<Arc<Ticks>>,
    thread: Option<JoinHandle<()>>,
    /// The number of the thread. A thread with another one ends.
    generation: u64,
}

static STATE: Mutex<State> = Mutex::new(State { all: Vec::new(), thread: None, generation: 0 });
static CHANGED: Condvar = Condvar::new();

fn state() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Ticks {
    /// Starts the ticks of Envoy's `config`. The error is the system's, which has no thread.
    pub(crate) fn start(callbacks: &'static Callbacks, config: Opaque, period_ms: u64) -> std::io::Result<Arc<Ticks>> {
        // SAFETY: Envoy's config is valid.
        #[allow(unsafe_code, reason = "the host is reached through foreign functions")]
        let scheduler = unsafe { (callbacks.http_filter_config_scheduler_new)(config) };
        let (period_ms, is_due) = (AtomicU64::new(period_ms), AtomicBool::new(false));
        let ticks = Arc::new(Ticks { callbacks, scheduler, period_ms, is_due });
        let mut state = state();
        state.all.push(Arc::clone(&ticks));
        if state.thread.is_none() {
            let generation = state.generation;
            state.thread =
                Some(std::thread::Builder::new().name("edgesplit".to_owned()).spawn(move || run(generation))?);
        }
        Ok(ticks)
    }

    /// Notes that a tick has arrived.
    pub(crate) fn arrived(&self) {
        self.is_due.store(false, Ordering::Relaxed);
    }

    /// Sets how long to wait for the next tick.
    pub(crate) fn set_period(&self, period_ms: u64) {
        if self.period_ms.swap(period_ms, Ordering::Relaxed) > period_ms {
            CHANGED.notify_all();
        }
    }

    /// Ends the ticks. The last config ends the thread: none may run when Envoy is gone.
    pub(crate) fn stop(self: &Arc<Ticks>) {
        let mut state = state();
        state.all.retain(|ticks| !Arc::ptr_eq(ticks, self));
        // SAFETY: no other thread uses the scheduler any more, because the list that has it is locked.
        #[allow(unsafe_code, reason = "the host is reached through foreign functions")]
        unsafe {
            (self.callbacks.http_filter_config_scheduler_delete)(self.scheduler);
        }
        if !state.all.is_empty() {
            return;
        }
        state.generation += 1;
        let thread = state.thread.take();
        drop(state);
        CHANGED.notify_all();
        // A panic of the thread was logged.
        let _ = thread.map(JoinHandle::join);
    }

    fn commit(&self) {
        if !self.is_due.swap(true, Ordering::Relaxed) {
            // SAFETY: the scheduler is valid while it is in the list.
            #[allow(unsafe_code, reason = "the host is reached through foreign functions")]
            unsafe {
                (self.callbacks.http_filter_config_scheduler_commit)(self.scheduler, 0);
            }
        }
    }
}

/// Asks for ticks until the last config is gone.
fn run(generation: u64) {
    let mut state = state();
    let mut last = Instant::now();
    while state.generation == generation {
        let period_ms = state.all.iter().map(|ticks| ticks.period_ms.load(Ordering::Relaxed)).min().unwrap_or(TICK_MS);
        let wait = Duration::from_millis(period_ms).saturating_sub(last.elapsed());
        if !wait.is_zero() {
            state = CHANGED.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0;
            continue;
        }
        last = Instant::now();
        state.all.iter().for_each(|ticks| ticks.commit());
    }
}
