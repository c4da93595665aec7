//! A visit: what a request says of its visitor, read as the plugin configuration wants it. The filter and the command
//! build it the same way, so that they decide the same.

pub mod bots;
pub mod jwt;
pub mod preview;
pub mod sticky;

use crate::http::cookies::{self, cookie, cookie_in};
use crate::http::headers::{HeaderMap, NameLengths, is_name};
use crate::http::url;
use crate::plugin_config::{IdSource, OwnCookie, Paths, Request, TokenSource, Visitor};
use crate::visit::preview::{NotValid, Preview};
use edgesplit_engine::attribute::{AttributeName, AttributeValue, Attributes, json_attribute};
use edgesplit_engine::decide::{Visit, is_unit};
use edgesplit_engine::route::RequestLine;
use edgesplit_formats::FormatRef;
use serde_json::Value;
use std::borrow::Cow;
use uuid::Uuid;

/// How many of a vendor's cookies one response deletes.
const EXPIRED_MAX: usize = 8;

/// A request as decisions see it. Everything is borrowed from its headers.
#[derive(Debug)]
pub struct RequestView<'a> {
    /// All headers.
    pub headers: &'a HeaderMap,
    /// The request target as the client sent it.
    pub target: &'a [u8],
    /// Its path.
    pub path: &'a [u8],
    /// Its query, without the question mark.
    pub query: Option<&'a [u8]>,
    /// The method.
    pub method: &'a [u8],
    /// The host as the client sent it.
    authority: &'a [u8],
    /// What the client calls itself.
    pub user_agent: Option<&'a [u8]>,
    gpc: Option<&'a [u8]>,
    dnt: Option<&'a [u8]>,
    /// The first header with cookies, and whether there are more: HTTP/2 clients may split them.
    cookies: Option<&'a [u8]>,
    has_more_cookies: bool,
    /// The visitor's id, once it is known: UTF-8.
    pub id: Option<&'a [u8]>,
    /// Names under which attributes are also known.
    pub aliases: &'a [(String, AttributeName)],
    /// Attributes with types, which only the command has.
    pub typed: Option<&'a Value>,
}

/// What every request is asked for: the first value of each name.
#[derive(Default)]
struct Asked<'a> {
    target: Option<&'a [u8]>,
    authority: Option<&'a [u8]>,
    host: Option<&'a [u8]>,
    method: Option<&'a [u8]>,
    user_agent: Option<&'a [u8]>,
    gpc: Option<&'a [u8]>,
    dnt: Option<&'a [u8]>,
    cookies: Option<&'a [u8]>,
    has_more_cookies: bool,
}

/// The lengths of their names.
const ASKED_LENGTHS: NameLengths = NameLengths::of(&[3, 4, 5, 6, 7, 10]);

impl<'a> Asked<'a> {
    #[inline(always)]
    fn take(&mut self, name: &[u8], value: &'a [u8]) {
        let place = match (name.len(), name.first()) {
            (3, _) if is_name(name, b"dnt") => &mut self.dnt,
            (4, _) if is_name(name, b"host") => &mut self.host,
            (5, _) if is_name(name, b":path") => &mut self.target,
            (6, _) if is_name(name, b"cookie") => &mut self.cookies,
            (7, Some(b':')) if is_name(name, b":method") => &mut self.method,
            (7, _) if is_name(name, b"sec-gpc") => &mut self.gpc,
            (10, Some(b':')) if is_name(name, b":authority") => &mut self.authority,
            (10, _) if is_name(name, b"user-agent") => &mut self.user_agent,
            _ => return,
        };
        match place {
            None => *place = Some(value),
            Some(_) => self.has_more_cookies |= name.len() == 6,
        }
    }
}

impl<'a> RequestView<'a> {
    /// Reads what every request is asked for out of `headers`.
    pub fn new(headers: &'a HeaderMap, visitor: &'a Visitor) -> RequestView<'a> {
        RequestView::with(headers, visitor, NameLengths::default(), |_| ())
    }

    /// As [`RequestView::new`], and tells `also` of the names of the lengths `of_lengths`, all in one go.
    #[inline(always)]
    pub fn with(
        headers: &'a HeaderMap,
        visitor: &'a Visitor,
        of_lengths: NameLengths,
        mut also: impl FnMut(&'a [u8]),
    ) -> RequestView<'a> {
        let mut found = Asked::default();
        headers.each_with(ASKED_LENGTHS.or(of_lengths), |name, value| {
            if of_lengths.contains(name.len()) {
                also(name);
            }
            found.take(name, value);
        });
        let Asked { target, authority, host, method, user_agent, gpc, dnt, cookies, has_more_cookies } = found;
        let (target, authority) = (target.unwrap_or_default(), authority.or(host).unwrap_or_default());
        let (path, query) = url::path_and_query(target);
        RequestView {
            headers,
            target,
            path,
            query,
            method: method.unwrap_or_default(),
            authority,
            user_agent,
            gpc,
            dnt,
            cookies,
            has_more_cookies,
            id: None,
            aliases: &visitor.attributes,
            typed: None,
        }
    }

    /// Takes `target` for what the client sent: the request target without what the filter owns of it.
    pub fn retarget(&mut self, target: &'a [u8]) {
        self.target = target;
        (self.path, self.query) = url::path_and_query(target);
    }

    /// The value of the cookie `name`, as the client sent it.
    #[inline(always)]
    pub fn cookie(&self, name: &str) -> Option<&'a [u8]> {
        if self.has_more_cookies { cookie(self.headers, name) } else { cookie_in(self.cookies?, name) }
    }

    /// The value of the cookie `name` where both may be percent-encoded.
    pub fn encoded_cookie(&self, name: &str) -> Option<String> {
        cookies::encoded_cookie(self.headers, name)
    }

    /// Host without port, in lower case.
    pub fn host(&self) -> Cow<'a, [u8]> {
        url::host(self.authority)
    }

    /// The visitor's id as a text, once it is known.
    pub fn id_text(&self) -> Option<&'a str> {
        self.id.and_then(|id| std::str::from_utf8(id).ok())
    }

    /// What routes are compared with.
    pub fn line(&self) -> RequestLine<'a> {
        RequestLine { host: self.host(), path: self.path, method: self.method }
    }

    /// The whole URL. The proxy knows the scheme that the client used; where nobody says, it is https.
    fn url(&self) -> Option<String> {
        let scheme = self.headers.get(":scheme").or_else(|| self.headers.get("x-forwarded-proto")).unwrap_or(b"https");
        String::from_utf8([scheme, b"://", self.authority, self.target].concat()).ok()
    }
}

fn text(bytes: Option<&[u8]>) -> AttributeValue<'_> {
    match bytes.map(std::str::from_utf8) {
        Some(Ok(text)) => AttributeValue::Text(Cow::Borrowed(text)),
        // What is not UTF-8 is no text: it counts as absent.
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

impl Attributes for RequestView<'_> {
    fn attribute<'a>(&'a self, name: &'a AttributeName) -> AttributeValue<'a> {
        if let Some(typed) = self.typed
            && *name != AttributeName::Id
        {
            // What is given with a type is what is meant, whatever the request says.
            let found = match name {
                AttributeName::Named(name) => json_attribute(typed, name),
                other => typed.get(&*other.written()).map_or(AttributeValue::Missing, AttributeValue::Json),
            };
            if !matches!(found, AttributeValue::Missing) {
                return found;
            }
        }
        match name {
            AttributeName::Id => match (&self.id, self.typed.and_then(|typed| typed.get("id"))) {
                (Some(id), _) => text(Some(id)),
                (None, Some(id)) => AttributeValue::Json(id),
                (None, None) => AttributeValue::Missing,
            },
            AttributeName::Host => text_of(self.host()),
            AttributeName::Path => text(Some(self.path)),
            AttributeName::Url => self.url().map_or(AttributeValue::Missing, |url| AttributeValue::Text(url.into())),
            AttributeName::Method => text(Some(self.method)),
            AttributeName::Header(name) if name == "host" => {
                text(Some(self.authority).filter(|authority| !authority.is_empty()))
            }
            AttributeName::Header(name) => text(self.headers.get(name)),
            AttributeName::Cookie(name) => text(self.cookie(name)),
            AttributeName::Query(name) => {
                let value = self.query.and_then(|query| url::parameter(query, name));
                value.map_or(AttributeValue::Missing, text_of)
            }
            AttributeName::Named(name) => {
                let alias = self.aliases.iter().find(|(alias, _)| alias == name);
                // An alias stands for a place in the request, never for another alias, so this ends.
                alias.map_or(AttributeValue::Missing, |(_, source)| self.attribute(source))
            }
        }
    }
}

/// What the configuration allows to know of the visitor of `view`.
pub fn visit(view: &RequestView<'_>, visitor: &Visitor, path_included: bool, now_ms: i64) -> Visit<'static> {
    let (consent, bot) = (has_consent(view, visitor), is_bot(view, visitor));
    Visit { path_included, consent, bot, ..Visit::unrestricted(now_ms) }
}

/// The request target of `view` without the parameters that the filter owns, where there are any.
pub fn target_without_owned(view: &RequestView<'_>, request: &Request) -> Option<Vec<u8>> {
    let without = |target: &[u8], name: &str| {
        let has_it = url::path_and_query(target).1.is_some_and(|query| url::has_parameter(query, name));
        has_it.then(|| url::with_parameter(target, name, None))
    };
    let first = request.cache_key.query.as_deref().and_then(|name| without(view.target, name));
    let Some(preview) = &request.preview else { return first };
    without(first.as_deref().unwrap_or(view.target), &preview.parameter).or(first)
}

/// The token of a preview link in the request target as the client sent it, whether it is valid or not.
pub fn preview_token<'a>(view: &RequestView<'a>, request: &Request) -> Option<Cow<'a, [u8]>> {
    let preview = request.preview.as_ref()?;
    url::parameter(view.query?, &preview.parameter)
}

/// What a token says, or why it does not count; `None` where there are no preview links.
pub fn preview(token: &[u8], request: &Request, now_ms: i64) -> Option<Result<Preview, NotValid>> {
    Some(preview::check(request.preview.as_ref()?.secret.bytes(), token, now_ms))
}

/// The value of the cookie of sticky buckets, empty where there is none; `None`: there is no sticky bucketing.
pub fn sticky_value<'a>(view: &RequestView<'a>, request: &Request) -> Option<&'a [u8]> {
    Some(view.cookie(&request.sticky.as_ref()?.cookie).unwrap_or_default())
}

/// The `Set-Cookie`s that take away what the filter has set in the browser of `view`: of those that it has sent.
pub fn expired_cookies(view: &RequestView<'_>, visitor: &Visitor, request: &Request, format: FormatRef) -> Vec<String> {
    // A cookie of the minted id's name may be the site's own: it is ours if it looks like it.
    let mint = visitor.mint.as_ref().filter(|mint| minted_id(view, mint).is_some()).map(OwnCookie::expired);
    let sticky = request.sticky.iter().flat_map(|sticky| match format.sticky_cookie_prefix() {
        Some(prefix) => {
            let names = view.headers.all("cookie").flat_map(|header| header.split(|&byte| byte == b';'));
            let names = names.filter_map(|pair| pair.trim_ascii().split(|&byte| byte == b'=').next());
            let ours = names.filter(|name| name.starts_with(prefix.as_bytes()));
            let named = |name: &[u8]| Some(sticky.named(std::str::from_utf8(name).ok()?).expired());
            ours.take(EXPIRED_MAX).filter_map(named).collect()
        }
        None if view.cookie(&sticky.cookie).is_some() => vec![sticky.expired()],
        None => Vec::new(),
    });
    mint.into_iter().chain(sticky).collect()
}

/// Whether the user agent is a bot's, and bots take no part.
pub fn is_bot(view: &RequestView<'_>, visitor: &Visitor) -> bool {
    visitor.exclude_bots && view.user_agent.is_some_and(|name| visitor.bot_patterns.match_bot(name))
}

/// Whether the visitor may be told apart from others.
#[inline(always)]
pub fn has_consent(view: &RequestView<'_>, visitor: &Visitor) -> bool {
    let objects =
        |honored: bool, value: Option<&[u8]>| honored && value.is_some_and(|value| value.trim_ascii() == b"1");
    if objects(visitor.honor_gpc, view.gpc) || objects(visitor.honor_dnt, view.dnt) {
        return false;
    }
    visitor.consent.as_ref().is_none_or(|consent| {
        let given = view.cookie(&consent.cookie).unwrap_or_default();
        let wanted = consent.contains.as_bytes();
        wanted.is_empty() || given.windows(wanted.len()).any(|part| part == wanted)
    })
}

/// Whether the filter acts on `path` at all.
pub fn is_included(paths: &Paths, path: &[u8]) -> bool {
    paths.include.iter().any(|pattern| pattern.matches(path))
        && !paths.exclude.iter().any(|pattern| pattern.matches(path))
}

/// The visitor's id, in UTF-8: the first source that has one; then the minted one.
pub fn id<'a>(view: &RequestView<'a>, visitor: &Visitor) -> Option<Cow<'a, [u8]>> {
    let configured = visitor.id.iter().find_map(|source| match source {
        IdSource::JwtClaim { claim, token } => {
            let token = match token {
                TokenSource::Header(name) => view.headers.get(name),
                TokenSource::Cookie(name) => view.cookie(name),
            };
            let id = jwt::claim(token?, claim)?;
            as_id(id.as_bytes().trim_ascii()).map(|id| Cow::Owned(id.to_owned()))
        }
        plain => plain_id(view, plain).map(Cow::Borrowed),
    });
    configured.or_else(|| minted_id(view, visitor.mint.as_ref()?).map(Cow::Borrowed))
}

/// The id as [`id`] gives it, where no token is a source of ids.
#[inline(always)]
pub fn id_without_tokens<'a>(view: &RequestView<'a>, visitor: &Visitor) -> Option<&'a [u8]> {
    for source in &visitor.id {
        if let Some(id) = plain_id(view, source) {
            return Some(id);
        }
    }
    minted_id(view, visitor.mint.as_ref()?)
}

#[inline(always)]
fn plain_id<'a>(view: &RequestView<'a>, source: &IdSource) -> Option<&'a [u8]> {
    as_id(match source {
        IdSource::Cookie(name) => view.cookie(name)?,
        IdSource::Header(name) => view.headers.get(name)?.trim_ascii(),
        IdSource::JwtClaim { .. } => return None,
    })
}

/// The minted id that the client sent.
pub fn minted_id<'a>(view: &RequestView<'a>, mint: &OwnCookie) -> Option<&'a [u8]> {
    view.cookie(&mint.cookie).filter(|id| is_minted(id))
}

/// `bytes` if they can be an id: ASCII, as most are, or other UTF-8.
#[inline(always)]
fn as_id(bytes: &[u8]) -> Option<&[u8]> {
    let is_ascii = bytes.iter().fold(0, |all, byte| all | byte) < 0x80;
    (is_unit(bytes) && (is_ascii || std::str::from_utf8(bytes).is_ok())).then_some(bytes)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin_config::PluginConfig;
    use serde_json::json;

    fn visitor(block: Value) -> Visitor {
        PluginConfig::from_value(&json!({"experiments": {"cluster": "c"}, "visitor": block})).unwrap().visitor
    }

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        HeaderMap::from_pairs(pairs)
    }

    #[test]
    fn the_first_usable_id_wins() {
        let visitor = visitor(json!({"id": [{"header": "x-user-id"}, {"cookie": "uid"}], "mint": {"cookie": "ab"}}));
        let minted_id = minted(7);
        let long = "x".repeat(513);
        let minted_cookie = format!("ab={minted_id}");
        for (pairs, expected) in [
            (vec![("x-user-id", "u1"), ("cookie", "uid=u2")], Some("u1")),
            (vec![("x-user-id", ""), ("cookie", "uid=u2; uid=u3")], Some("u2")),
            (vec![("x-user-id", &long), ("cookie", "uid=u2")], Some("u2")),
            (vec![("cookie", &minted_cookie)], Some(minted_id.as_str())),
            (vec![("cookie", "ab=forged")], None),
            (vec![], None),
        ] {
            let expected = expected.map(str::as_bytes);
            assert_eq!(id(&RequestView::new(&headers(&pairs), &visitor), &visitor).as_deref(), expected, "{pairs:?}");
        }
        let not_text = HeaderMap::from_pairs(&[("x-user-id", b"\xff")]);
        assert_eq!(id(&RequestView::new(&not_text, &visitor), &visitor), None);
    }

    #[test]
    fn an_id_may_be_a_claim_of_a_token() {
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
            let expected = expected.map(str::as_bytes);
            assert_eq!(id(&RequestView::new(&headers(&pairs), &visitor), &visitor).as_deref(), expected, "{pairs:?}");
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
            assert_eq!(has_consent(&RequestView::new(&headers(&pairs), &asked), &asked), expected, "{pairs:?}");
        }
        let default = visitor(json!({}));
        assert!(
            has_consent(&RequestView::new(&headers(&[("dnt", "1")]), &default), &default),
            "dnt is honoured only where it is configured"
        );
        assert!(!has_consent(&RequestView::new(&headers(&[("sec-gpc", "1")]), &default), &default));
    }

    #[test]
    fn attributes_come_from_the_request() {
        let visitor = visitor(json!({"attributes": {"country": "header.x-country", "utm": "query.utm_source"}}));
        let map = headers(&[
            (":authority", "Shop.example:8443"),
            (":path", "/a?utm_source=mail%20x&b=2"),
            (":method", "GET"),
            (":scheme", "http"),
            ("x-country", "DE"),
            ("cookie", "plan=pro"),
        ]);
        let view = RequestView::new(&map, &visitor);
        for (name, expected) in [
            ("country", Some("DE")),
            ("utm", Some("mail x")),
            ("host", Some("shop.example")),
            ("path", Some("/a")),
            ("url", Some("http://Shop.example:8443/a?utm_source=mail%20x&b=2")),
            ("method", Some("GET")),
            ("cookie.plan", Some("pro")),
            ("header.x-other", None),
            ("query.b", Some("2")),
            ("id", None),
            ("unknown", None),
        ] {
            let name = AttributeName::parse(name);
            let value = match view.attribute(&name) {
                AttributeValue::Text(text) => Some(text.into_owned()),
                _ => None,
            };
            assert_eq!(value.as_deref(), expected, "{name:?}");
        }
    }
}
