//! The meaning of an answer of the A/B service for the batch that was sent.

/// The fate of a batch after an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The service took it: free its slot.
    Delivered,
    /// The service or an operator can fix the problem: keep it and back off.
    Keep,
    /// Too large: send it in smaller pieces.
    Split,
    /// The service will never take it: drop it and count it.
    Reject,
}

/// The outcome of a status; `None` stands for a call that was reset or has no status.
pub fn outcome(status: Option<u16>) -> Outcome {
    match status {
        Some(200..=299) => Outcome::Delivered,
        Some(413) => Outcome::Split,
        // Credentials, addresses and quotas can be fixed without touching the batch.
        Some(401 | 403 | 404 | 408 | 425 | 429) => Outcome::Keep,
        Some(400..=499) => Outcome::Reject,
        _ => Outcome::Keep,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcome_of_every_status() {
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
