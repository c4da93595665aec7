//! Identification of visitors, their attributes, and exclusion of visitors.

use super::names;
use super::own_cookie::{Cookie, InPlaceCookie, OwnCookie};
use crate::request_context::bots::{self, BotPatterns};
use crate::request_context::consent::has_value;
use edgesplit_engine::attribute::AttributeName;
use edgesplit_formats::document;
use edgesplit_formats::document::{Choice, Flag, List, Map, Nullable, Object, Parsed, Text, Then, strict};

/// Identification of visitors, their attributes, and exclusion of visitors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Visitor {
    /// The places of the id: the first that has a usable value wins.
    pub id: Vec<IdSource>,
    /// The cookie of an id that is made for a visitor without one; `None` if none is made.
    pub mint: Option<Mint>,
    /// Aliases and the attributes they stand for, in the order of the aliases. No alias hides a built-in attribute, and
    /// none stands for [`AttributeName::Named`].
    pub attributes: Vec<(String, AttributeName)>,
    /// The consent without which there is no id, no bucketing and no event; `None` if none is needed.
    pub consent: Option<Consent>,
    /// Whether `Sec-GPC: 1` counts as no consent.
    pub honor_gpc: bool,
    /// Whether `DNT: 1` counts as no consent.
    pub honor_dnt: bool,
    /// Whether bots, recognized by their user agent, are excluded.
    pub exclude_bots: bool,
    /// The patterns that identify a bot.
    pub bot_patterns: BotPatterns,
    /// Whether the filter's cookies are removed from the browser of a visitor who has not consented, or objects.
    pub expire_cookies: bool,
}

document! {
    /// Ids that are made for visitors who have none.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Mint {
        /// The cookie that keeps them. With `secure`, ids are made over https only.
        pub cookie: OwnCookie => InPlaceCookie(Cookie { cookie: "ab_visitor", max_age_s: 8760 * 3600 }),
        /// The requests that make an id: those of browsers that show a page, or any.
        pub on: MintOn = MintOn::Navigation => MINT_ON,
    }
}

/// The requests that make an id. `HEAD`, `OPTIONS` and prefetches never do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MintOn {
    /// `GET` requests of browsers that show a page.
    Navigation,
    /// Other requests too.
    Any,
}

const MINT_ON: Choice<MintOn> = Choice(|| vec![("navigation", MintOn::Navigation), ("any", MintOn::Any)]);

document! {
    /// The block `visitor` as it is written.
    pub(super) struct Block {
        /// The places of the id: the first that has a usable value applies.
        id: Vec<IdSource> = Vec::new() => List(ID_SOURCE),
        /// Makes an id for a visitor without one, kept in this cookie; null: no id is made.
        mint: Option<Mint> = None => Nullable(strict()),
        /// Names of attributes for conditions; they are also written into events.
        attributes: Vec<(String, AttributeName)> = Vec::new() => ATTRIBUTES,
        /// Without this text in this cookie: no id, no experiment, no event.
        consent: Option<Consent> = None => Nullable(strict()),
        /// Signals that count as no consent.
        honor: Vec<Signal> = vec![Signal::Gpc] => List(Choice(|| vec![("gpc", Signal::Gpc), ("dnt", Signal::Dnt)])),
        /// Whether user agents that name a bot take part.
        exclude_bots as "bots": bool = true => Choice(|| vec![("exclude", true), ("include", false)]),
        /// Parts of user agents that name a bot, in any case. The entry builtin stands for the filter's own list.
        bot_patterns: BotPatterns | null = BotPatterns::default() => BOT_PATTERNS,
        /// Whether cookies that the filter has set are removed without consent, or with an objection.
        expire_cookies: bool = true => Flag,
    }
}

impl Default for Visitor {
    fn default() -> Visitor {
        Visitor::from(Block::default())
    }
}

impl From<Block> for Visitor {
    fn from(block: Block) -> Visitor {
        let Block { id, mint, attributes, consent, honor, exclude_bots, bot_patterns, expire_cookies } = block;
        Visitor {
            id,
            mint,
            attributes,
            consent,
            honor_gpc: honor.contains(&Signal::Gpc),
            honor_dnt: honor.contains(&Signal::Dnt),
            exclude_bots,
            bot_patterns,
            expire_cookies,
        }
    }
}

/// How many places an id may have. Each is looked up in every request.
const ID_SOURCES_MAX: usize = 8;

/// The block `visitor`.
pub(super) const VISITOR: Then<Object<Block>, Visitor> = Then {
    kind: strict(),
    then: |block, node, problems| {
        if block.id.len() > ID_SOURCES_MAX {
            let message = format!("expected at most {ID_SOURCES_MAX} places, found {}", block.id.len());
            problems.error(&node.path.field("id"), message);
        }
        if let (Some(mint), Some(consent)) = (&block.mint, &block.consent)
            && mint.cookie.cookie == consent.cookie
        {
            let cookie = &mint.cookie.cookie;
            let message = format!("{cookie} is the cookie of visitor.consent, which a minted id would overwrite");
            problems.error(&node.path.field("mint").field("cookie"), message);
        }
        Some(Visitor::from(block))
    },
};

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Signal {
    Gpc,
    Dnt,
}

/// A place of the visitor's id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IdSource {
    /// A request header; the name is in lower case.
    Header(String),
    /// A cookie.
    Cookie(String),
    /// A claim of a JSON Web Token, which another filter has to verify.
    JwtClaim {
        /// The claim.
        claim: String,
        /// The place of the token.
        token: TokenSource,
    },
}

impl IdSource {
    /// The header that it reads.
    pub fn header(&self) -> Option<&String> {
        match self {
            IdSource::Header(name) | IdSource::JwtClaim { token: TokenSource::Header(name), .. } => Some(name),
            IdSource::Cookie(_) | IdSource::JwtClaim { token: TokenSource::Cookie(_), .. } => None,
        }
    }

    /// The cookie that it reads.
    pub fn cookie(&self) -> Option<&String> {
        match self {
            IdSource::Cookie(name) | IdSource::JwtClaim { token: TokenSource::Cookie(name), .. } => Some(name),
            IdSource::Header(_) | IdSource::JwtClaim { token: TokenSource::Header(_), .. } => None,
        }
    }
}

/// A place of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenSource {
    /// A request header, with or without `Bearer`; the name is in lower case.
    Header(String),
    /// A cookie.
    Cookie(String),
}

document! {
    /// Consent, as a consent manager leaves it in a cookie.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Consent {
        /// The cookie of the consent manager.
        pub cookie: String => names::COOKIE,
        /// The value that it contains if consent is given. Values are split at `,;|&` and the punctuation of JSON, and
        /// compared whole. A member of this name counts if its value is true.
        pub contains: String => Text::new(
            "the value that the cookie contains if consent is given",
            "^(?=.*[^ ,;|&{}\\[\\]:\"])[^;\\x00-\\x1f\\x7f-\\x9f]+$",
            |text| has_value(text) && !text.chars().any(|c| c.is_control() || c == ';'),
        ),
    }
}

document! {
    /// A place of the id as it is written.
    pub(super) struct IdSourceBlock {
        /// A request header.
        header: Option<String> = None => Nullable(names::HEADER),
        /// A cookie.
        cookie: Option<String> = None => Nullable(names::COOKIE),
        /// A claim of the token in this header or cookie, such as sub. Signatures are not checked here.
        jwt_claim: Option<String> = None => Nullable(Text::new(
            "the name of a claim, such as sub",
            "^[\\s\\S]+$",
            |text| !text.is_empty(),
        )),
    }
}

const ID_SOURCE: Then<Object<IdSourceBlock>, IdSource> = Then {
    kind: strict(),
    then: |block, node, problems| {
        let place = match (block.header, block.cookie) {
            (Some(name), None) => TokenSource::Header(name),
            (None, Some(name)) => TokenSource::Cookie(name),
            _ => {
                // An unknown field has been reported, and is the likely reason.
                let is_known = |name: &String| ["header", "cookie", "jwt_claim"].contains(&name.as_str());
                if node.value.as_object().is_some_and(|members| members.keys().all(is_known)) {
                    let expected =
                        r#"either {"header": NAME} or {"cookie": NAME}, with "jwt_claim" if it holds a token"#;
                    node.expected(problems, expected);
                }
                return None;
            }
        };
        Some(match (block.jwt_claim, place) {
            (Some(claim), token) => IdSource::JwtClaim { claim, token },
            (None, TokenSource::Header(name)) => IdSource::Header(name),
            (None, TokenSource::Cookie(name)) => IdSource::Cookie(name),
        })
    },
};

const BOT_PATTERNS: Then<List<Text>, BotPatterns> = Then {
    kind: List(Text::new(
        "a part of a user agent: 1 to 128 bytes of visible ASCII and spaces",
        "^(?=[ ]*[!-~])[ -~]{1,128}$",
        |text| {
            (1..=bots::PATTERN_BYTES_MAX).contains(&text.len())
                && text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ')
                && !text.trim().is_empty()
        },
    )),
    then: |texts, node, problems| {
        if texts.len() > bots::PATTERNS_MAX {
            let message = format!("expected at most {} patterns, found {}", bots::PATTERNS_MAX, texts.len());
            problems.error(node.path, message);
            return None;
        }
        Some(BotPatterns::new(texts.iter().map(String::as_str)))
    },
};

const ATTRIBUTES: Map<Parsed<AttributeName>> = Map {
    name: alias,
    pattern: "^(?!(id|host|path|url|method)$|(header|cookie|query)\\.)[\\s\\S]+$",
    refused: &[],
    value: Parsed {
        expected: "header.NAME, cookie.NAME, query.NAME, id, host, path, url or method",
        pattern: "^(id|host|path|url|method|(header|cookie)\\.[A-Za-z0-9!#$%&'*+.^_`|~-]+|query\\.[^&=#\\x00-\\x1f\\x7f-\\x9f]+)$",
        parse: attribute_source,
        write: |name| name.written().into_owned(),
    },
    members_max: usize::MAX,
};

fn alias(alias: &str) -> Result<String, String> {
    let has_prefix = ["header.", "cookie.", "query."].iter().any(|prefix| alias.starts_with(prefix));
    if alias.is_empty() {
        Err("an alias needs a name".to_owned())
    } else if has_prefix || !matches!(AttributeName::parse(alias), AttributeName::Named(_)) {
        Err(format!("{alias} is an attribute of its own and cannot be given another meaning"))
    } else {
        Ok(alias.to_owned())
    }
}

fn attribute_source(text: &str) -> Option<AttributeName> {
    let source = AttributeName::parse(text);
    let is_source = match &source {
        AttributeName::Id | AttributeName::Host | AttributeName::Path | AttributeName::Url | AttributeName::Method => {
            true
        }
        AttributeName::Header(name) | AttributeName::Cookie(name) => document::is_token(name),
        // Names are compared after percent-decoding: only characters that end a name are refused.
        AttributeName::Query(name) => !name.chars().any(|c| c.is_control() || "&=#".contains(c)),
        AttributeName::Named(_) | AttributeName::Exact(_) | AttributeName::Nested(_) => false,
    };
    is_source.then_some(source)
}
