//! Cookies that the filter sets: a minted id, sticky buckets.

use super::duration::{HOUR_MS, SECOND_MS, Seconds, millis};
use super::names;
use edgesplit_formats::diagnostics::{Node, Path, Problems};
use edgesplit_formats::document;
use edgesplit_formats::document::schema::Members;
use edgesplit_formats::document::{Absent, Choice, Document, Flag, Kind, MemberReader, Nullable, Text, strict};
use serde_json::Value;
use std::fmt::Write;

/// The most bytes of a `Set-Cookie` beside the configured texts and the value.
const FIXED_BYTES_MAX: usize = 96;

/// How many other domains of a cookie are tried to remove it.
const OTHER_DOMAINS_MAX: usize = 5;

/// A cookie that the filter sets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnCookie {
    /// Its name.
    pub cookie: String,
    /// Its `Max-Age`, in seconds.
    pub max_age_s: u64,
    /// Its `Path`.
    pub path: String,
    /// Its `Domain`; `None` for the host that answers.
    pub domain: Option<String>,
    /// Its `SameSite`.
    pub same_site: SameSite,
    /// Whether it is `Secure`.
    pub secure: bool,
    /// Whether it is `HttpOnly`: kept from the page's scripts.
    pub http_only: bool,
    /// Whether it is `Partitioned`: kept apart for each site that embeds the page.
    pub partitioned: bool,
}

impl OwnCookie {
    /// The `Set-Cookie` that gives it this value, which holds no `;`, space or control character.
    pub fn set(&self, value: &str) -> String {
        self.written(value, self.max_age_s)
    }

    /// The `Set-Cookie` that removes it from the browser.
    pub fn expired(&self) -> String {
        // Browsers identify a cookie by its name, domain and path. The other attributes are needed because browsers apply
        // the same rules to a cookie that expires as to one that is set.
        self.written("", 0)
    }

    /// The `Set-Cookie`s that remove the cookies of this name with another domain, as an earlier configuration set them. A
    /// request to `host` does not show a cookie's domain, and each one that it can have is removed.
    pub fn expired_elsewhere(&self, host: &str) -> Vec<String> {
        // An IP address has no parents.
        let is_address = host.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        let domains = std::iter::once(host).chain(host.match_indices('.').filter_map(|(at, _)| host.get(at + 1..)));
        let domains = domains.filter(|domain| !is_address && domain.contains('.') && names::is_domain(domain));
        let own = self.domain.as_ref().map(|domain| domain.trim_start_matches('.').to_ascii_lowercase());
        let others = std::iter::once(None).chain(domains.map(Some)).filter(|domain| *domain != own.as_deref());
        let expired = |domain: Option<&str>| OwnCookie { domain: domain.map(str::to_owned), ..self.clone() }.expired();
        others.take(OTHER_DOMAINS_MAX).map(expired).collect()
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
        if self.partitioned {
            text.push_str("; Partitioned");
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

document! {
    /// A cookie as it is written. Its name and age have no defaults of their own.
    pub(super) struct Block {
        /// Its name.
        cookie: Option<String> = None => Nullable(names::COOKIE),
        /// How long browsers keep it, in whole seconds.
        max_age_s as "max_age": Option<u64> = None => Nullable(Seconds(millis(SECOND_MS, 87_600 * HOUR_MS))),
        /// The paths that it is sent for.
        path: String = "/".to_owned() => Text::new(
            "a path that starts with / and is visible ASCII without ;",
            "^/[!-:<-~]*$",
            |text| text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b';'),
        ),
        /// The host that it is sent to, and those below it; null: the host that answers.
        domain: Option<String> = None => Nullable(Text::new(
            "a host name, or null for the host that answers",
            "^\\.?[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*$",
            names::is_domain,
        )),
        /// Its `SameSite`; none only with `secure`.
        same_site: SameSite = SameSite::Lax => SAME_SITE,
        /// Whether it is sent over TLS alone.
        secure: bool = true => Flag,
        /// Whether it is kept from the page's scripts.
        http_only: bool = false => Flag,
        /// Whether browsers keep it apart for each site that embeds the page; only with `secure`.
        partitioned: bool = false => Flag,
    }
}

const SAME_SITE: Choice<SameSite> =
    Choice(|| vec![("strict", SameSite::Strict), ("lax", SameSite::Lax), ("none", SameSite::None)]);

/// A cookie that the filter sets, with the defaults of its use.
pub(super) struct Cookie {
    pub(super) cookie: &'static str,
    pub(super) max_age_s: u64,
}

impl Kind for Cookie {
    type Value = OwnCookie;

    fn expected(&self) -> String {
        "a cookie, which is an object".to_owned()
    }

    fn read(&self, node: Node<'_>, problems: &mut Problems) -> Option<OwnCookie> {
        self.cookie(strict().read(node, problems)?, node, problems)
    }

    fn schema(&self) -> Value {
        let mut members = Members::default();
        self.describe_members(&mut members);
        members.into_object()
    }
}

impl Cookie {
    fn cookie(&self, block: Block, node: Node<'_>, problems: &mut Problems) -> Option<OwnCookie> {
        let Block { cookie, max_age_s, path, domain, same_site, secure, http_only, partitioned } = block;
        let cookie = cookie.unwrap_or_else(|| self.cookie.to_owned());
        let max_age_s = max_age_s.unwrap_or(self.max_age_s);
        let cookie = OwnCookie { cookie, max_age_s, path, domain, same_site, secure, http_only, partitioned };
        refuse_cookies_that_browsers_drop(&cookie, node.path, problems);
        Some(cookie)
    }

    fn describe_members(&self, members: &mut Members) {
        Block::describe(members);
        members.set_default("cookie", Value::from(self.cookie));
        members.set_default("max_age", Value::from(super::duration::show_ms(self.max_age_s * SECOND_MS)));
    }
}

/// A cookie whose members are among others.
pub(super) struct InPlaceCookie(pub(super) Cookie);

impl Kind for InPlaceCookie {
    type Value = OwnCookie;

    fn expected(&self) -> String {
        self.0.expected()
    }

    fn read(&self, node: Node<'_>, problems: &mut Problems) -> Option<OwnCookie> {
        self.0.read(node, problems)
    }

    fn member(&self, members: &mut MemberReader<'_>, _: &'static str, _: Absent<OwnCookie>) -> Option<OwnCookie> {
        self.0.cookie(Block::read(members)?, members.node, members.problems)
    }

    fn schema(&self) -> Value {
        self.0.schema()
    }

    fn describe(&self, _: &'static str, _: &'static str, _: &Absent<OwnCookie>, members: &mut Members) {
        self.0.describe_members(members);
    }
}

/// Refuses cookies that browsers drop silently: every page view would be a new visitor. RFC 6265bis, section 4.1.3, defines the
/// prefixes.
fn refuse_cookies_that_browsers_drop(own: &OwnCookie, path: &Path<'_>, problems: &mut Problems) {
    if own.same_site == SameSite::None && !own.secure {
        let message = "browsers drop a cookie with same_site none unless it is secure; expected secure: true";
        problems.error(&path.field("same_site"), message);
    }
    let cookie = own.cookie.to_ascii_lowercase();
    let host_only = own.secure && own.domain.is_none() && own.path == "/";
    if cookie.starts_with("__host-") && !host_only {
        let message = "browsers drop a cookie of the prefix __Host- unless it has secure: true, path: / and no domain";
        problems.error(&path.field("cookie"), message);
    }
    if own.partitioned && !own.secure {
        let message = "browsers drop a partitioned cookie unless it is secure; expected secure: true";
        problems.error(&path.field("partitioned"), message);
    }
    if cookie.starts_with("__secure-") && !own.secure {
        let message = "browsers drop a cookie of the prefix __Secure- unless it has secure: true";
        problems.error(&path.field("cookie"), message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookie_of_another_domain_is_removed_wherever_it_can_be() {
        let cookie = |domain: serde_json::Value| {
            let cookie = Cookie { cookie: "ab", max_age_s: 3600 };
            cookie.read(Node::root(&serde_json::json!({"domain": domain})), &mut Problems::new()).unwrap()
        };
        let domains = |domain: serde_json::Value, host: &str| -> Vec<String> {
            let expired = cookie(domain).expired_elsewhere(host);
            let attribute = |text: &str| {
                assert!(text.starts_with("ab=; Path=/; ") && text.contains("; Max-Age=0"), "{text}");
                text.split("; ").find_map(|part| part.strip_prefix("Domain=")).unwrap_or("-").to_owned()
            };
            expired.iter().map(|text| attribute(text)).collect()
        };
        let none = serde_json::Value::Null;
        assert_eq!(domains(none.clone(), "www.shop.example"), ["www.shop.example", "shop.example"]);
        assert_eq!(domains("Shop.example".into(), "www.shop.example"), ["-", "www.shop.example"]);
        assert_eq!(domains(".shop.example".into(), "shop.example"), ["-"]);
        assert_eq!(domains("shop.example".into(), "127.0.0.1"), ["-"]);
        assert_eq!(domains(none.clone(), &"a.".repeat(20)).len(), 0, "no host name");
        assert_eq!(domains(none.clone(), &format!("{}example", "a.".repeat(20))).len(), OTHER_DOMAINS_MAX);
        assert_eq!(domains(none, "a.example; Secure"), [""; 0]);
    }

    #[test]
    fn cookie_is_set_and_expired_with_the_same_attributes() {
        let plain = Cookie { cookie: "ab_visitor", max_age_s: 3600 };
        let plain = plain.read(Node::root(&serde_json::json!({})), &mut Problems::new()).unwrap();
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
        let partitioned = OwnCookie { secure: true, partitioned: true, ..other };
        assert!(partitioned.expired().ends_with("; Secure; HttpOnly; Partitioned"));
    }
}
