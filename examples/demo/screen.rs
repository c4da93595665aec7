//! What the demo prints: the addresses, what to try, and the counts.

use crate::services::Services;
use edgesplit_testkit::Failure;
use edgesplit_testkit::dashboard::Dashboard;
use edgesplit_testkit::envoy::Envoy;
use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

/// How often a line of counts is written where it cannot be rewritten in place.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// Goes to the start of the line and empties it; without line breaks, and with them again.
const REWRITE: &str = "\r\x1b[2K\x1b[?7l";
const REWRITTEN: &str = "\x1b[?7h";

/// What is counted.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counts {
    requests: u64,
    /// Requests of the demo's own traffic that were not answered with success.
    pub(crate) failed: u64,
    emitted: u64,
    delivered: u64,
    queued: u64,
    rejected: u64,
    dropped: u64,
    /// The number of events that the collector has.
    received: u64,
    revision: Option<String>,
    age_seconds: u64,
}

impl Counts {
    /// Out of Envoy's stats.
    pub(crate) fn new(stats: &BTreeMap<String, u64>, services: &Services, failed: u64) -> Counts {
        let stat = |name: &str| stats.get(name).copied().unwrap_or_default();
        let of_filter = |name: &str| stat(&format!("edgesplit.demo.{name}"));
        let received = services.received();
        Counts {
            requests: stat("http.ingress.downstream_rq_total"),
            failed,
            emitted: of_filter("events.emitted"),
            delivered: of_filter("events.delivered"),
            queued: of_filter("outbox.queued_events"),
            rejected: of_filter("events.rejected"),
            dropped: of_filter("events.dropped_overflow") + of_filter("events.dropped_expired"),
            received: received.events,
            revision: received.revision,
            age_seconds: of_filter("config.age_seconds"),
        }
    }

    /// Whether there were events, and all of them have arrived.
    pub(crate) fn all_delivered(&self) -> bool {
        self.emitted > 0 && self.queued == 0 && self.emitted == self.delivered && self.received >= self.delivered
    }

    fn line(&self) -> String {
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

/// Standard output.
pub(crate) struct Screen {
    rewrites: bool,
    next_line: Instant,
    /// Whether the line of counts is the last thing on it.
    on_line: bool,
}

impl Screen {
    pub(crate) fn new() -> Screen {
        Screen { rewrites: io::stdout().is_terminal(), next_line: Instant::now(), on_line: false }
    }

    /// Writes one line of counts: in place on a terminal, else from time to time.
    pub(crate) fn show(&mut self, counts: &Counts) -> Result<(), Failure> {
        if self.rewrites {
            self.on_line = true;
            return write(&format!("{REWRITE}{}{REWRITTEN}", counts.line()));
        }
        if Instant::now() < self.next_line {
            return Ok(());
        }
        self.next_line = Instant::now() + LINE_INTERVAL;
        write(&format!("{}\n", counts.line()))
    }

    /// Writes a line of its own.
    pub(crate) fn print(&mut self, text: &str) -> Result<(), Failure> {
        let end = if std::mem::take(&mut self.on_line) { "\n" } else { "" };
        write(&format!("{end}{text}\n"))
    }

    /// Says what runs where, and what to try.
    pub(crate) fn introduce(
        &mut self,
        services: &Services,
        envoy: &Envoy,
        dashboard: &Dashboard,
    ) -> Result<(), Failure> {
        let at = |port: u16| format!("http://127.0.0.1:{port}");
        let (proxy, admin, controls) = (at(envoy.port()), at(envoy.admin_port()), at(services.controls.port()));
        let (origin, collector) = (at(services.origin.port()), at(services.collector.port()));
        let dashboard = &dashboard.address;
        let experiments = format!("{}/experiments.json", at(services.experiments.port()));
        self.print(&format!(
            "\
Envoy runs, with 2 workers and the filter of dist/edgesplit.wasm, configured by envoy/envoy.yaml.

  {proxy:39} the shop, through the filter
  {origin:39} the origin: answers with the request that reached it
  {experiments:39} the experiments: examples/experiments.json, edit it
  {collector:39} the collector: takes the events
  {controls:39} breaks and mends the services
  {admin:39} Envoy's admin interface
  {dashboard:39} the dashboard: open it in a browser

Try in another terminal:

# Ben is in two experiments: the origin sees his variants, the cache key and the rewritten path.
curl -H 'x-user-id: ben' {proxy}/checkout
# The whole of ada's response: it is private now, so that no cache in front keeps her variant for others.
curl -i -H 'x-user-id: ada' -H 'x-country: DE' {proxy}/checkout
# Dan has the baseline of both: he shares cached pages with those who are in no experiment, without a cache key.
curl -H 'x-user-id: dan' {proxy}/checkout
# What a client claims under the filter's names never reaches the origin.
curl -H 'x-ab-assignments: checkout-button=free' -H 'x-ab-cache-key: stolen' {proxy}/assets/logo.svg
# A new visitor gets an id in a cookie; one who objects gets none, and is in no experiment.
curl -i {proxy}/
curl -i -H 'sec-gpc: 1' {proxy}/
# Break the collector: requests go on, events wait. Mend it: they are delivered within seconds.
curl -X POST {controls}/demo/collector/down
curl -X POST {controls}/demo/collector/up
# Change the experiments: all are paused, and within 2 seconds ben is in none. Then the file counts again.
curl -s {experiments} | sed 's/running/paused/; s/demo-1/demo-2/' | curl -X PUT --data-binary @- {controls}/demo/experiments
curl -X DELETE {controls}/demo/experiments
# Break the service with the experiments: the last good ones stay. /demo/config/up mends it.
curl -X POST {controls}/demo/config/503
# The metrics, with their labels.
curl -s '{admin}/stats/prometheus?usedonly' | grep ^edgesplit

Ctrl-C ends all of it.
"
        ))
    }
}

fn write(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|error| format!("cannot write: {error}"))
}
