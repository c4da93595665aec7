//! One filter config: its workers, and their regular work.

use super::abi::{Callbacks, Opaque};
use super::host::{CallReply, Proxy, token_of};
use super::links::Links;
use super::spool::SpoolReporter;
use super::ticker::Ticks;
use edgesplit_filter::host::{Host, MetricKind};
use edgesplit_filter::worker::Worker;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A plugin. The control worker fetches the config and sends the events, on Envoy's main thread. Each of Envoy's workers has a
/// sibling of it.
pub(crate) struct Plugin {
    pub(crate) links: Links,
    control: Mutex<Worker>,
    /// By the numbers of Envoy's workers. Only the thread of a worker and the tick lock it.
    siblings: Vec<Mutex<Worker>>,
    /// None in `envoy --mode validate`.
    ticks: Option<Arc<Ticks>>,
    spool: Option<SpoolReporter>,
    panics: Option<u32>,
}

impl Plugin {
    /// Configures the plugin called `name`, for Envoy's `config`. None if the configuration is invalid; the reasons are logged.
    pub(crate) fn new(callbacks: &'static Callbacks, config: Opaque, name: &[u8], text: &[u8]) -> Option<Plugin> {
        let name = String::from_utf8_lossy(name);
        let name = if name.is_empty() { "default" } else { &*name };
        let links = Links::new(callbacks, config, name);
        let proxy = Proxy::main(&links);
        let control = match Worker::configure(&proxy, name, text) {
            Ok(control) => control,
            Err(problems) => {
                for problem in problems.iter() {
                    proxy.log(log::Level::Error, &format!("plugin configuration: {problem}"));
                }
                return None;
            }
        };
        // SAFETY: these functions have no arguments.
        #[allow(unsafe_code, reason = "the host is reached through foreign functions")]
        let (workers, is_validation) = unsafe { ((callbacks.get_concurrency)(), (callbacks.is_validation_mode)()) };
        let siblings = (0..workers).map(|_| Mutex::new(control.sibling(&proxy, name))).collect();
        let panics = proxy.define_metric(MetricKind::Counter, &format!("{}errors.panic", links.metrics_prefix));
        let period_ms = control.tick_period_ms();
        let ticks = (!is_validation).then(|| Ticks::start(callbacks, config, period_ms)).transpose();
        let ticks = ticks.unwrap_or_else(|error| {
            proxy.log(log::Level::Error, &format!("no thread for the regular work: {error}"));
            None
        });
        let limits = control.config.events.as_ref().map(|events| &events.outbox).filter(|_| !is_validation);
        let spool =
            limits.and_then(|limits| SpoolReporter::open(&proxy, links.store, name, &links.metrics_prefix, limits));
        drop(proxy);
        Some(Plugin { control: Mutex::new(control), siblings, ticks, spool, panics, links })
    }

    /// The worker of this number.
    pub(crate) fn worker(&self, number: usize) -> Option<MutexGuard<'_, Worker>> {
        self.siblings.get(number).map(lock)
    }

    /// The regular work of all workers, on Envoy's main thread.
    pub(crate) fn tick(&self) {
        if let Some(ticks) = &self.ticks {
            // Before anything can panic: the ticks go on.
            ticks.arrived();
        }
        let proxy = Proxy::main(&self.links);
        // First, because the counts of events are flushed before the events can be delivered.
        self.siblings.iter().for_each(|sibling| lock(sibling).tick(&proxy));
        let mut control = lock(&self.control);
        control.tick(&proxy);
        if let Some(spool) = &self.spool {
            spool.record(&proxy);
        }
        self.follow(&proxy, &control);
    }

    /// Takes in the reply to a call.
    pub(crate) fn on_reply(&self, call: u64, reply: &CallReply<'_>) {
        let proxy = Proxy::main(&self.links);
        let mut control = lock(&self.control);
        control.on_reply(&proxy, token_of(call), reply);
        self.follow(&proxy, &control);
    }

    /// Puts the experiments of the control worker into force in all workers.
    fn follow(&self, proxy: &Proxy<'_>, control: &Worker) {
        self.siblings.iter().for_each(|sibling| lock(sibling).follow(proxy, control));
        if let Some(ticks) = &self.ticks {
            ticks.set_period(control.tick_period_ms());
        }
    }

    /// Stops the ticks, and leaves the remaining events to the plugin's next config in this process.
    pub(crate) fn shut_down(&self) {
        if let Some(ticks) = &self.ticks {
            ticks.stop();
        }
        let proxy = Proxy::ending(&self.links);
        self.siblings.iter().for_each(|sibling| lock(sibling).shut_down(&proxy));
        lock(&self.control).shut_down(&proxy);
    }

    /// Counts a panic that a hook has caught.
    pub(crate) fn count_panic(&self) {
        if let Some(panics) = self.panics {
            self.links.metrics.change(self.links.callbacks, None, panics, 1);
        }
    }
}

/// A panic of another hook leaves a worker usable.
fn lock(worker: &Mutex<Worker>) -> MutexGuard<'_, Worker> {
    worker.lock().unwrap_or_else(PoisonError::into_inner)
}
