//! Validators that belong to one variant. On its way to the client, the `etag` of a page with a cache key gets a mark, the
//! hash of the key: `"v1"` becomes `"v1~ab-0123456789abcdef"`. On its way back, the mark is removed if it belongs to the
//! variant of the request; other validators are removed. A validator without a mark belongs to the page without a key: the
//! baseline's, also before and after the experiment.

use super::headers::{HeaderMap, list_elements};
use edgesplit_engine::hash::fingerprint;

/// The start of a mark. 16 hexadecimal digits follow.
const MARK: &str = "~ab-";
const MARK_BYTES: usize = MARK.len() + 16;

const IF_NONE_MATCH: &str = "if-none-match";
const IF_MODIFIED_SINCE: &str = "if-modified-since";
const IF_MATCH: &str = "if-match";
const IF_RANGE: &str = "if-range";

/// A header of a request with its new value, or `None` to remove it.
pub type Condition = (&'static str, Option<String>);

/// The mark of the pages with this cache key; `None` if it is empty.
pub fn mark(cache_key: &str) -> Option<u64> {
    (!cache_key.is_empty()).then(|| fingerprint(&[cache_key.as_bytes()]) as u64)
}

/// `etag` with the mark, which precedes the closing quotation mark.
pub fn marked(etag: &[u8], mark: u64) -> Vec<u8> {
    let (tag, quote) = split_quote(etag.trim_ascii());
    [tag, text(Some(mark)).as_bytes(), quote].concat()
}

/// The conditions of a request to change for the origin, for the variant with this mark.
#[inline(never)]
pub fn conditions(headers: &HeaderMap<'_>, mark: Option<u64>) -> Vec<Condition> {
    let mark = text(mark);
    let mut changes = Vec::new();
    let (mut is_dropped, mut has_tags) = (false, false);
    if let Some(tags) = listed(headers, IF_NONE_MATCH) {
        let kept: Vec<String> = tags.iter().filter_map(|tag| of_variant(tag, &mark)).collect();
        (is_dropped, has_tags) = (kept.len() < tags.len(), true);
        if is_dropped || !mark.is_empty() {
            changes.push((IF_NONE_MATCH, Some(kept.join(", ")).filter(|kept| !kept.is_empty())));
        }
    }
    if (is_dropped || !(has_tags || mark.is_empty())) && headers.get(IF_MODIFIED_SINCE).is_some() {
        changes.push((IF_MODIFIED_SINCE, None));
    }
    // These compare the state of the resource, which is the same for all variants.
    if let Some(tags) = listed(headers, IF_MATCH).filter(|tags| tags.iter().any(|tag| !split(tag).1.is_empty())) {
        changes.push((IF_MATCH, Some(tags.iter().map(|tag| unmarked(tag)).collect::<Vec<_>>().join(", "))));
    }
    if let Some(range) = headers.get(IF_RANGE) {
        match of_variant(range.trim_ascii(), &mark) {
            // The parts of two variants do not make one page.
            None => changes.extend([(IF_RANGE, None), ("range", None)]),
            Some(_) if mark.is_empty() => {}
            unmarked => changes.push((IF_RANGE, unmarked)),
        }
    }
    changes
}

/// The entity tags in the headers called `name`, if there is one.
fn listed<'a>(headers: &HeaderMap<'a>, name: &str) -> Option<Vec<&'a [u8]>> {
    headers.get(name)?;
    let tags = headers.all(name).flat_map(list_elements).map(<[u8]>::trim_ascii);
    Some(tags.filter(|tag| !tag.is_empty()).collect())
}

/// The origin's tag, if `tag` belongs to the variant with this mark. `*` belongs to every variant.
fn of_variant(tag: &[u8], mark: &str) -> Option<String> {
    (tag == b"*" || split(tag).1 == mark.as_bytes()).then(|| unmarked(tag))
}

fn unmarked(tag: &[u8]) -> String {
    let (tag, _, quote) = split(tag);
    String::from_utf8_lossy(&[tag, quote].concat()).into_owned()
}

/// Splits a tag into the origin's, its mark, and the closing quotation mark. The last two may be empty.
fn split(tag: &[u8]) -> (&[u8], &[u8], &[u8]) {
    let (tag, quote) = split_quote(tag);
    let is_mark =
        |mark: &[u8]| mark.strip_prefix(MARK.as_bytes()).is_some_and(|hash| hash.iter().all(u8::is_ascii_hexdigit));
    match tag.len().checked_sub(MARK_BYTES).and_then(|at| tag.split_at_checked(at)) {
        Some((tag, mark)) if is_mark(mark) => (tag, mark, quote),
        _ => (tag, b"", quote),
    }
}

fn split_quote(tag: &[u8]) -> (&[u8], &[u8]) {
    match tag {
        [tag @ .., b'"'] => (tag, b"\""),
        tag => (tag, b""),
    }
}

fn text(mark: Option<u64>) -> String {
    mark.map_or_else(String::new, |mark| format!("{MARK}{mark:016x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const B: &str = "~ab-00000000000000b0";

    #[test]
    fn etag_is_marked_within_its_quotes() {
        for (etag, expected) in [
            (r#""v1""#, r#""v1~ab-00000000000000b0""#),
            (r#"W/"v1""#, r#"W/"v1~ab-00000000000000b0""#),
            (r#""""#, r#""~ab-00000000000000b0""#),
            ("v1", "v1~ab-00000000000000b0"),
            ("", "~ab-00000000000000b0"),
        ] {
            assert_eq!(marked(etag.as_bytes(), 0xb0), expected.as_bytes());
            assert_eq!(of_variant(expected.as_bytes(), B).as_deref(), Some(etag));
        }
        assert_eq!((mark(""), mark("nav.mega").is_some()), (None, true));
    }

    #[test]
    fn only_validators_of_the_variant_reach_the_origin() {
        let own = [(IF_NONE_MATCH, r#"W/"1~ab-00000000000000b0""#)];
        let other = (IF_NONE_MATCH, r#""1~ab-00000000000000a0""#);
        let (none, since) = ((IF_NONE_MATCH, r#""1""#), (IF_MODIFIED_SINCE, "x"));
        let list = (IF_NONE_MATCH, r#""a,b~ab-00000000000000b0", "2" ,W/"3~ab-00000000000000a0""#);
        for (sent, of_b, of_baseline) in [
            (&own[..], &[(IF_NONE_MATCH, Some(r#"W/"1""#))][..], &[(IF_NONE_MATCH, None)][..]),
            (&[other], &[(IF_NONE_MATCH, None)], &[(IF_NONE_MATCH, None)]),
            (&[none], &[(IF_NONE_MATCH, None)], &[]),
            (&[none, since], &[(IF_NONE_MATCH, None), (IF_MODIFIED_SINCE, None)], &[]),
            (&[since], &[(IF_MODIFIED_SINCE, None)], &[]),
            (
                &[own[0], since],
                &[(IF_NONE_MATCH, Some(r#"W/"1""#))],
                &[(IF_NONE_MATCH, None), (IF_MODIFIED_SINCE, None)],
            ),
            (&[list], &[(IF_NONE_MATCH, Some(r#""a,b""#))], &[(IF_NONE_MATCH, Some(r#""2""#))]),
            (&[other, own[0]], &[(IF_NONE_MATCH, Some(r#"W/"1""#))], &[(IF_NONE_MATCH, None)]),
            (
                &[(IF_MATCH, r#""1~ab-00000000000000a0", "2""#)],
                &[(IF_MATCH, Some(r#""1", "2""#))],
                &[(IF_MATCH, Some(r#""1", "2""#))],
            ),
            (&[(IF_MATCH, r#""1""#)], &[], &[]),
            (&[(IF_RANGE, r#""1""#)], &[(IF_RANGE, None), ("range", None)], &[]),
            (
                &[(IF_RANGE, r#""1~ab-00000000000000b0""#)],
                &[(IF_RANGE, Some(r#""1""#))],
                &[(IF_RANGE, None), ("range", None)],
            ),
            (&[("etag", "x")], &[], &[]),
        ] {
            let headers = HeaderMap::of(sent);
            for (mark, expected) in [(Some(0xb0), of_b), (None, of_baseline)] {
                let changes = conditions(&headers, mark);
                let changes: Vec<_> = changes.iter().map(|(name, value)| (*name, value.as_deref())).collect();
                assert_eq!(changes, expected, "{sent:?} for {mark:?}");
            }
        }
    }
}
