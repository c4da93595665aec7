//! The context of a request: the facts about it and its visitor that decisions need, as the plugin configuration defines them.
//! The filter and the command build it in the same way.

pub mod bots;
pub mod consent;
mod identity;
pub mod jwt;
mod known_headers;
pub mod own_cookies;
pub mod preview;
pub mod sticky;

pub use identity::{has_consent, id, id_from, is_bot, is_minted, minted, minted_id};

use crate::http::cookies::{self, Cookies, cookie, cookie_in};
use crate::http::headers::HeaderMap;
use crate::http::owned_names::OwnedNames;
use crate::http::url;
use crate::plugin_config::{Paths, Request, Visitor};
use crate::request_context::preview::{NotValid, Preview};
use edgesplit_engine::attribute::{AttributeName, AttributeValue, Attributes, json_attribute};
use edgesplit_engine::route::RequestLine;
use known_headers::{Known, KnownHeaders};
use serde_json::Value;
use std::borrow::Cow;
use std::cell::OnceCell;

/// The facts about a request. Everything is borrowed from its headers.
#[derive(Debug)]
pub struct RequestContext<'a> {
    /// All headers.
    pub headers: &'a HeaderMap<'a>,
    known: KnownHeaders<'a>,
    /// All cookies, for attributes: conditions, units and events can name any number of cookies.
    cookies: OnceCell<Cookies<'a>>,
    /// Whether a name that the filter owns is among them.
    pub has_owned: bool,
    /// Whether a browser only fetches the page in advance, and may never show it.
    pub is_prefetch: bool,
    /// The request target, without the parameters that the filter owns once they are taken from it.
    pub target: &'a [u8],
    /// Its path.
    pub path: &'a [u8],
    /// Its query, without the question mark.
    pub query: Option<&'a [u8]>,
    /// The visitor's id, once it is known.
    pub id: Option<&'a str>,
    /// Names under which attributes are also known.
    pub aliases: &'a [(String, AttributeName)],
    /// Attributes with types, which only the command has.
    pub typed: Option<&'a Value>,
}

/// Whether the purpose of a request, such as `prefetch;prerender`, is a prefetch.
#[cold]
#[inline(never)]
fn names_prefetch(purpose: &[u8]) -> bool {
    let is_prefetch =
        |part: &[u8]| [&b"prefetch"[..], b"prerender"].iter().any(|known| part.eq_ignore_ascii_case(known));
    purpose.split(|byte| b";, ".contains(byte)).any(is_prefetch)
}

impl<'a> RequestContext<'a> {
    /// Reads `headers`.
    pub fn new(headers: &'a HeaderMap<'a>, visitor: &'a Visitor) -> RequestContext<'a> {
        let mut request = RequestContext::unread(headers, visitor);
        request.read(&OwnedNames::default());
        request
    }

    /// The context of a request whose `headers` are still to be read.
    #[inline(always)]
    pub fn unread(headers: &'a HeaderMap<'a>, visitor: &'a Visitor) -> RequestContext<'a> {
        RequestContext {
            headers,
            known: KnownHeaders::default(),
            cookies: OnceCell::new(),
            has_owned: false,
            is_prefetch: false,
            target: b"",
            path: b"",
            query: None,
            id: None,
            aliases: &visitor.attributes,
            typed: None,
        }
    }

    /// Reads the headers, and notes the names among them that the filter owns.
    #[inline(never)]
    pub fn read(&mut self, owned: &OwnedNames) {
        let (owned_lengths, mut has_owned) = (owned.lengths(), false);
        self.headers.each_with(known_headers::LENGTHS.or(owned_lengths), |name, value| {
            self.known.note(name, value);
            has_owned |= owned_lengths.contains(name.len()) && owned.contains(name);
        });
        self.has_owned = has_owned;
        let is_prefetch = |known| self.known.get(known).is_some_and(names_prefetch);
        self.is_prefetch = is_prefetch(Known::XMoz) || is_prefetch(Known::Purpose) || is_prefetch(Known::SecPurpose);
        self.retarget(self.received_target());
    }

    /// The request target as the client sent it.
    #[inline(always)]
    pub fn received_target(&self) -> &'a [u8] {
        self.known.get(Known::Path).unwrap_or_default()
    }

    /// The method.
    #[inline(always)]
    pub fn method(&self) -> &'a [u8] {
        self.known.get(Known::Method).unwrap_or_default()
    }

    /// The host as the client sent it.
    #[inline(always)]
    fn authority(&self) -> &'a [u8] {
        self.known.get(Known::Authority).or(self.known.get(Known::Host)).unwrap_or_default()
    }

    /// Whether there is a header `connection`: only upgrades, such as those to websockets, still have it here.
    #[inline(always)]
    pub fn has_connection(&self) -> bool {
        self.known.get(Known::Connection).is_some()
    }

    /// Replaces the request target by `target`, which is without the parameters that the filter owns.
    pub fn retarget(&mut self, target: &'a [u8]) {
        self.target = target;
        (self.path, self.query) = url::path_and_query(target);
    }

    /// The value of the cookie `name`, as the client sent it.
    #[inline(never)]
    pub fn cookie(&self, name: &str) -> Option<&'a [u8]> {
        let header = self.known.get(Known::Cookie)?;
        if self.known.has_more_cookies { cookie(self.headers, name) } else { cookie_in(header, name) }
    }

    /// The first value of the cookie `name` that is `wanted`. A browser may have several cookies of one name, each for another
    /// domain or path.
    #[inline(never)]
    pub fn find_cookie(&self, name: &str, wanted: &mut dyn FnMut(&[u8]) -> bool) -> Option<&'a [u8]> {
        self.known.get(Known::Cookie)?;
        cookies::find(self.headers, name, wanted)
    }

    /// All cookies.
    pub fn cookies(&self) -> &Cookies<'a> {
        self.cookies.get_or_init(|| Cookies::read(self.headers))
    }

    /// Host without port, in lower case.
    pub fn host(&self) -> Cow<'a, [u8]> {
        url::host(self.authority())
    }

    /// Whether this is Envoy's copy of a mirrored request, whose response it drops. It marks copies at the end of the host.
    pub fn is_mirrored(&self) -> bool {
        match self.authority() {
            [.., b'w'] => self.authority().ends_with(b"-shadow"),
            [.., b'0'..=b'9'] => self.host().ends_with(b"-shadow"),
            _ => false,
        }
    }

    /// The request line, which routes are compared with.
    pub fn line(&self) -> RequestLine<'a> {
        RequestLine { host: self.host(), path: self.path, method: self.method() }
    }

    /// The scheme of the client's connection, as far as proxies report it.
    pub fn scheme(&self) -> Option<&'a [u8]> {
        let forwarded = self.headers.get("x-forwarded-proto").map(|schemes| {
            // The first is the scheme of the client's own connection.
            schemes.split(|byte| *byte == b',').next().unwrap_or_default().trim_ascii()
        });
        forwarded.filter(|scheme| !scheme.is_empty()).or_else(|| self.headers.get(":scheme"))
    }

    /// The port that the client named, if it named one.
    pub fn port(&self) -> Option<&'a [u8]> {
        url::port(self.authority())
    }

    /// The whole URL. Without a known scheme it is https.
    fn url(&self) -> Option<String> {
        let scheme = self.scheme().unwrap_or(b"https");
        String::from_utf8([scheme, b"://", self.authority(), self.target].concat()).ok()
    }
}

fn text(bytes: Option<&[u8]>) -> AttributeValue<'_> {
    match bytes.map(std::str::from_utf8) {
        Some(Ok(text)) => AttributeValue::Text(Cow::Borrowed(text)),
        // Bytes that are not UTF-8 count as absent.
        Some(Err(_)) | None => AttributeValue::Missing,
    }
}

fn text_of(bytes: Cow<'_, [u8]>) -> AttributeValue<'_> {
    match bytes {
        Cow::Borrowed(bytes) => text(Some(bytes)),
        Cow::Owned(bytes) => {
            String::from_utf8(bytes).map_or(AttributeValue::Missing, |text| AttributeValue::Text(text.into()))
        }
    }
}

/// How many bytes are read in the time of finding a header among a hundred.
const HEADER_LOOK_UP_BYTES: usize = 128;

/// How many bytes are read in the time of comparing a name with a cookie's, or with an alias.
const NAME_BYTES: usize = 16;

impl Attributes for RequestContext<'_> {
    fn attribute<'a>(&'a self, name: &'a AttributeName) -> AttributeValue<'a> {
        if let Some(typed) = self.typed
            && *name != AttributeName::Id
        {
            // Typed attributes take precedence over the request.
            let found = match name {
                AttributeName::Named(_) | AttributeName::Exact(_) | AttributeName::Nested(_) => {
                    json_attribute(typed, name)
                }
                other => typed.get(&*other.written()).map_or(AttributeValue::Missing, AttributeValue::Json),
            };
            if !matches!(found, AttributeValue::Missing) {
                return found;
            }
        }
        match name {
            AttributeName::Id => self.id(),
            AttributeName::Host => text_of(self.host()),
            AttributeName::Path => text(Some(self.path)),
            AttributeName::Url => self.url().map_or(AttributeValue::Missing, |url| AttributeValue::Text(url.into())),
            AttributeName::Method => text(Some(self.method())),
            AttributeName::Header(name) if name == "host" => {
                text(Some(self.authority()).filter(|authority| !authority.is_empty()))
            }
            AttributeName::Header(name) => text(self.headers.get(name)),
            AttributeName::Cookie(name) => text(self.cookies().get(name)),
            AttributeName::Query(name) => {
                let value = self.query.and_then(|query| url::parameter(query, name));
                value.map_or(AttributeValue::Missing, text_of)
            }
            AttributeName::Named(name) | AttributeName::Exact(name) | AttributeName::Nested(name) => {
                let alias = self.aliases.iter().find(|(alias, _)| alias == name);
                // An alias stands for a place in the request, never for another alias, so this ends.
                alias.map_or(AttributeValue::Missing, |(_, source)| self.attribute(source))
            }
        }
    }

    #[inline(always)]
    fn id(&self) -> AttributeValue<'_> {
        match (self.id, self.typed) {
            (Some(id), _) => AttributeValue::Text(Cow::Borrowed(id)),
            (None, Some(typed)) => typed.get("id").map_or(AttributeValue::Missing, AttributeValue::Json),
            (None, None) => AttributeValue::Missing,
        }
    }

    fn look_up_bytes(&self, name: &AttributeName) -> usize {
        match name {
            AttributeName::Cookie(_) => NAME_BYTES * self.cookies().count(),
            AttributeName::Query(_) => self.query.map_or(0, <[u8]>::len),
            AttributeName::Url => self.target.len(),
            AttributeName::Header(_) => HEADER_LOOK_UP_BYTES,
            AttributeName::Named(name) | AttributeName::Exact(name) | AttributeName::Nested(name) => {
                let alias = self.aliases.iter().find(|(alias, _)| alias == name);
                NAME_BYTES * self.aliases.len() + alias.map_or(0, |(_, source)| self.look_up_bytes(source))
            }
            AttributeName::Id | AttributeName::Host | AttributeName::Path | AttributeName::Method => 0,
        }
    }
}

/// The request target of `view` without the parameters that the filter owns; `None` if it has none of them.
pub fn target_without_owned(view: &RequestContext<'_>, request: &Request) -> Option<Vec<u8>> {
    let first = request.cache_key.query.as_deref().and_then(|name| url::without_parameter(view.target, name));
    let Some(preview) = &request.preview else { return first };
    url::without_parameter(first.as_deref().unwrap_or(view.target), &preview.parameter).or(first)
}

/// The token of a preview link in the request target as the client sent it, whether it is valid or not.
pub fn preview_token<'a>(view: &RequestContext<'a>, request: &Request) -> Option<Cow<'a, [u8]>> {
    let preview = request.preview.as_ref()?;
    url::parameter(view.query?, &preview.parameter)
}

/// The content of a token, or the reason why it is not valid; `None` if there are no preview links.
#[inline(never)]
pub fn preview(
    token: &[u8],
    view: &RequestContext<'_>,
    request: &Request,
    now_ms: i64,
) -> Option<Result<Preview, NotValid>> {
    Some(preview::check(request.preview.as_ref()?.secret.bytes(), token, &view.host(), now_ms))
}

/// Whether the filter acts on `path` at all.
pub fn is_included(paths: &Paths, path: &[u8]) -> bool {
    paths.include.iter().any(|pattern| pattern.matches(path))
        && !paths.exclude.iter().any(|pattern| pattern.matches(path))
}

#[cfg(test)]
mod tests;
