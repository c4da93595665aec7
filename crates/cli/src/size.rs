//! `edgesplit size`: how large an outbox must be for an outage, and how long a given one lasts.

use crate::args::duration_ms;
use crate::exit::{EXIT_OK, EXIT_PROBLEMS};
use crate::output::{self, BAD};
use crate::plugin::PluginArguments;
use edgesplit_filter::events::event::{Event, EventContext, EventKind, derived_id};
use edgesplit_filter::events::slot::FRAME_BYTES_MAX;
use edgesplit_filter::plugin_config::{Batch, OUTBOX_BATCHES_MAX, OUTBOX_BYTES_MAX, OutboxLimits};
use serde_json::{Value, json};
use std::fmt::Write;

/// Room in addition to the events of the outage: for events that waited before, and for peaks of the rate.
const HEADROOM_PERCENT: u64 = 25;

/// The arguments of `edgesplit size`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The rate of events over all workers: 1000/s, 500/m or 20/h.
    #[arg(long, value_name = "RATE", value_parser = rate)]
    rate: f64,
    /// The duration of the outage: 10m, 1h.
    #[arg(long, value_name = "DURATION", value_parser = duration_ms)]
    outage: u64,
    /// The size of an event in bytes. Default: the size of a typical exposure.
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    event_bytes: Option<u64>,
    #[command(flatten)]
    plugin: PluginArguments,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy)]
struct Outage {
    /// Events per second, over all workers.
    per_second: f64,
    /// The duration of the outage.
    outage_ms: u64,
    /// The size of an event.
    event_bytes: u64,
}

/// The size of an outbox that survives an outage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sizing {
    events: u64,
    bytes: u64,
    max_bytes: u64,
    max_batches: u64,
    /// How long an outbox with the given limits lasts.
    survives_ms: u64,
}

pub(super) fn run(args: &Arguments) -> Result<u8, String> {
    let (mut batch, mut outbox) = (Batch::default(), OutboxLimits::default());
    let plugin = args.plugin.read()?;
    if let Some(plugin) = &plugin {
        if plugin.print_problems() {
            return Ok(EXIT_PROBLEMS);
        }
        let events = plugin.config.as_ref().and_then(|config| config.events.as_ref());
        let events = events.ok_or_else(|| format!("{} has no events block", plugin.document.name))?;
        (batch, outbox) = (events.batch, events.outbox.clone());
    }
    let event_bytes = args.event_bytes.unwrap_or_else(typical_event_bytes);
    let outage = Outage { per_second: args.rate, outage_ms: args.outage, event_bytes };
    let sizing = sizing(outage, &batch, &outbox);
    if args.json {
        output::print_json(&sizing.to_json(outage, &outbox))?;
    } else {
        let limits = if plugin.is_some() { "this configuration" } else { "the defaults" };
        output::print(&sizing.to_text(outage, &outbox, limits))?;
    }
    Ok(if sizing.is_possible() && outage.is_within_max_age(&outbox) { EXIT_OK } else { EXIT_PROBLEMS })
}

impl Outage {
    /// Whether `outbox.max_age` covers the outage.
    fn is_within_max_age(self, outbox: &OutboxLimits) -> bool {
        self.outage_ms <= outbox.max_age_ms
    }
}

impl Sizing {
    /// Whether the limits of the plugin configuration allow this size.
    fn is_possible(self) -> bool {
        self.max_bytes <= u64::from(OUTBOX_BYTES_MAX) && self.max_batches <= u64::from(OUTBOX_BATCHES_MAX)
    }

    fn to_text(self, outage: Outage, outbox: &OutboxLimits, limits: &str) -> String {
        let mut text = format!(
            "{} events of {} bytes: {} of events to keep

events:
  outbox: {{max_bytes: {}, max_batches: {}}}

memory: {} in the process for the outbox, shared by all workers
with {limits} ({}, {} batches) the outbox lasts {} at this rate
",
            self.events,
            outage.event_bytes,
            mebibytes(self.bytes),
            self.max_bytes,
            self.max_batches,
            mebibytes(self.max_bytes),
            mebibytes(outbox.max_bytes as u64),
            outbox.max_batches,
            duration(self.survives_ms)
        );
        // Writing to a string cannot fail.
        if !self.is_possible() {
            let _ = writeln!(
                text,
                "{BAD}this exceeds the largest outbox{BAD:#} ({}, {OUTBOX_BATCHES_MAX} batches): configure a fallback",
                mebibytes(u64::from(OUTBOX_BYTES_MAX))
            );
        }
        if !outage.is_within_max_age(outbox) {
            let max_age = duration(outbox.max_age_ms);
            let _ =
                writeln!(text, "{BAD}events older than outbox.max_age ({max_age}) are dropped{BAD:#}: raise it too");
        }
        text
    }

    fn to_json(self, outage: Outage, outbox: &OutboxLimits) -> Value {
        json!({
            "events": self.events, "event_bytes": outage.event_bytes, "bytes": self.bytes,
            "outbox": {"max_bytes": self.max_bytes, "max_batches": self.max_batches},
            "lasts_seconds": self.survives_ms as f64 / 1_000.0,
            "too_large": !self.is_possible(), "too_old": !outage.is_within_max_age(outbox),
        })
    }
}

fn sizing(outage: Outage, batch: &Batch, outbox: &OutboxLimits) -> Sizing {
    let events = (outage.per_second * outage.outage_ms as f64 / 1_000.0).ceil() as u64;
    // The outbox stores one separator byte per event.
    let stored_bytes = outage.event_bytes + 1;
    let bytes = events.saturating_mul(stored_bytes);
    let per_batch =
        ((batch.max_bytes.saturating_sub(FRAME_BYTES_MAX)) as u64 / stored_bytes).clamp(1, batch.max_events as u64);
    let with_headroom = |number: u64| number.saturating_add(number.saturating_mul(HEADROOM_PERCENT).div_ceil(100));
    let max_bytes = with_headroom(bytes).max(batch.max_bytes as u64).next_multiple_of(1 << 20);
    let max_batches = with_headroom(events.div_ceil(per_batch)).max(1);
    let kept = (outbox.max_bytes as u64 / stored_bytes).min(per_batch.saturating_mul(outbox.max_batches as u64));
    let survives_ms = (kept as f64 / outage.per_second * 1_000.0) as u64;
    Sizing { events, bytes, max_bytes, max_batches, survives_ms }
}

/// The size of a typical exposure.
fn typical_event_bytes() -> u64 {
    let mut out = Vec::new();
    let context = EventContext {
        time_ms: 0,
        revision: Some("2026-11-23.1"),
        host: "www.shop.example",
        path: "/products/garden/chairs/4711",
        status: Some(200),
        attributes: &[],
    };
    let event = Event {
        id: derived_id(u128::MAX),
        kind: EventKind::Exposure,
        unit: "00000000-0000-4000-8000-000000000000",
        exposure: Some(("checkout-button", Some("green"))),
        goal: None,
        context: &context.encode(),
    };
    event.write(&mut out);
    out.len() as u64
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / (1 << 20) as f64)
}

fn duration(ms: u64) -> String {
    let seconds = ms / 1_000;
    match (seconds / 3_600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds}s"),
        (0, minutes, seconds) => format!("{minutes}m{seconds:02}s"),
        (hours, minutes, _) => format!("{hours}h{minutes:02}m"),
    }
}

/// A rate such as `1000/s`, `500/m` or `20/h`, as events in a second.
fn rate(text: &str) -> Result<f64, String> {
    let expected = || "expected a rate such as 1000/s, 500/m or 20/h".to_owned();
    let (number, unit) = text.split_once('/').ok_or_else(expected)?;
    let seconds = match unit {
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3_600.0,
        _ => return Err(expected()),
    };
    let number: f64 = number.trim().parse().map_err(|_| expected())?;
    if number.is_finite() && number > 0.0 { Ok(number / seconds) } else { Err(expected()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recommended_outbox_survives_the_outage() {
        for (per_second, outage_ms) in [(1_000.0, 600_000), (0.5, 3_600_000), (20_000.0, 60_000)] {
            let outage = Outage { per_second, outage_ms, event_bytes: typical_event_bytes() };
            let first = sizing(outage, &Batch::default(), &OutboxLimits::default());
            let outbox = OutboxLimits {
                max_bytes: first.max_bytes as usize,
                max_batches: first.max_batches as usize,
                ..OutboxLimits::default()
            };
            let second = sizing(outage, &Batch::default(), &outbox);
            assert!(second.survives_ms >= outage_ms, "{per_second}: {second:?}");
            assert!(second.survives_ms < 2 * outage_ms || second.max_bytes == 1 << 20, "{per_second}: {second:?}");
        }
    }

    #[test]
    fn rates_and_durations_have_units() {
        assert_eq!(rate("1000/s"), Ok(1_000.0));
        assert_eq!(rate("120/m"), Ok(2.0));
        for wrong in ["1000", "x/s", "0/s", "-1/s", "inf/s", "1/d"] {
            assert!(rate(wrong).is_err(), "{wrong}");
        }
        assert_eq!([59_999, 61_000, 3_660_000].map(duration), ["59s", "1m01s", "1h01m"]);
    }
}
