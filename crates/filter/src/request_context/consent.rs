//! Consent: the values of a consent manager's cookie.
//!
//! The cookie is percent-decoded, and split at `,;|&` and the punctuation of JSON. Whole values are compared, so
//! `no-experiments` is no consent to `experiments`. A value that a colon follows is the name of a member, whose own value
//! decides: `{"experiments":false}` is no consent.

use crate::http::url::percent_decoded;

/// The values of a member, in lower case, that mean consent.
const GRANTED: [&[u8]; 6] = [b"true", b"1", b"yes", b"on", b"granted", b"allow"];

/// Whether the cookie's value gives consent to `wanted`. If `wanted` is several values, such as `statistics:true`, they have
/// to follow one after the other.
#[inline(never)]
pub fn gives_consent(cookie: &[u8], wanted: &str) -> bool {
    let cookie = percent_decoded(cookie);
    let (given, wanted) = (values(&cookie), values(wanted.as_bytes()));
    let is_there = |at: usize| {
        let mut following = given.iter().skip(at);
        wanted.iter().all(|wanted| following.next().is_some_and(|given| given.text == wanted.text))
    };
    match wanted.as_slice() {
        [] => false,
        [wanted] => {
            let mut found = given.iter().enumerate().filter(|(_, given)| given.text == wanted.text);
            found.any(|(at, found)| {
                let granted = |value: &Value<'_>| GRANTED.contains(&value.text.to_ascii_lowercase().as_slice());
                match found.after {
                    After::Value => given.get(at + 1).is_some_and(granted),
                    After::NoValue => false,
                    After::Other => true,
                }
            })
        }
        _ => (0..given.len()).any(is_there),
    }
}

/// Whether `text` contains a value.
pub fn has_value(text: &str) -> bool {
    !values(text.as_bytes()).is_empty()
}

struct Value<'a> {
    text: &'a [u8],
    after: After,
}

/// The separators behind a value.
enum After {
    /// A colon: the value is the name of a member with a plain value.
    Value,
    /// A colon and another separator: the value is the name of a member that is empty, a list or an object.
    NoValue,
    /// No colon.
    Other,
}

fn is_separator(byte: u8) -> bool {
    b",;|&{}[]:\"".contains(&byte)
}

fn values(text: &[u8]) -> Vec<Value<'_>> {
    let mut values: Vec<Value<'_>> = Vec::new();
    for part in text.chunk_by(|a, b| is_separator(*a) == is_separator(*b)) {
        let part = part.trim_ascii();
        match (part.first(), values.last_mut()) {
            (None, _) => {}
            (Some(&first), Some(last)) if is_separator(first) => last.extend(part),
            (Some(&first), None) if is_separator(first) => {}
            (Some(_), _) => values.push(Value { text: part, after: After::Other }),
        }
    }
    values
}

impl Value<'_> {
    /// Takes in separators behind the value.
    fn extend(&mut self, separators: &[u8]) {
        for sign in separators.iter().filter(|byte| **byte != b'"') {
            match (&self.after, sign) {
                (After::Other, b':') => self.after = After::Value,
                (After::Value, _) => self.after = After::NoValue,
                (After::Other | After::NoValue, _) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consent_compares_whole_values() {
        for (cookie, wanted, expected) in [
            ("experiments", "experiments", true),
            ("ads,experiments", "experiments", true),
            ("ads|experiments&x;y", "experiments", true),
            ("ads, experiments", "experiments", true),
            ("ads%2Cexperiments", "experiments", true),
            ("no-experiments", "experiments", false),
            ("experiments2", "experiments", false),
            ("Experiments", "experiments", false),
            ("", "experiments", false),
            (r#"["ads","experiments"]"#, "experiments", true),
            (r#"{"purposes": ["experiments"], "v": 2}"#, "experiments", true),
            (r#"{"experiments":true}"#, "experiments", true),
            (r#"{"experiments" : "granted", "ads": false}"#, "experiments", true),
            (r#"{"experiments":false}"#, "experiments", false),
            (r#"{"experiments": "denied"}"#, "experiments", false),
            (r#"{"experiments":{"granted":false}}"#, "experiments", false),
            (r#"{"experiments":}"#, "experiments", false),
            ("%7B%22experiments%22%3Afalse%7D", "experiments", false),
            ("%7B%22experiments%22%3Atrue%7D", "experiments", true),
            ("experiments:false", "experiments", false),
            ("experiments:1", "experiments", true),
            ("C0001:1,C0002:0", "C0002:1", false),
            ("C0001:1,C0002:1", "C0002:1", true),
            ("{necessary:true,statistics:true}", "statistics:true", true),
            ("{necessary:true,statistics:false}", "statistics:true", false),
        ] {
            assert_eq!(gives_consent(cookie.as_bytes(), wanted), expected, "{wanted} in {cookie}");
        }
        assert!(has_value("a:b") && !has_value(" ,;"));
    }
}
