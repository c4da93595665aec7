//! How each planted bug is played: on the bytes between the filter and its host.

use crate::mutants::Mutant;
use crate::network::Answer;
use crate::scenario::PLUGIN;
use edgesplit_filter::config_sync::state::State;
use edgesplit_filter::events::outbox::Outbox;
use edgesplit_filter::shared_data::Record;
use edgesplit_testkit::random::Random;

/// What becomes of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Write {
    /// It is made, perhaps with other bytes.
    Do,
    /// It is not, without any error.
    Skip,
}

/// The key of the outbox's index.
pub fn index_key() -> String {
    format!("edgesplit/{PLUGIN}/outbox")
}

/// Whether this is the key of the config's state.
pub fn is_state(key: &str) -> bool {
    let source = key.strip_prefix("edgesplit/").and_then(|key| key.strip_prefix(PLUGIN)?.strip_prefix("/config/"));
    source.is_some_and(|source| !source.contains('/'))
}

/// The number of the slot under `key`.
pub fn slot(key: &str) -> Option<u32> {
    key.strip_prefix("edgesplit/")?.strip_prefix(PLUGIN)?.strip_prefix("/slot/")?.parse().ok()
}

/// Changes what a VM reads.
pub fn read(mutant: Mutant, key: &str, code: u64, value: &mut Vec<u8>) {
    match mutant {
        Mutant::ForgetsLeases if key == index_key() => {
            let Some(mut outbox) = Outbox::decode(value) else { return };
            for batch in outbox.batches.iter_mut().filter(|batch| batch.written) {
                batch.lease.take_if(|lease| lease.holder != code);
            }
            *value = outbox.encode();
        }
        Mutant::EveryoneFetches if is_state(key) => {
            let Some(state) = State::decode(value) else { return };
            *value = State { next_fetch_ms: 0, lease_until_ms: 0, ..state }.encode();
        }
        _ => {}
    }
}

/// Changes what a VM writes.
pub fn write(mutant: Mutant, key: &str, old: &[u8], value: &mut Vec<u8>, rng: &mut Random) -> Write {
    match mutant {
        Mutant::LeaksSlots if slot(key).is_some() && value.is_empty() => return Write::Skip,
        Mutant::SkipsSlots if slot(key).is_some() && !value.is_empty() && rng.chance(100_000) => return Write::Skip,
        Mutant::NoBackoff if key == index_key() => {
            if let Some(outbox) = Outbox::decode(value) {
                *value = Outbox { retry_at_ms: 0, ..outbox }.encode();
            }
        }
        Mutant::NotPublished if is_state(key) => {
            let (Some(old), Some(new)) = (State::decode(old), State::decode(value)) else { return Write::Do };
            if old.version != 0 {
                *value = State { version: old.version, ..new }.encode();
            }
        }
        _ => {}
    }
    Write::Do
}

/// Whether a VM never hears of a reply.
pub fn drops(mutant: Mutant, answer: &Answer) -> bool {
    mutant == Mutant::DropsReplies && answer.is_events && answer.status() != Some(200)
}

/// Changes the headers of a reply.
pub fn reply(mutant: Mutant, is_events: bool, headers: &mut Vec<(&'static str, String)>) {
    if !is_events {
        return;
    }
    let status = headers.first().map(|(_, status)| status.clone()).unwrap_or_default();
    let seen = match (mutant, status.as_str()) {
        (Mutant::AlwaysAcknowledged, _) => "200",
        (Mutant::GivesUpLarge, "413") => "400",
        (Mutant::RetriesRefused, "400" | "410" | "422") => "500",
        (Mutant::IgnoresRetryAfter, _) => {
            headers.retain(|(name, _)| *name != "retry-after");
            return;
        }
        _ => return,
    };
    headers.clear();
    headers.push((":status", seen.to_owned()));
}
