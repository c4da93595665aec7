//! The metrics and the log of a spool.

use super::{Report, SpoolThread};
use crate::native::store::Store;
use edgesplit_filter::host::{Host, MetricKind};
use edgesplit_filter::plugin_config::OutboxLimits;
use edgesplit_filter::spool::Counts;
use std::sync::{Arc, Mutex, PoisonError};

/// A plugin's spool with its metrics.
#[derive(Debug)]
pub(crate) struct SpoolReporter {
    thread: Arc<SpoolThread>,
    counters: Vec<Option<u32>>,
    /// The problem that was logged last. A full disk is logged once.
    logged: Mutex<Option<String>>,
}

impl SpoolReporter {
    /// Opens the spool of `plugin`, if `limits` have one. The names of its metrics begin with `prefix`.
    pub(crate) fn open(
        host: &impl Host,
        store: &'static Store,
        plugin: &str,
        prefix: &str,
        limits: &OutboxLimits,
    ) -> Option<SpoolReporter> {
        let thread = match SpoolThread::open(store, plugin, limits, host.random()) {
            Ok(thread) => thread?,
            Err(problem) => {
                host.log(log::Level::Error, &problem);
                return None;
            }
        };
        let define = |(name, _)| host.define_metric(MetricKind::Counter, &format!("{prefix}{name}"));
        let counters = Counts::default().named().map(define).to_vec();
        Some(SpoolReporter { thread, counters, logged: Mutex::default() })
    }

    /// Records everything that has happened on the disk since the last time.
    pub(crate) fn record(&self, host: &impl Host) {
        let Report { counts, problem } = self.thread.take_report();
        for ((_, count), counter) in counts.named().into_iter().zip(&self.counters) {
            if let (1.., Some(counter)) = (count, counter) {
                host.increment(*counter, i64::try_from(count).unwrap_or(i64::MAX));
            }
        }
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        if problem.is_some() && *logged != problem {
            host.log(log::Level::Warn, &format!("spool: {}", problem.as_deref().unwrap_or_default()));
            *logged = problem;
        }
    }
}
