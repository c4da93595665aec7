//! The service that gets events, and remembers everything.

use std::collections::HashMap;

/// A collector.
#[derive(Debug, Default)]
pub(crate) struct Service {
    pub(crate) is_up: bool,
    /// Whether it refuses some batches as too large. Their parts have keys of their own, also after a crash.
    pub(crate) splits: bool,
    /// The batch with which each event came.
    pub(crate) events: HashMap<String, String>,
    /// Events that came again.
    pub(crate) repeated: i64,
    /// The bodies of batches.
    bodies: HashMap<String, Vec<u8>>,
    pub(crate) problems: Vec<String>,
}

impl Service {
    /// Takes a batch of events, one a line.
    pub(crate) fn take(&mut self, batch: &str, body: &[u8]) {
        let text = String::from_utf8(body.to_vec()).unwrap();
        // Events that joined a batch last may not have reached the disk before their process died.
        let known = self.bodies.entry(batch.to_owned()).or_insert_with(|| body.to_vec());
        if !known.starts_with(body) {
            self.problems.push(format!("batch {batch} did not have all of these events before"));
        }
        for event in text.lines() {
            match self.events.insert(event.to_owned(), batch.to_owned()) {
                None => {}
                Some(before) if before == batch || self.splits => self.repeated += 1,
                Some(before) => self.problems.push(format!("{event} came with {before} and with {batch}")),
            }
        }
    }
}
