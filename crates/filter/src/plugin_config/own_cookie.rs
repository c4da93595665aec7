//! Cookies that the filter sets: a minted id, sticky buckets.

use super::block::{self, Block};
use super::duration::{self, HOUR_MS, SECOND_MS};
use super::names;
use edgesplit_formats::diagnostics::{Node, Problems};
use std::fmt::Write;
use std::ops::RangeInclusive;

pub(super) const AGE_BOUNDS_MS: RangeInclusive<u64> = SECOND_MS..=87_600 * HOUR_MS;

/// The most bytes of a `Set-Cookie` beside the configured texts and the value.
const FIXED_BYTES_MAX: usize = 96;

/// A cookie that the filter sets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnCookie {
    /// Its name.
    pub cookie: String,
    /// Its `Max-Age`, in seconds.
    pub max_age_s: u64,
    /// Its `Path`.
    pub path: String,
    /// Its `Domain`; `None`: the host that answers.
    pub domain: Option<String>,
    /// Its `SameSite`.
    pub same_site: SameSite,
    /// Whether it is `Secure`.
    pub secure: bool,
    /// Whether it is `HttpOnly`: kept from the page's scripts.
    pub http_only: bool,
}

impl OwnCookie {
    /// A cookie of this name and age, for the whole site that answers.
    pub(super) fn new(cookie: &str, max_age_s: u64) -> OwnCookie {
        OwnCookie {
            cookie: cookie.to_owned(),
            max_age_s,
            path: "/".to_owned(),
            domain: None,
            same_site: SameSite::Lax,
            secure: true,
            http_only: false,
        }
    }

    /// The `Set-Cookie` that gives it this value, which holds no `;`, space or control character.
    pub fn set(&self, value: &str) -> String {
        self.written(value, self.max_age_s)
    }

    /// The `Set-Cookie` that takes it away from the browser.
    pub fn expired(&self) -> String {
        // Browsers know a cookie by its name, domain and path: the others are there because they judge a cookie that
        // is to be taken away as they do one that is to be kept.
        self.written("", 0)
    }

    /// A cookie of this name that is like it otherwise.
    pub fn named(&self, name: &str) -> OwnCookie {
        OwnCookie { cookie: name.to_owned(), ..self.clone() }
    }

    /// How many bytes of the `Set-Cookie` are not the value.
    pub fn other_bytes(&self) -> usize {
        self.set("").len()
    }

    fn written(&self, value: &str, max_age_s: u64) -> String {
        let domain_bytes = self.domain.as_ref().map_or(0, String::len);
        let mut text =
            String::with_capacity(self.cookie.len() + value.len() + self.path.len() + domain_bytes + FIXED_BYTES_MAX);
        text.push_str(&self.cookie);
        text.push('=');
        text.push_str(value);
        text.push_str("; Path=");
        text.push_str(&self.path);
        if let Some(domain) = &self.domain {
            text.push_str("; Domain=");
            text.push_str(domain);
        }
        // Writing to a string cannot fail.
        let _ = write!(text, "; Max-Age={max_age_s}");
        text.push_str(match self.same_site {
            SameSite::Strict => "; SameSite=Strict",
            SameSite::Lax => "; SameSite=Lax",
            SameSite::None => "; SameSite=None",
        });
        if self.secure {
            text.push_str("; Secure");
        }
        if self.http_only {
            text.push_str("; HttpOnly");
        }
        text
    }
}

/// The `SameSite` of a cookie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SameSite {
    /// Sent on requests from the same site only.
    Strict,
    /// Sent on navigation from elsewhere too.
    Lax,
    /// Always sent; browsers ask that such a cookie is secure.
    None,
}

/// Reads a cookie; what is not said is as in `defaults`.
pub(super) fn read(node: Node<'_>, defaults: OwnCookie, problems: &mut Problems) -> Option<OwnCookie> {
    let known = ["cookie", "max_age", "path", "domain", "same_site", "secure", "http_only"];
    let block = Block::open(node, &known, problems)?;

    let cookie = block.or("cookie", defaults.cookie, problems, names::cookie_name);
    let max_age_s = block.or("max_age", defaults.max_age_s, problems, |node, problems| {
        let ms = duration::read_ms(node, &AGE_BOUNDS_MS, problems)?;
        if !ms.is_multiple_of(SECOND_MS) {
            node.expected(problems, "a duration of whole seconds");
            return None;
        }
        Some(ms / SECOND_MS)
    });
    let path = block.or("path", defaults.path, problems, |node, problems| {
        names::text(node, "a path that starts with / and is visible ASCII without ;", problems, |text| {
            text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b';')
        })
    });
    let domain = block.nullable("domain", problems, |node, problems| {
        names::text(node, "a host name, or null for the host that answers", problems, names::is_domain)
    });
    let same_site = block.or("same_site", defaults.same_site, problems, |node, problems| {
        let choices = [("strict", SameSite::Strict), ("lax", SameSite::Lax), ("none", SameSite::None)];
        block::choice(node, &choices, problems)
    });
    let secure = block.or("secure", defaults.secure, problems, |node, problems| node.boolean(problems));
    let http_only = block.or("http_only", defaults.http_only, problems, |node, problems| node.boolean(problems));

    let cookie = OwnCookie {
        cookie: cookie?,
        max_age_s: max_age_s?,
        path: path?,
        domain: domain?,
        same_site: same_site?,
        secure: secure?,
        http_only: http_only?,
    };
    refuse_what_browsers_drop(&cookie, &block, problems);
    Some(cookie)
}

/// Browsers drop such cookies without a word, and every page view would be a new visitor.
/// The prefixes are those of RFC 6265bis, section 4.1.3.
fn refuse_what_browsers_drop(own: &OwnCookie, block: &Block<'_>, problems: &mut Problems) {
    if own.same_site == SameSite::None && !own.secure {
        let message = "browsers drop a cookie with same_site none unless it is secure; expected secure: true";
        problems.error(&block.path().field("same_site"), message);
    }
    let cookie = own.cookie.to_ascii_lowercase();
    let host_only = own.secure && own.domain.is_none() && own.path == "/";
    if cookie.starts_with("__host-") && !host_only {
        let message = "browsers drop a cookie of the prefix __Host- unless it has secure: true, path: / and no domain";
        problems.error(&block.path().field("cookie"), message);
    }
    if cookie.starts_with("__secure-") && !own.secure {
        let message = "browsers drop a cookie of the prefix __Secure- unless it has secure: true";
        problems.error(&block.path().field("cookie"), message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_is_set_and_taken_away_with_the_same_attributes() {
        let plain = OwnCookie::new("ab_visitor", 3600);
        assert_eq!(plain.set("u1"), "ab_visitor=u1; Path=/; Max-Age=3600; SameSite=Lax; Secure");
        assert_eq!(plain.expired(), "ab_visitor=; Path=/; Max-Age=0; SameSite=Lax; Secure");
        assert_eq!(plain.other_bytes() + 2, plain.set("u1").len());
        let other = OwnCookie {
            path: "/shop".to_owned(),
            domain: Some("shop.example".to_owned()),
            same_site: SameSite::Strict,
            secure: false,
            http_only: true,
            ..plain
        };
        assert_eq!(
            other.set("u1"),
            "ab_visitor=u1; Path=/shop; Domain=shop.example; Max-Age=3600; SameSite=Strict; HttpOnly"
        );
    }
}
