//! Since when each part of the page has its state.

use std::collections::BTreeMap;

/// The states of all parts, by the part's name.
#[derive(Debug, Default)]
pub(super) struct Since {
    states: BTreeMap<String, (&'static str, u64)>,
}

impl Since {
    /// Records the states at `now_ms`. Parts that are not among them are forgotten.
    pub(super) fn update(&mut self, now_ms: u64, states: impl IntoIterator<Item = (String, &'static str)>) {
        let mut before = std::mem::take(&mut self.states);
        let with_time = |(part, state): (String, &'static str)| {
            let known = before.remove(&part).filter(|(known, _)| *known == state);
            (part, known.unwrap_or((state, now_ms)))
        };
        self.states = states.into_iter().map(with_time).collect();
    }

    /// When the state of `part` began, or when it was first seen.
    pub(super) fn began_ms(&self, part: &str) -> Option<u64> {
        self.states.get(part).map(|(_, began_ms)| *began_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_keeps_its_beginning_until_it_changes() {
        let mut since = Since::default();
        let state = |word| [("a".to_owned(), word)];
        since.update(1, state("healthy"));
        since.update(2, state("healthy"));
        assert_eq!(since.began_ms("a"), Some(1));
        since.update(3, state("broken"));
        assert_eq!((since.began_ms("a"), since.began_ms("b")), (Some(3), None));
        since.update(4, []);
        since.update(5, state("broken"));
        assert_eq!(since.began_ms("a"), Some(5), "a part that was gone begins anew");
    }
}
