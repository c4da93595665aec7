//! What a browser keeps for the filter, and what links and tokens say: all of it may be tampered with.

use edgesplit_engine::decide::StickyBucket;
use edgesplit_filter::request_context::sticky::{COOKIE_BYTES_MAX, ENTRIES_MAX, StickyBuckets};
use edgesplit_filter::request_context::{jwt, preview};

const SECRET: &[u8] = b"a secret of 25 bytes, yes";

/// Takes one input: the values of a sticky cookie, of a preview parameter and of a token, each on a line.
pub(crate) fn run(data: &[u8]) {
    let mut lines = data.splitn(3, |&byte| byte == b'\n');
    let mut line = || lines.next().unwrap_or_default();

    let mut buckets = StickyBuckets::parse(line());
    assert!(buckets.buckets().len() <= ENTRIES_MAX);
    buckets.remember("nav", 1, "mega");
    let written = buckets.value(100);
    assert!(written.len() + 100 <= COOKIE_BYTES_MAX && written.is_ascii() && !written.contains([';', ',', ' ', '"']));
    let again = StickyBuckets::parse(written.as_bytes());
    // A written cookie is read back the same, except for the oldest entries, which it may have no room for.
    let (kept, all): (&[StickyBucket<'_>], _) = (again.buckets(), buckets.buckets());
    assert!(all.ends_with(kept) && !kept.is_empty(), "{all:?} became {kept:?}");

    let token = line();
    if let Ok(valid) = preview::check(SECRET, token, b"h", 0) {
        // A valid token can only be made with the secret, and has one spelling.
        let made = preview::make(SECRET, valid.expires_s, valid.host.as_deref(), &valid.pairs);
        assert_eq!(made.as_deref().map(str::as_bytes), Ok(token));
    }
    let _ = jwt::claim(line(), "sub");
}
