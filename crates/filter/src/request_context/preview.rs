//! Preview links: a parameter of the URL that shows chosen variants to everyone who has the link, until it expires.
//!
//! ```text
//! 1~1796083200~checkout-button.green~nav.mega~MAC
//! │ │          │                              └ HMAC-SHA-256 of everything before it, base64url
//! │ │          └ experiment.variant, percent-encoded so that `.` and `~` only separate
//! │ └ when it expires, in seconds since the epoch
//! └ the version
//! ```
//!
//! A token of version 2 is bound to a host, which follows the time: `2~1796083200~shop%2Eexample~…`.
//!
//! Everyone can read a link's variants and its time, but making one takes the secret. A link is not bound to a visitor, and can
//! be used any number of times.

use crate::http::url;
use crate::plugin_config::SECRET_BYTES_MIN;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use edgesplit_engine::assignments::{cache_pair, percent_decoded, percent_encoded};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::fmt;

/// A longer token is refused unchecked: every client can send one.
pub const TOKEN_BYTES_MAX: usize = 4096;

/// How many experiments a preview can choose the variants of.
pub const PAIRS_MAX: usize = 16;

/// The version of tokens that are valid on every host.
const VERSION: &str = "1";

/// The version of tokens that are valid on one host.
const VERSION_OF_HOST: &str = "2";

/// The start of every signed text. A signature of another kind under the same secret is therefore no preview's.
const DOMAIN: &[u8] = b"edgesplit preview\n";

/// The content of a valid token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preview {
    /// When it expires, in seconds since the epoch.
    pub expires_s: u64,
    /// The only host that it is valid on, without port and in lower case; `None` for any host.
    pub host: Option<String>,
    /// Experiment and variant, by their keys; each experiment once. The config may no longer have them.
    pub pairs: Vec<(String, String)>,
}

impl Preview {
    /// The variant that is chosen for `experiment`.
    pub fn variant(&self, experiment: &str) -> Option<&str> {
        self.pairs.iter().find(|(key, _)| key == experiment).map(|(_, variant)| variant.as_str())
    }
}

/// The reason why no token can be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotMade {
    /// The secret is shorter than [`SECRET_BYTES_MIN`].
    ShortSecret,
    /// It would choose nothing, or more than [`PAIRS_MAX`] variants.
    Pairs,
    /// An experiment or a variant has no name.
    Empty,
    /// An experiment is named twice.
    Twice,
    /// It would be longer than [`TOKEN_BYTES_MAX`].
    TooLong,
}

impl fmt::Display for NotMade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotMade::ShortSecret => write!(
                f,
                "the secret has fewer than {SECRET_BYTES_MIN} bytes, which can be guessed; use 32 random bytes"
            ),
            NotMade::Pairs => write!(f, "expected 1 to {PAIRS_MAX} pairs of an experiment and its variant"),
            NotMade::Empty => f.write_str("an experiment or a variant has an empty key"),
            NotMade::Twice => f.write_str("an experiment is named twice"),
            NotMade::TooLong => write!(f, "the link's parameter would be longer than {TOKEN_BYTES_MAX} bytes"),
        }
    }
}

/// The reason why a token is not valid. The visitor gets the page without the preview in each case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotValid {
    /// Longer than [`TOKEN_BYTES_MAX`], of another version, or not of the shape that [`make`] gives.
    Malformed,
    /// Signed with another secret, or altered.
    Forged,
    /// It has expired.
    Expired,
    /// It is bound to another host.
    OtherHost,
}

impl fmt::Display for NotValid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NotValid::Malformed => "not the token of a preview link",
            NotValid::Forged => "signed with another secret, or altered",
            NotValid::Expired => "it has expired",
            NotValid::OtherHost => "made for another host",
        })
    }
}

/// The token that chooses `pairs` of experiment and variant until `expires_s`, in seconds since the epoch, on `host` or on
/// any host.
///
/// It is a text of `[A-Za-z0-9_.~%-]`. In the value of a URL's parameter, its `%` has to be encoded once more:
/// [`parameter_value`] does that.
///
/// # Errors
/// The secret is too short, or the pairs make no preview.
pub fn make(
    secret: &[u8],
    expires_s: u64,
    host: Option<&str>,
    pairs: &[(impl AsRef<str>, impl AsRef<str>)],
) -> Result<String, NotMade> {
    if secret.len() < SECRET_BYTES_MIN {
        return Err(NotMade::ShortSecret);
    }
    if !(1..=PAIRS_MAX).contains(&pairs.len()) {
        return Err(NotMade::Pairs);
    }
    let mut token = match host {
        None => format!("{VERSION}~{expires_s}"),
        Some(host) => {
            let host = String::from_utf8_lossy(&url::host(host.as_bytes())).into_owned();
            format!("{VERSION_OF_HOST}~{expires_s}~{}", percent_encoded(&host, ".~"))
        }
    };
    for (at, (experiment, variant)) in pairs.iter().enumerate() {
        let (experiment, variant) = (experiment.as_ref(), variant.as_ref());
        if experiment.is_empty() || variant.is_empty() {
            return Err(NotMade::Empty);
        }
        if pairs.iter().take(at).any(|(other, _)| other.as_ref() == experiment) {
            return Err(NotMade::Twice);
        }
        token.push('~');
        token.push_str(&cache_pair(experiment, variant));
    }
    let mac = signature(secret, token.as_bytes()).ok_or(NotMade::ShortSecret)?.finalize().into_bytes();
    token.push('~');
    token.push_str(&URL_SAFE_NO_PAD.encode(mac));
    if token.len() > TOKEN_BYTES_MAX { Err(NotMade::TooLong) } else { Ok(token) }
}

/// `token` as the value of a URL's parameter.
pub fn parameter_value(token: &str) -> String {
    token.replace('%', "%25")
}

/// The content of `token`, a parameter's value after percent-decoding. `now_ms` is in milliseconds since the epoch, and `host`
/// is without port and in lower case. The signature is compared in constant time, before anything else is read.
///
/// # Errors
/// The token was not made with `secret`, has expired, or is bound to another host.
pub fn check(secret: &[u8], token: &[u8], host: &[u8], now_ms: i64) -> Result<Preview, NotValid> {
    if token.len() > TOKEN_BYTES_MAX {
        return Err(NotValid::Malformed);
    }
    let token = std::str::from_utf8(token).map_err(|_| NotValid::Malformed)?;
    let (signed, mac) = token.rsplit_once('~').ok_or(NotValid::Malformed)?;
    // Another spelling of the same bytes, with bits set behind the last one, is refused by the decoder.
    let mac = URL_SAFE_NO_PAD.decode(mac).map_err(|_| NotValid::Malformed)?;
    let signature = signature(secret, signed.as_bytes()).ok_or(NotValid::Forged)?;
    signature.verify_slice(&mac).map_err(|_| NotValid::Forged)?;

    let preview = parse(signed).ok_or(NotValid::Malformed)?;
    let expires_ms = i64::try_from(preview.expires_s).unwrap_or(i64::MAX).saturating_mul(1_000);
    if now_ms >= expires_ms {
        return Err(NotValid::Expired);
    }
    if preview.host.as_ref().is_some_and(|bound| bound.as_bytes() != host) {
        return Err(NotValid::OtherHost);
    }
    Ok(preview)
}

/// `None` for a secret that cannot sign: with an empty one, everyone could.
fn signature(secret: &[u8], signed: &[u8]) -> Option<Hmac<Sha256>> {
    let mac = if secret.is_empty() { None } else { Hmac::<Sha256>::new_from_slice(secret).ok() };
    mac.map(|mac| mac.chain_update(DOMAIN).chain_update(signed))
}

fn parse(signed: &str) -> Option<Preview> {
    let mut parts = signed.split('~');
    let has_host = match parts.next()? {
        VERSION => false,
        VERSION_OF_HOST => true,
        _ => return None,
    };
    let expires_s = parts.next()?.parse().ok()?;
    let host = if has_host { Some(percent_decoded(parts.next()?)?.into_owned()) } else { None };
    let mut pairs: Vec<(String, String)> = Vec::new();
    for part in parts {
        let (experiment, variant) = part.split_once('.')?;
        let (experiment, variant) = (percent_decoded(experiment)?, percent_decoded(variant)?);
        if pairs.len() == PAIRS_MAX || pairs.iter().any(|(other, _)| *other == experiment) {
            return None;
        }
        pairs.push((experiment.into_owned(), variant.into_owned()));
    }
    (!pairs.is_empty()).then_some(Preview { expires_s, host, pairs })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "correct horse battery staple";
    const SECRET: &[u8] = TEXT.as_bytes();
    const EXPIRES_S: u64 = 1_796_083_200;
    const BEFORE_MS: i64 = 1_796_083_199_999;

    fn token() -> String {
        make(SECRET, EXPIRES_S, None, &[("checkout-button", "green"), ("nav", "mega")]).unwrap()
    }

    #[test]
    fn token_is_valid_until_it_expires() {
        // Computed with Python's hmac module.
        let expected = "1~1796083200~checkout-button.green~nav.mega~P1CfojlK7OJ7tsJA8Lh9elYZZXPOPGmBtwvEzAsPcCQ";
        assert_eq!(token(), expected);
        let preview = check(SECRET, token().as_bytes(), b"h", BEFORE_MS).unwrap();
        assert_eq!(preview.expires_s, EXPIRES_S);
        assert_eq!((preview.variant("nav"), preview.variant("checkout-button")), (Some("mega"), Some("green")));
        assert_eq!(preview.variant("other"), None);
        for (now_ms, expected) in [
            (i64::MIN, Ok(())),
            (BEFORE_MS, Ok(())),
            (BEFORE_MS + 1, Err(NotValid::Expired)),
            (i64::MAX, Err(NotValid::Expired)),
        ] {
            assert_eq!(check(SECRET, token().as_bytes(), b"h", now_ms).map(|_| ()), expected, "{now_ms}");
        }
    }

    #[test]
    fn token_of_a_host_is_valid_on_it_alone() {
        let token = make(SECRET, EXPIRES_S, Some("Shop.example:8080"), &[("nav", "mega")]).unwrap();
        assert!(token.starts_with("2~1796083200~shop%2Eexample~nav.mega~"), "{token}");
        let check =
            |host: &str| check(SECRET, token.as_bytes(), host.as_bytes(), BEFORE_MS).map(|preview| preview.host);
        assert_eq!(check("shop.example"), Ok(Some("shop.example".to_owned())));
        assert_eq!(check("other.example"), Err(NotValid::OtherHost));
    }

    #[test]
    fn names_of_any_kind_survive_a_url() {
        let pairs = [("nav.v2~x", "grün 100%"), ("a&b=c", "#?/+%2e")];
        let token = make(SECRET, EXPIRES_S, None, &pairs).unwrap();
        let value = parameter_value(&token);
        assert!(value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.~-%".contains(&byte)), "{value}");
        let target = format!("/?a=1&__ab_preview={value}&b=2");
        let (_, query) = url::path_and_query(target.as_bytes());
        let received = url::parameter(query.unwrap(), "__ab_preview").unwrap();
        let preview = check(SECRET, &received, b"h", BEFORE_MS).unwrap();
        assert_eq!(preview.pairs, pairs.map(|(experiment, variant)| (experiment.to_owned(), variant.to_owned())));
    }

    #[test]
    fn invalid_pairs_make_no_token() {
        let make = |secret: &str, pairs: &[(&str, &str)]| make(secret.as_bytes(), EXPIRES_S, None, pairs);
        assert_eq!(make("fifteen bytes..", &[("a", "b")]), Err(NotMade::ShortSecret));
        assert_eq!(make(TEXT, &[]), Err(NotMade::Pairs));
        assert_eq!(make(TEXT, &[("a", "")]), Err(NotMade::Empty));
        assert_eq!(make(TEXT, &[("", "b")]), Err(NotMade::Empty));
        assert_eq!(make(TEXT, &[("a", "b"), ("a", "c")]), Err(NotMade::Twice));
        let names: Vec<String> = (0..=PAIRS_MAX).map(|number| number.to_string()).collect();
        let many: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "b")).collect();
        assert_eq!(make(TEXT, &many), Err(NotMade::Pairs));
        let most = make(TEXT, &many[..PAIRS_MAX]).unwrap();
        assert_eq!(check(SECRET, most.as_bytes(), b"h", 0).unwrap().pairs.len(), PAIRS_MAX);
        let long = "x".repeat(TOKEN_BYTES_MAX);
        assert_eq!(make(TEXT, &[("a", &long)]), Err(NotMade::TooLong));
    }

    #[test]
    fn altered_forged_and_truncated_tokens_are_not_valid() {
        let token = token();
        let of_another = make(b"another secret of 16", EXPIRES_S, None, &[("nav", "mega")]).unwrap();
        assert_eq!(check(SECRET, of_another.as_bytes(), b"h", BEFORE_MS), Err(NotValid::Forged));
        let (signed, mac) = token.rsplit_once('~').unwrap();
        for altered in [
            signed.replace("green", "blue"),
            signed.replace("1796083200", "9996083200"),
            signed.replace("1~", "2~"),
            format!("{signed}~x.y"),
            signed.replace("~nav.mega", ""),
        ] {
            assert_eq!(
                check(SECRET, format!("{altered}~{mac}").as_bytes(), b"h", BEFORE_MS),
                Err(NotValid::Forged),
                "{altered}"
            );
        }
        // Everything that differs in one byte or is cut short, and the same with something behind it.
        for at in 0..token.len() {
            assert!(check(SECRET, &token.as_bytes()[..at], b"h", BEFORE_MS).is_err(), "cut at {at}");
            for byte in [0, b'~', b'.', b'A', b'B', b'%', b'=', 0xff] {
                let mut altered = token.clone().into_bytes();
                if altered[at] != byte {
                    altered[at] = byte;
                    assert!(check(SECRET, &altered, b"h", BEFORE_MS).is_err(), "{byte} at {at}");
                }
            }
        }
        for more in ["A", "=", "~", "~AAAA", " "] {
            assert!(check(SECRET, format!("{token}{more}").as_bytes(), b"h", BEFORE_MS).is_err(), "{more}");
        }
        assert_eq!(check(b"", token.as_bytes(), b"h", BEFORE_MS), Err(NotValid::Forged), "no secret, no preview");
        assert_eq!(check(SECRET, &vec![b'1'; TOKEN_BYTES_MAX + 1], b"h", BEFORE_MS), Err(NotValid::Malformed));
    }

    /// The secret is right, but another version of the module may write another shape.
    #[test]
    fn signed_text_of_another_shape_is_malformed() {
        for signed in [
            "3~1796083200~a.b",
            "2~1796083200~a.b",
            "2~1796083200~shop%2Eexample",
            "1~1796083200",
            "1~soon~a.b",
            "1~1796083200~a",
            "1~1796083200~a.b~a.c",
            "1",
        ] {
            let mac = URL_SAFE_NO_PAD.encode(signature(SECRET, signed.as_bytes()).unwrap().finalize().into_bytes());
            let token = format!("{signed}~{mac}");
            assert_eq!(check(SECRET, token.as_bytes(), b"h", BEFORE_MS), Err(NotValid::Malformed), "{signed}");
        }
    }

    #[test]
    fn ten_thousand_random_inputs_are_not_valid() {
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        let token = token();
        for _ in 0..10_000 {
            let mut bytes = token.clone().into_bytes();
            for _ in 0..=next() % 4 {
                let at = next() as usize % bytes.len();
                match next() % 4 {
                    0 => bytes[at] = next() as u8,
                    1 => bytes.truncate(at.max(1)),
                    2 => bytes.insert(at, b"~.%1A"[next() as usize % 5]),
                    _ => bytes = (0..next() % 200).map(|_| next() as u8).chain([b'~']).collect(),
                }
            }
            if bytes != token.as_bytes() {
                assert!(check(SECRET, &bytes, b"h", BEFORE_MS).is_err(), "{bytes:?}");
            }
        }
    }
}
