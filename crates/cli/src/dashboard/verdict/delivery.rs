//! The verdict on the delivery of events.

use super::super::config::PluginView;
use super::super::proxy::Proxy;
use super::super::sample::Sample;
use super::{Health, Verdict};
use crate::output::counted;

/// Events that wait longer than this are late, even if others are delivered.
const LATE_S: u64 = 60;

/// The verdict on the delivery of events by all proxies, whose sum is `sum`.
pub(in super::super) fn verdict(proxies: &[Proxy], sum: &Sample, plugin: Option<PluginView>, now_ms: u64) -> Verdict {
    if proxies.iter().all(|proxy| proxy.sample.is_none()) {
        return if proxies.iter().any(|proxy| proxy.error.is_some()) {
            Verdict::new(Health::Broken, "No Envoy has answered yet.").word("no answer").response(
                "Start the Envoys, or correct the addresses of their admin interfaces (--envoy). The figures appear with \
                 the first answer.",
            )
        } else {
            Verdict::new(Health::Asking, "Waiting for the first answers.")
        };
    }
    let recently_lost: u64 = proxies.iter().map(Proxy::recently_lost).sum();
    if recently_lost > 0 {
        let events = counted(recently_lost, "event was", "events were");
        let text = format!("{events} lost in the last minute.");
        return Verdict::new(Health::Broken, text).word("events lost").response(
            "Rejected: the service refuses the events, check its answers. Dropped: the outbox is too small for the outage, \
             raise outbox.max_bytes and max_batches, or add a fallback.",
        );
    }
    if let Some(verdict) = stuck(proxies, now_ms) {
        return verdict;
    }
    if sum.oldest_age_s >= LATE_S {
        let text =
            format!("Events are late: the oldest has waited for {} s while others are delivered.", sum.oldest_age_s);
        return Verdict::new(Health::Watch, text).word("late").response("Check the service's answers and its speed.");
    }
    if sum.lost() > 0 {
        let events = counted(sum.lost(), "event was", "events were");
        let text = format!("{events} lost since the Envoys started, none in the last minute.");
        return Verdict::new(Health::Watch, text).response("Compare the service's shares with those of this page.");
    }
    if sum.event("emitted") == 0 {
        let is_without_events = plugin.is_some_and(|plugin| !plugin.has_events);
        if is_without_events || sum.exposures.values().any(|count| *count > 0) {
            let text = "No events are sent: the plugin configuration has no `events` block. Exposures are counted on \
                        this page only.";
            return Verdict::new(Health::Watch, text)
                .word("no events block")
                .response("Add an `events` block with the cluster of your A/B service.");
        }
        return Verdict::new(Health::Healthy, "No events have been emitted yet.");
    }
    Verdict::new(Health::Healthy, "All events are delivered or on their way.")
}

/// The verdict if some proxy delivers nothing.
fn stuck(proxies: &[Proxy], now_ms: u64) -> Option<Verdict> {
    let stuck: Vec<&Proxy> = proxies.iter().filter(|proxy| proxy.is_stuck(now_ms)).collect();
    if stuck.is_empty() {
        return None;
    }
    let waiting: u64 = stuck.iter().filter_map(|proxy| proxy.sample.as_ref()).map(|sample| sample.queued_events).sum();
    let where_stuck = if stuck.len() == proxies.len() {
        String::new()
    } else {
        format!(" by {} of {} proxies", stuck.len(), proxies.len())
    };
    let events = counted(waiting, "event waits", "events wait");
    let text = format!(
        "No events are delivered{where_stuck}. {events} in the outbox and will be sent when the service is back."
    );
    let response =
        "Check that the service runs and that the proxies reach its cluster. Nothing is lost until the outbox is full.";
    Some(Verdict::new(Health::Broken, text).word("not delivering").response(response))
}
