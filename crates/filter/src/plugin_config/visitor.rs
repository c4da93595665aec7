//! Who the visitor is, what is known of them, and who takes no part.

use super::block::{self, Block};
use super::names;
use super::own_cookie::{self, OwnCookie};
use crate::visit::bots::{self, BotPatterns};
use edgesplit_engine::attribute::AttributeName;
use edgesplit_formats::diagnostics::{Node, Problems};

/// How long a minted id is kept: a year.
const MINT_AGE_S: u64 = 8760 * 3600;

/// Who the visitor is, what is known of them, and who takes no part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Visitor {
    /// Where the id is looked for: the first that is present and not empty wins.
    pub id: Vec<IdSource>,
    /// The cookie of an id that is made for a visitor who has none; `None`: no id is made.
    pub mint: Option<Mint>,
    /// Aliases and the attributes they stand for, in the order of the aliases. No alias hides a built-in attribute, and
    /// none stands for [`AttributeName::Named`].
    pub attributes: Vec<(String, AttributeName)>,
    /// The consent without which there is no id, no bucketing and no event; `None`: none is asked for.
    pub consent: Option<Consent>,
    /// Whether `Sec-GPC: 1` counts as no consent.
    pub honor_gpc: bool,
    /// Whether `DNT: 1` counts as no consent.
    pub honor_dnt: bool,
    /// Whether bots, told by their user agent, are left out.
    pub exclude_bots: bool,
    /// What tells a bot.
    pub bot_patterns: BotPatterns,
    /// Whether cookies that the filter has set are taken away from a visitor who has not consented, or objects.
    pub expire_cookies: bool,
}

/// The cookie of a minted id.
pub type Mint = OwnCookie;

impl Default for Visitor {
    fn default() -> Visitor {
        Visitor {
            id: Vec::new(),
            mint: None,
            attributes: Vec::new(),
            consent: None,
            honor_gpc: true,
            honor_dnt: false,
            exclude_bots: true,
            bot_patterns: BotPatterns::default(),
            expire_cookies: true,
        }
    }
}

/// A place where the visitor's id may stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IdSource {
    /// A request header; the name is in lower case.
    Header(String),
    /// A cookie.
    Cookie(String),
    /// A claim of a JSON Web Token that has been verified before.
    JwtClaim {
        /// The claim.
        claim: String,
        /// Where the token stands.
        token: TokenSource,
    },
}

/// A place where a token may stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenSource {
    /// A request header, with or without `Bearer`; the name is in lower case.
    Header(String),
    /// A cookie.
    Cookie(String),
}

/// Consent, as a consent manager leaves it in a cookie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consent {
    /// The name of the cookie.
    pub cookie: String,
    /// The text that its value holds where consent is given; not empty.
    pub contains: String,
}

/// The cookie of a minted id where its block says nothing more.
pub(super) fn mint() -> Mint {
    OwnCookie::new("ab_visitor", MINT_AGE_S)
}

pub(super) fn read(node: Node<'_>, problems: &mut Problems) -> Option<Visitor> {
    let known = ["id", "mint", "attributes", "consent", "honor", "bots", "bot_patterns", "expire_cookies"];
    let block = Block::open(node, &known, problems)?;
    let defaults = Visitor::default();

    let id = block.or("id", defaults.id, problems, |node, problems| block::list(node, problems, read_id_source));
    let mint = block.nullable("mint", problems, |node, problems| own_cookie::read(node, mint(), problems));
    let attributes = block
        .or("attributes", defaults.attributes, problems, |node, problems| block::map(node, problems, read_attribute));
    let consent = block.nullable("consent", problems, read_consent);
    let honor = block.or("honor", (defaults.honor_gpc, defaults.honor_dnt), problems, |node, problems| {
        let signals = block::list(node, problems, |node, problems| {
            block::choice(node, &[("gpc", Signal::Gpc), ("dnt", Signal::Dnt)], problems)
        })?;
        Some((signals.contains(&Signal::Gpc), signals.contains(&Signal::Dnt)))
    });
    let exclude_bots = block.or("bots", defaults.exclude_bots, problems, |node, problems| {
        block::choice(node, &[("exclude", true), ("include", false)], problems)
    });
    let bot_patterns = block.nullable("bot_patterns", problems, read_bot_patterns);
    let expire_cookies =
        block.or("expire_cookies", defaults.expire_cookies, problems, |node, problems| node.boolean(problems));

    if let (Some(Some(mint)), Some(Some(consent))) = (&mint, &consent)
        && mint.cookie == consent.cookie
    {
        let message = format!("{} is the cookie of visitor.consent, which a minted id would overwrite", mint.cookie);
        problems.error(&block.path().field("mint").field("cookie"), message);
    }
    let (honor_gpc, honor_dnt) = honor?;
    Some(Visitor {
        id: id?,
        mint: mint?,
        attributes: attributes?,
        consent: consent?,
        honor_gpc,
        honor_dnt,
        exclude_bots: exclude_bots?,
        bot_patterns: bot_patterns?.unwrap_or(defaults.bot_patterns),
        expire_cookies: expire_cookies?,
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Signal {
    Gpc,
    Dnt,
}

fn read_id_source(node: Node<'_>, problems: &mut Problems) -> Option<IdSource> {
    let errors = problems.errors();
    let block = Block::open(node, &["header", "cookie", "jwt_claim"], problems)?;
    if block.has("header") == block.has("cookie") {
        // An unknown field has said so already.
        if problems.errors() == errors {
            node.expected(
                problems,
                r#"either {"header": NAME} or {"cookie": NAME}, and "jwt_claim" where a token is there"#,
            );
        }
        return None;
    }
    let place = if block.has("header") {
        block.required("header", "", problems, names::header_name).map(TokenSource::Header)
    } else {
        block.required("cookie", "", problems, names::cookie_name).map(TokenSource::Cookie)
    };
    if block.has("jwt_claim") {
        let claim = block.required("jwt_claim", "", problems, |node, problems| {
            names::text(node, "the name of a claim, such as sub", problems, |text| !text.is_empty())
        });
        return Some(IdSource::JwtClaim { claim: claim?, token: place? });
    }
    Some(match place? {
        TokenSource::Header(name) => IdSource::Header(name),
        TokenSource::Cookie(name) => IdSource::Cookie(name),
    })
}

fn read_bot_patterns(node: Node<'_>, problems: &mut Problems) -> Option<BotPatterns> {
    let texts = block::list(node, problems, |node, problems| {
        let expected =
            format!("a part of a user agent: 1 to {} bytes of visible ASCII and spaces", bots::PATTERN_BYTES_MAX);
        names::text(node, &expected, problems, |text| {
            (1..=bots::PATTERN_BYTES_MAX).contains(&text.len())
                && text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ')
                && !text.trim().is_empty()
        })
    })?;
    if texts.len() > bots::PATTERNS_MAX {
        problems.error(node.path, format!("expected at most {} patterns, found {}", bots::PATTERNS_MAX, texts.len()));
        return None;
    }
    Some(BotPatterns::new(texts.iter().map(String::as_str)))
}

fn read_attribute(alias: &str, node: Node<'_>, problems: &mut Problems) -> Option<(String, AttributeName)> {
    let source_prefix = ["header.", "cookie.", "query."].iter().any(|prefix| alias.starts_with(prefix));
    let plain_alias = !source_prefix && matches!(AttributeName::parse(alias), AttributeName::Named(_));
    if alias.is_empty() {
        problems.error(node.path, "an alias needs a name");
    } else if !plain_alias {
        let message = format!("{alias} is an attribute of its own and cannot be given another meaning");
        problems.error(node.path, message);
    }

    let source = AttributeName::parse(node.string(problems)?);
    let good = match &source {
        AttributeName::Id | AttributeName::Host | AttributeName::Path | AttributeName::Url | AttributeName::Method => {
            true
        }
        AttributeName::Header(name) | AttributeName::Cookie(name) => names::is_token(name),
        // Names are compared after percent-decoding, so only what ends a name or cannot be meant is refused.
        AttributeName::Query(name) => !name.chars().any(|c| c.is_control() || "&=#".contains(c)),
        AttributeName::Named(_) => false,
    };
    if !good {
        node.expected(problems, "header.NAME, cookie.NAME, query.NAME, id, host, path, url or method");
        return None;
    }
    (plain_alias && !alias.is_empty()).then(|| (alias.to_owned(), source))
}

fn read_consent(node: Node<'_>, problems: &mut Problems) -> Option<Consent> {
    let block = Block::open(node, &["cookie", "contains"], problems)?;
    let cookie = block.required("cookie", "the name of a cookie", problems, names::cookie_name);
    let expected = "the text that the cookie holds where consent is given";
    let contains = block.required("contains", expected, problems, |node, problems| {
        names::text(node, expected, problems, |text| {
            !text.is_empty() && !text.chars().any(|c| c.is_control() || c == ';')
        })
    });
    Some(Consent { cookie: cookie?, contains: contains? })
}
