//! Many requests at a steady rate, and how they fared.

use super::client::{Client, Outgoing};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How much to send.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Connections, each with a thread of its own.
    pub connections: usize,
    /// Requests a second, over all connections.
    pub rate: f64,
    pub duration: Duration,
    /// How long to wait for an answer.
    pub deadline: Duration,
}

/// How a load fared.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Requests sent.
    pub sent: u64,
    /// Answers by status.
    pub statuses: BTreeMap<u16, u64>,
    /// What went wrong with the others, and how often.
    pub errors: BTreeMap<String, u64>,
    /// How long each answer took, sorted. Measured from when the request was due, so that one late answer counts
    /// against all that had to wait for it.
    pub latencies: Vec<Duration>,
    /// From the first request to the last answer.
    pub took: Duration,
}

impl Report {
    /// How many answers had this status.
    pub fn status(&self, status: u16) -> u64 {
        self.statuses.get(&status).copied().unwrap_or_default()
    }

    /// How many requests had no answer.
    pub fn failed(&self) -> u64 {
        self.errors.values().sum()
    }

    /// The latency that this share of the answers did not exceed: `0.99`.
    pub fn percentile(&self, share: f64) -> Duration {
        let last = self.latencies.len().saturating_sub(1);
        self.latencies.get((last as f64 * share).round() as usize).copied().unwrap_or_default()
    }

    pub fn max(&self) -> Duration {
        self.percentile(1.0)
    }

    fn add(&mut self, other: Report) {
        self.sent += other.sent;
        for (status, count) in other.statuses {
            *self.statuses.entry(status).or_default() += count;
        }
        for (error, count) in other.errors {
            *self.errors.entry(error).or_default() += count;
        }
        self.latencies.extend(other.latencies);
        self.took = self.took.max(other.took);
    }
}

/// Sends what `request` makes of the numbers 0, 1, 2, … to a port of the loopback interface, at `pace`. Request `n` goes
/// out on connection `n % connections`, when it is due or when the answer before it is there.
pub fn run(port: u16, pace: Pace, request: impl Fn(u64) -> Outgoing + Sync) -> Report {
    let total = (pace.rate * pace.duration.as_secs_f64()).round() as u64;
    let start = Instant::now();
    let one = |first: u64| {
        let mut report = Report::default();
        let mut client = Client::new(port).deadline(pace.deadline);
        for number in (first..total).step_by(pace.connections) {
            let due = start + Duration::from_secs_f64(number as f64 / pace.rate);
            // A pace, not a way to wait for something.
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            report.sent += 1;
            match client.send(&request(number)) {
                Ok(reply) => {
                    *report.statuses.entry(reply.status).or_default() += 1;
                    report.latencies.push(due.elapsed());
                }
                Err(error) => *report.errors.entry(error).or_default() += 1,
            }
        }
        report.took = start.elapsed();
        report
    };
    let mut report = Report::default();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..pace.connections as u64).map(|first| scope.spawn(move || one(first))).collect();
        for thread in threads {
            report.add(thread.join().expect("a thread of the load panicked"));
        }
    });
    report.latencies.sort_unstable();
    report
}
