//! Random bits from the system.

/// Unpredictable bits. If the system has none, they can be guessed, but are still unique: `now_ms` gives the time.
pub(crate) fn random(now_ms: impl FnOnce() -> i64) -> u128 {
    let mut bytes = [0; 16];
    if getrandom::fill(&mut bytes).is_err() {
        let place = &raw const bytes as usize;
        return edgesplit_engine::hash::fingerprint(&[&now_ms().to_le_bytes(), &place.to_le_bytes()]);
    }
    u128::from_le_bytes(bytes)
}
