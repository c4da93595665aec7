//! Answers of a service: statuses, `retry-after`, header blocks.

use edgesplit_filter::events::backoff::{Backoff, RETRY_AFTER_BACKOFFS_MAX, retry_after_ms};
use edgesplit_filter::events::outcome::outcome;
use edgesplit_filter::host::status;
use edgesplit_filter::http::headers::{HeaderBlock, HeaderMap};

/// Takes one input.
pub(crate) fn run(data: &[u8]) {
    let block = HeaderBlock::new(data.to_vec());
    for headers in [block.map(), HeaderMap::of(&[(":status", data), ("retry-after", data)])] {
        let _ = outcome(status(&headers));
        let wait_ms = headers.get("retry-after").and_then(|value| retry_after_ms(value, 1_795_392_000_000));
        let backoff = Backoff { min_ms: 1_000, max_ms: 60_000 };
        let random = data.iter().fold(0_u64, |sum, byte| sum.rotate_left(9) ^ u64::from(*byte));
        let wait_ms = backoff.wait_ms(random as u32, wait_ms, random);
        assert!((1_000..=60_000 * RETRY_AFTER_BACKOFFS_MAX).contains(&wait_ms));
    }
}
