use super::*;
use crate::metrics::Metrics;
use crate::test_host::TestHost;
use std::cell::{Cell, RefCell};

/// The bytes that `hex` stands for; blanks separate fields.
pub(crate) fn bytes_of(hex: &str) -> Vec<u8> {
    let digits: Vec<u32> = hex.chars().filter_map(|char| char.to_digit(16)).collect();
    digits.chunks(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect()
}

/// Pins the stored form of a record: it may not change under the same mark, since VMs of two modules may share it.
pub(crate) fn assert_stored<R: Record + PartialEq + std::fmt::Debug>(record: &R, hex: &str) {
    assert_eq!(record.encode(), bytes_of(hex), "{record:?}");
    assert_eq!(R::decode(&bytes_of(hex)).as_ref(), Some(record));
}

#[derive(Debug, Default, PartialEq)]
struct Number(u32);

impl Record for Number {
    const MARK: &'static [u8] = b"N\x01";

    fn write(&self, out: &mut Writer) {
        out.u32(self.0);
    }

    fn read(bytes: &mut Reader<'_>) -> Option<Number> {
        Some(Number(bytes.u32()?))
    }
}

/// Adds one to the value. Gives the result, the bytes then, and the counter that counted, if any.
fn add_one(host: &TestHost) -> (Result<Option<u32>, HostError>, Vec<u8>, Option<String>) {
    let mut metrics = Metrics::define(host, "test");
    let result = update(&mut Env::new(host, 0, &mut metrics), "key", |number: &mut Number| {
        number.0 += 1;
        Some(number.0)
    });
    metrics.flush(host);
    let counts = host.counts.borrow();
    assert!(counts.len() <= 1 && counts.values().all(|count| *count == 1), "{counts:?}");
    (result, host.value("key"), counts.keys().next().cloned())
}

#[test]
fn update_changes_the_value_that_is_there() {
    let unreadable = || Some("errors.shared_data_corrupt".to_owned());
    for (stored, expected, counted) in [
        (&b""[..], 1, None),
        (b"N\x01\x07\0\0\0", 8, None),
        (b"N\x02\x07\0\0\0", 1, unreadable()),
        (b"N\x01\x07\0\0\0\0", 1, unreadable()),
    ] {
        let host = TestHost::default();
        host.put("key", stored);
        assert_eq!(add_one(&host), (Ok(Some(expected)), Number(expected).encode(), counted), "{stored:?}");
    }
    assert_eq!(add_one(&TestHost::default()), (Ok(Some(1)), Number(1).encode(), None), "absent");
}

#[test]
fn update_starts_again_on_a_stale_write_and_counts_a_failed_last_attempt() {
    let stale = |times| RefCell::new((times, Number(40).encode()));
    let host = TestHost { stale: stale(UPDATE_TRIES_MAX - 1), ..TestHost::default() };
    assert_eq!(add_one(&host), (Ok(Some(41)), Number(41).encode(), None));
    let host = TestHost { stale: stale(UPDATE_TRIES_MAX), ..TestHost::default() };
    let exhausted = Some("errors.cas_exhausted".to_owned());
    assert_eq!(add_one(&host), (Err(HostError), Number(40).encode(), exhausted));
    let host = TestHost { fails: Cell::new(true), ..TestHost::default() };
    assert_eq!(add_one(&host), (Err(HostError), Vec::new(), Some("errors.shared_data".to_owned())));
}

#[test]
fn update_writes_nothing_if_nothing_changes() {
    let host = TestHost::default();
    host.put("key", b"other");
    let mut metrics = Metrics::define(&host, "test");
    let unchanged = update(&mut Env::new(&host, 0, &mut metrics), "key", |_: &mut Number| None::<()>);
    assert_eq!((unchanged, host.value("key")), (Ok(None), b"other".to_vec()));
}
