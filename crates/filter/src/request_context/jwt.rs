//! A claim of a JSON Web Token (RFC 7519). **The signature is not checked here**: another filter, such as Envoy's
//! `jwt_authn`, has to verify the token before the request gets to this one. With an unverified token, as with an id in a
//! cookie, a client can claim to be any visitor.

use base64::Engine;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use edgesplit_engine::json;
use edgesplit_engine::number;
use serde_json::Value;

/// A longer token is ignored.
pub const TOKEN_BYTES_MAX: usize = 8192;

/// Tokens are written without padding and trailing bits. Others are accepted too.
const BASE64URL: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// The claim `name` of the token in `text`, which may have `Bearer ` in front of it: a text, or a number as JSON writes
/// it. `None` for claims of other types, encrypted tokens, and malformed ones.
pub fn claim(text: &[u8], name: &str) -> Option<String> {
    let token = without_scheme(text.trim_ascii());
    if token.len() > TOKEN_BYTES_MAX {
        return None;
    }
    let mut parts = token.split(|&byte| byte == b'.');
    // Header, payload, signature; an encrypted token has five parts.
    let (Some(_), Some(payload), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return None;
    };
    let payload = BASE64URL.decode(payload).ok()?;
    let claims = json::read(&payload).ok()?;
    match claims.as_object()?.get(name)? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(match number.as_f64() {
            // One id, however it was written.
            Some(float) if number.is_f64() && float.fract() == 0.0 && float.abs() < 1e15 => number::javascript(float),
            _ => number.to_string(),
        }),
        _ => None,
    }
}

fn without_scheme(text: &[u8]) -> &[u8] {
    const SCHEME: &[u8] = b"bearer ";
    match text.split_at_checked(SCHEME.len()) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case(SCHEME) => token.trim_ascii(),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::engine::general_purpose::{URL_SAFE as PADDED, URL_SAFE_NO_PAD};

    fn token(payload: &str) -> String {
        format!("eyJhbGciOiJub25lIn0.{}.c2ln", URL_SAFE_NO_PAD.encode(payload))
    }

    #[test]
    fn texts_and_numbers_are_ids() {
        for (payload, expected) in [
            (r#"{"sub": "user-1", "iat": 1}"#, Some("user-1")),
            (r#"{"sub": "Jürgen 🚲"}"#, Some("Jürgen 🚲")),
            (r#"{"sub": 42}"#, Some("42")),
            (r#"{"sub": 42.0}"#, Some("42")),
            (r#"{"sub": -7}"#, Some("-7")),
            (r#"{"sub": 18446744073709551615}"#, Some("18446744073709551615")),
            (r#"{"sub": 1.5}"#, Some("1.5")),
            (r#"{"sub": ""}"#, Some("")),
            (r#"{"sub": null}"#, None),
            (r#"{"sub": true}"#, None),
            (r#"{"sub": ["a"]}"#, None),
            (r#"{"iss": "x"}"#, None),
            (r#"["sub"]"#, None),
            ("sub", None),
        ] {
            assert_eq!(claim(token(payload).as_bytes(), "sub").as_deref(), expected, "{payload}");
        }
        let url = r#"{"https://shop.example/uid": "u"}"#;
        assert_eq!(claim(token(url).as_bytes(), "https://shop.example/uid").as_deref(), Some("u"));
    }

    #[test]
    fn scheme_and_padding_are_optional() {
        let payload = r#"{"sub":"u1"}"#;
        let bare = token(payload);
        let padded = format!("e30=.{}.", PADDED.encode(r#"{"sub":"u1" }"#));
        assert!(padded.contains("=="));
        for text in [bare.clone(), format!("Bearer {bare}"), format!("bearer   {bare} "), padded] {
            assert_eq!(claim(text.as_bytes(), "sub").as_deref(), Some("u1"), "{text}");
        }
        for text in ["", "Bearer ", "Basic dTpw", "a.b", "a.b.c.d.e", "...", "a.!!!.c", bare.trim_end_matches(".c2ln")]
        {
            assert_eq!(claim(text.as_bytes(), "sub"), None, "{text}");
        }
        let large = token(&format!(r#"{{"sub":"u1","x":"{}"}}"#, "x".repeat(TOKEN_BYTES_MAX)));
        assert_eq!(claim(large.as_bytes(), "sub"), None);
        let deep = token(&format!(r#"{{"sub":"u1","x":{}"#, "[".repeat(4_000)));
        assert_eq!(claim(deep.as_bytes(), "sub"), None);
    }

    #[test]
    fn damaged_tokens_never_panic() {
        let whole = token(r#"{"sub":"u1"}"#).into_bytes();
        for at in 0..whole.len() {
            for byte in [0, b'.', b'=', b'"', 0x80, 0xff] {
                let mut altered = whole.clone();
                altered[at] = byte;
                let _ = claim(&altered, "sub");
                let _ = claim(&altered[..at], "sub");
            }
        }
    }
}
