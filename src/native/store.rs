//! The values that all workers of the process share: the native counterpart of proxy-wasm's shared data.

use edgesplit_filter::host::{SetError, Shared};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Values by their keys, changed by compare-and-swap as [`Shared`] documents. A cleared value keeps its key and number, so a
/// late writer of it finds that it changed.
#[derive(Debug, Default)]
pub(crate) struct Store {
    values: Mutex<Values>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Values {
    by_key: HashMap<String, Shared>,
    last_cas: u32,
}

impl Store {
    /// The value under `key`, or an empty one.
    pub(crate) fn get(&self, key: &str) -> Shared {
        self.lock().get(key)
    }

    /// Writes a value.
    ///
    /// # Errors
    /// [`SetError::Stale`] if it was written since it was read with `cas`.
    pub(crate) fn set(&self, key: &str, value: &[u8], cas: u32) -> Result<(), SetError> {
        let values = &mut *self.lock();
        let next = values.next_cas();
        match values.by_key.get_mut(key) {
            Some(known) if cas != Shared::OVERWRITE && cas != known.cas => return Err(SetError::Stale),
            Some(known) => {
                value.clone_into(&mut known.value);
                known.cas = next;
                // An empty value must not keep the memory of a large one.
                if value.is_empty() {
                    known.value = Vec::new();
                }
            }
            None => {
                values.by_key.insert(key.to_owned(), Shared { value: value.to_vec(), cas: next });
            }
        }
        values.last_cas = next;
        self.changed.notify_all();
        Ok(())
    }

    /// Waits until the value under `key` is another one than that with `cas`, until `timeout` has passed, or until `is_over`
    /// is set and [`Store::wake`] called.
    pub(crate) fn wait_for_change(&self, key: &str, cas: u32, timeout: Duration, is_over: &AtomicBool) {
        let deadline = Instant::now() + timeout;
        let mut values = self.lock();
        loop {
            let now = values.by_key.get(key).map_or(Shared::ABSENT, |value| value.cas);
            let left = deadline.saturating_duration_since(Instant::now());
            if now != cas || left.is_zero() || is_over.load(Ordering::Relaxed) {
                return;
            }
            values = self.changed.wait_timeout(values, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Lets all that wait for a change look again whether they still should.
    pub(crate) fn wake(&self) {
        let _values = self.lock();
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Values> {
        // Every change is complete before anything can panic.
        self.values.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Values {
    fn get(&self, key: &str) -> Shared {
        self.by_key.get(key).cloned().unwrap_or(Shared { value: Vec::new(), cas: Shared::ABSENT })
    }

    /// The number of the next change: none that means something else.
    fn next_cas(&self) -> u32 {
        match self.last_cas.wrapping_add(1) {
            Shared::ABSENT | Shared::OVERWRITE => 1,
            next => next,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn set_refuses_stale_numbers() {
        let store = Store::default();
        assert_eq!(store.get("a"), Shared { value: Vec::new(), cas: Shared::ABSENT });
        assert_eq!(store.set("a", b"1", Shared::ABSENT), Ok(()));
        assert_eq!(store.set("a", b"2", Shared::ABSENT), Err(SetError::Stale), "created once only");
        let first = store.get("a");
        assert_eq!(store.set("a", b"2", first.cas), Ok(()));
        assert_eq!(store.set("a", b"3", first.cas), Err(SetError::Stale));
        assert_eq!(store.set("a", b"4", Shared::OVERWRITE), Ok(()));
        assert_eq!(store.get("a").value, b"4");
        assert_eq!(store.set("b", b"1", 77), Ok(()), "an absent key takes any number");
    }

    #[test]
    fn cleared_value_keeps_its_number() {
        let store = Store::default();
        store.set("a", b"1", Shared::ABSENT).unwrap();
        let first = store.get("a");
        store.set("a", b"", first.cas).unwrap();
        assert!(store.get("a").value.is_empty());
        assert_eq!(store.set("a", b"2", first.cas), Err(SetError::Stale));
    }

    #[test]
    fn numbers_with_a_meaning_are_never_given() {
        let store = Store::default();
        store.lock().last_cas = u32::MAX - 2;
        let cas: Vec<u32> = std::iter::repeat_with(|| {
            store.set("a", b"1", Shared::OVERWRITE).unwrap();
            store.get("a").cas
        })
        .take(3)
        .collect();
        assert_eq!(cas, [u32::MAX - 1, 1, 2]);
    }

    #[test]
    fn swaps_of_many_threads_are_all_counted() {
        let store = Arc::new(Store::default());
        let add = |store: &Store| loop {
            let shared = store.get("n");
            let count = shared.value.first().copied().unwrap_or(0) + 1;
            if store.set("n", &[count], shared.cas).is_ok() {
                return;
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..50).for_each(|_| add(&store)));
            }
        });
        assert_eq!(store.get("n").value, [200]);
    }

    #[test]
    fn wait_ends_with_a_change_the_time_or_a_wake() {
        let (store, is_over) = (Store::default(), AtomicBool::new(false));
        store.wait_for_change("a", Shared::ABSENT, Duration::from_millis(1), &is_over);
        let wait = || store.wait_for_change("a", Shared::ABSENT, Duration::from_secs(3_600), &is_over);
        std::thread::scope(|scope| {
            let waits = scope.spawn(wait);
            is_over.store(true, Ordering::Relaxed);
            store.wake();
            waits.join().unwrap();
            is_over.store(false, Ordering::Relaxed);
            let waits = scope.spawn(wait);
            store.set("a", b"1", Shared::ABSENT).unwrap();
            waits.join().unwrap();
        });
    }
}
