//! The identity of a visitor: the id, and whether it may be used.

use super::consent::gives_consent;
use super::known_headers::Known;
use super::{RequestContext, jwt};
use crate::plugin_config::{IdSource, OwnCookie, TokenSource, Visitor};
use edgesplit_engine::decide::is_unit;
use std::cell::OnceCell;
use uuid::Uuid;

/// The visitor's id: from the first source that has one, then the minted one. `text` holds an id that a token encodes.
#[inline(always)]
pub fn id<'a>(request: &RequestContext<'a>, visitor: &Visitor, text: &'a OnceCell<String>) -> Option<&'a str> {
    for source in &visitor.id {
        let id = id_from(request, source, text);
        if id.is_some() {
            return id;
        }
    }
    minted_id(request, &visitor.mint.as_ref()?.cookie)
}

/// The id that one source has.
#[inline(always)]
pub fn id_from<'a>(request: &RequestContext<'a>, source: &IdSource, text: &'a OnceCell<String>) -> Option<&'a str> {
    match source {
        IdSource::Cookie(name) => request.cookie(name).and_then(as_id),
        IdSource::Header(name) => request.headers.get(name).and_then(|value| as_id(value.trim_ascii())),
        IdSource::JwtClaim { claim, token } => id_of_token(request, claim, token, text),
    }
}

#[cold]
#[inline(never)]
fn id_of_token<'a>(
    request: &RequestContext<'a>,
    claim: &str,
    token: &TokenSource,
    text: &'a OnceCell<String>,
) -> Option<&'a str> {
    let token = match token {
        TokenSource::Header(name) => request.headers.get(name),
        TokenSource::Cookie(name) => request.cookie(name),
    };
    let id = jwt::claim(token?, claim)?;
    let id = as_id(id.as_bytes().trim_ascii())?.to_owned();
    Some(text.get_or_init(|| id))
}

/// The minted id that the client sent: the first valid one, because a browser may also have a cookie of this name for
/// another domain or path.
#[inline(never)]
pub fn minted_id<'a>(request: &RequestContext<'a>, mint: &OwnCookie) -> Option<&'a str> {
    let first = request.cookie(&mint.cookie)?;
    let valid = if is_minted(first) { first } else { request.find_cookie(&mint.cookie, &mut is_minted)? };
    as_id(valid)
}

/// `bytes` as an id, if they have the length of one and are UTF-8.
#[inline(always)]
fn as_id(bytes: &[u8]) -> Option<&str> {
    if is_unit(bytes) { std::str::from_utf8(bytes).ok() } else { None }
}

/// A new id: a random UUID (version 4) in lower case.
pub fn minted(random: u128) -> String {
    uuid::Builder::from_random_bytes(random.to_be_bytes()).into_uuid().to_string()
}

/// Whether `text` has the shape that [`minted`] gives.
pub fn is_minted(text: &[u8]) -> bool {
    let parsed = Uuid::try_parse_ascii(text).ok().filter(|uuid| uuid.get_version_num() == 4);
    parsed.is_some_and(|uuid| uuid.hyphenated().encode_lower(&mut Uuid::encode_buffer()).as_bytes() == text)
}

/// Whether the user agent is a bot's and bots are excluded.
#[inline(never)]
pub fn is_bot(request: &RequestContext<'_>, visitor: &Visitor) -> bool {
    visitor.exclude_bots && request.known.get(Known::UserAgent).is_some_and(|name| visitor.bot_patterns.match_bot(name))
}

/// Whether the visitor has consented to experiments, and has not objected.
#[inline(always)]
pub fn has_consent(request: &RequestContext<'_>, visitor: &Visitor) -> bool {
    let gpc = request.known.get(Known::SecGpc).filter(|_| visitor.honor_gpc);
    let dnt = request.known.get(Known::Dnt).filter(|_| visitor.honor_dnt);
    if gpc.is_some_and(is_objection) || dnt.is_some_and(is_objection) {
        return false;
    }
    match &visitor.consent {
        None => true,
        Some(consent) => gives_consent(request.cookie(&consent.cookie).unwrap_or_default(), &consent.contains),
    }
}

#[cold]
#[inline(never)]
fn is_objection(value: &[u8]) -> bool {
    value.trim_ascii() == b"1"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::headers::HeaderMap;
    use crate::plugin_config::PluginConfig;
    use serde_json::{Value, json};

    fn visitor(block: Value) -> Visitor {
        PluginConfig::from_value(&json!({"experiments": {"cluster": "c"}, "visitor": block})).unwrap().visitor
    }

    #[test]
    fn first_usable_id_wins() {
        let visitor = visitor(json!({"id": [{"header": "x-user-id"}, {"cookie": "uid"}], "mint": {"cookie": "ab"}}));
        let minted_id = minted(7);
        let long = "x".repeat(513);
        let minted_cookie = format!("ab={minted_id}");
        let forged_first = format!("ab=; ab=x; ab={minted_id}; ab={}", minted(8));
        for (pairs, expected) in [
            (vec![("x-user-id", "u1"), ("cookie", "uid=u2")], Some("u1")),
            (vec![("x-user-id", ""), ("cookie", "uid=u2; uid=u3")], Some("u2")),
            (vec![("x-user-id", &long), ("cookie", "uid=u2")], Some("u2")),
            (vec![("cookie", &minted_cookie)], Some(minted_id.as_str())),
            (vec![("cookie", "ab=forged")], None),
            (vec![("cookie", "ab=forged; x=1"), ("cookie", &minted_cookie)], Some(minted_id.as_str())),
            (vec![("cookie", &forged_first)], Some(minted_id.as_str())),
            (vec![], None),
        ] {
            let (headers, text) = (HeaderMap::of(&pairs), OnceCell::new());
            assert_eq!(id(&RequestContext::new(&headers, &visitor), &visitor, &text), expected, "{pairs:?}");
        }
        let not_text = HeaderMap::of(&[("x-user-id", b"\xff")]);
        assert_eq!(id(&RequestContext::new(&not_text, &visitor), &visitor, &OnceCell::new()), None);
    }

    #[test]
    fn id_may_be_a_claim_of_a_token() {
        let visitor = visitor(json!({"id": [
            {"jwt_claim": "sub", "header": "authorization"}, {"jwt_claim": "uid", "cookie": "session"},
            {"cookie": "uid"}]}));
        // {"sub":"u1"}, {"uid":7} and {"sub":" "}
        for (pairs, expected) in [
            (vec![("authorization", "Bearer e30.eyJzdWIiOiJ1MSJ9.c2ln"), ("cookie", "uid=u2")], Some("u1")),
            (vec![("authorization", "Basic dTpw"), ("cookie", "session=e30.eyJ1aWQiOjd9.c2ln; uid=u2")], Some("7")),
            (vec![("authorization", "Bearer e30.eyJzdWIiOiIgIn0.c2ln"), ("cookie", "uid=u2")], Some("u2")),
            (vec![], None),
        ] {
            let (headers, text) = (HeaderMap::of(&pairs), OnceCell::new());
            assert_eq!(id(&RequestContext::new(&headers, &visitor), &visitor, &text), expected, "{pairs:?}");
        }
    }

    #[test]
    fn minted_ids_have_one_shape() {
        assert!(is_minted(minted(0).as_bytes()) && is_minted(minted(u128::MAX).as_bytes()));
        assert_ne!(minted(1), minted(2));
        for other in ["", "x", "00000000-0000-4000-8000-00000000000", "00000000-0000-1000-8000-000000000000"] {
            assert!(!is_minted(other.as_bytes()), "{other}");
        }
        assert!(!is_minted(minted(u128::MAX).to_uppercase().as_bytes()));
    }

    #[test]
    fn consent_is_asked_for_and_objections_are_honoured() {
        let asked =
            visitor(json!({"consent": {"cookie": "consent", "contains": "experiments"}, "honor": ["gpc", "dnt"]}));
        for (pairs, expected) in [
            (vec![], false),
            (vec![("cookie", "consent=ads")], false),
            (vec![("cookie", "consent=ads,experiments")], true),
            (vec![("cookie", "consent=experiments"), ("sec-gpc", "1")], false),
            (vec![("cookie", "consent=experiments"), ("dnt", "1")], false),
            (vec![("cookie", "consent=experiments"), ("dnt", "0")], true),
        ] {
            assert_eq!(
                has_consent(&RequestContext::new(&HeaderMap::of(&pairs), &asked), &asked),
                expected,
                "{pairs:?}"
            );
        }
        let default = visitor(json!({}));
        assert!(
            has_consent(&RequestContext::new(&HeaderMap::of(&[("dnt", "1")]), &default), &default),
            "dnt is honoured only where it is configured"
        );
        assert!(!has_consent(&RequestContext::new(&HeaderMap::of(&[("sec-gpc", "1")]), &default), &default));
    }
}
