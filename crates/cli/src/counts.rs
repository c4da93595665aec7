//! The status of a running filter, from Envoy's stats.

use crate::admin::Admin;

/// The counts of a plugin.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counts {
    requests: u64,
    /// Requests of the demo's own traffic that were not answered with success.
    pub(crate) failed: u64,
    pub(crate) emitted: u64,
    pub(crate) delivered: u64,
    pub(crate) queued: u64,
    rejected: u64,
    dropped: u64,
    /// The revision of the experiments, if it is known.
    pub(crate) revision: Option<String>,
    age_seconds: u64,
}

impl Counts {
    /// Reads the counts of the plugin with this name.
    pub(crate) fn read(admin: &Admin, plugin: &str) -> Result<Counts, String> {
        let filter = format!(r"^(wasmcustom\.edgesplit\.{plugin}\.|http\.ingress\.downstream_rq_total$)");
        let stats = admin.stats(&filter)?;
        let stat = |name: &str| stats.get(name).copied().unwrap_or_default();
        let of_filter = |name: &str| stat(&format!("wasmcustom.edgesplit.{plugin}.{name}"));
        Ok(Counts {
            requests: stat("http.ingress.downstream_rq_total"),
            failed: 0,
            emitted: of_filter("events.emitted"),
            delivered: of_filter("events.delivered"),
            queued: of_filter("outbox.queued_events"),
            rejected: of_filter("events.rejected"),
            dropped: of_filter("events.dropped_overflow") + of_filter("events.dropped_expired"),
            revision: None,
            age_seconds: of_filter("config.age_seconds"),
        })
    }

    /// The counts in one line.
    pub(crate) fn line(&self) -> String {
        let Counts { requests, failed, emitted, delivered, queued, rejected, dropped, age_seconds, .. } = self;
        let failed = if *failed > 0 { format!(" ({failed} failed)") } else { String::new() };
        let rejected = if *rejected > 0 { format!(", {rejected} rejected") } else { String::new() };
        let revision = self.revision.as_deref().unwrap_or("unknown");
        format!(
            "{requests} requests{failed} | events: {emitted} emitted, {delivered} delivered, {queued} queued, \
             {dropped} dropped{rejected} | experiments: {revision}, confirmed {age_seconds} s ago"
        )
    }
}
