//! The surroundings of a callback: the host, the time, and the metrics that it counts into.

use crate::host::Host;
use crate::metrics::Metrics;

/// Passed down through everything that runs on a tick or a reply.
pub(crate) struct Env<'a, H> {
    /// The proxy.
    pub(crate) host: &'a H,
    /// The time of this callback, in milliseconds since the epoch.
    pub(crate) now_ms: i64,
    /// The worker's metrics.
    pub(crate) metrics: &'a mut Metrics,
}

impl<'a, H: Host> Env<'a, H> {
    /// The surroundings of a callback at `now_ms`.
    pub(crate) fn new(host: &'a H, now_ms: i64, metrics: &'a mut Metrics) -> Env<'a, H> {
        Env { host, now_ms, metrics }
    }
}
