//! What an answer of the A/B service means for the batch that was sent.

/// What to do with a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The service has it: free its slot.
    Delivered,
    /// The service, or an operator, can mend it: keep it and back off.
    Keep,
    /// Too large: send it in smaller pieces.
    Split,
    /// The service will never take it: drop it and count it.
    Reject,
}

/// Judges a status; `None` is a call that was reset or has no status.
pub fn outcome(status: Option<u16>) -> Outcome {
    match status {
        Some(200..=299) => Outcome::Delivered,
        Some(413) => Outcome::Split,
        // Credentials, addresses and quotas are mended without touching the batch.
        Some(401 | 403 | 404 | 408 | 425 | 429) => Outcome::Keep,
        Some(400..=499) => Outcome::Reject,
        _ => Outcome::Keep,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_its_outcome() {
        for status in 100..=599 {
            let expected = match status {
                200..=299 => Outcome::Delivered,
                413 => Outcome::Split,
                401 | 403 | 404 | 408 | 425 | 429 => Outcome::Keep,
                400..=499 => Outcome::Reject,
                _ => Outcome::Keep,
            };
            assert_eq!(outcome(Some(status)), expected, "{status}");
        }
        assert_eq!(outcome(None), Outcome::Keep);
        assert_eq!(outcome(Some(0)), Outcome::Keep);
        assert_eq!(outcome(Some(999)), Outcome::Keep);
    }
}
