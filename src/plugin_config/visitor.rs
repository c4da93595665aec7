//! Who the visitor is, what is known of them, and who takes no part.

use super::block::{self, Block};
use super::duration::{self, HOUR_MS, SECOND_MS};
use super::names;
use crate::engine::attribute::AttributeName;
use crate::problem::{Node, Problems};
use std::ops::RangeInclusive;

const COOKIE_AGE_BOUNDS_MS: RangeInclusive<u64> = SECOND_MS..=87_600 * HOUR_MS;

/// Who the visitor is, what is known of them, and who takes no part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Visitor {
    /// Where the id is looked for: the first that is present and not empty wins.
    pub id: Vec<IdSource>,
    /// How an id is made for a visitor who has none; `None`: not at all.
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
}

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
}

/// The cookie that carries a minted id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mint {
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
}

impl Default for Mint {
    fn default() -> Mint {
        Mint {
            cookie: "ab_visitor".to_owned(),
            max_age_s: 8760 * 3600,
            path: "/".to_owned(),
            domain: None,
            same_site: SameSite::Lax,
            secure: true,
        }
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

/// Consent, as a consent manager leaves it in a cookie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consent {
    /// The name of the cookie.
    pub cookie: String,
    /// The text that its value holds where consent is given; not empty.
    pub contains: String,
}

pub(super) fn read(node: Node<'_>, problems: &mut Problems) -> Option<Visitor> {
    let block = Block::open(node, &["id", "mint", "attributes", "consent", "honor", "bots"], problems)?;
    let defaults = Visitor::default();

    let id = block.or("id", defaults.id, problems, |node, problems| block::list(node, problems, read_id_source));
    let mint = block.nullable("mint", problems, read_mint);
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
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Signal {
    Gpc,
    Dnt,
}

fn read_id_source(node: Node<'_>, problems: &mut Problems) -> Option<IdSource> {
    let errors = problems.errors();
    let block = Block::open(node, &["header", "cookie"], problems)?;
    if block.has("header") == block.has("cookie") {
        // An unknown field has said so already.
        if problems.errors() == errors {
            node.expected(problems, r#"either {"header": NAME} or {"cookie": NAME}"#);
        }
        return None;
    }
    if block.has("header") {
        block.required("header", "", problems, names::header_name).map(IdSource::Header)
    } else {
        block.required("cookie", "", problems, names::cookie_name).map(IdSource::Cookie)
    }
}

fn read_mint(node: Node<'_>, problems: &mut Problems) -> Option<Mint> {
    let block = Block::open(node, &["cookie", "max_age", "path", "domain", "same_site", "secure"], problems)?;
    let defaults = Mint::default();

    let cookie = block.or("cookie", defaults.cookie, problems, names::cookie_name);
    let max_age_s = block.or("max_age", defaults.max_age_s, problems, |node, problems| {
        let ms = duration::read_ms(node, &COOKIE_AGE_BOUNDS_MS, problems)?;
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

    let mint = Mint {
        cookie: cookie?,
        max_age_s: max_age_s?,
        path: path?,
        domain: domain?,
        same_site: same_site?,
        secure: secure?,
    };
    refuse_what_browsers_drop(&mint, &block, problems);
    Some(mint)
}

/// Browsers drop such cookies without a word, and every page view would be a new visitor.
/// The prefixes are those of RFC 6265bis, section 4.1.3.
fn refuse_what_browsers_drop(mint: &Mint, block: &Block<'_>, problems: &mut Problems) {
    if mint.same_site == SameSite::None && !mint.secure {
        let message = "browsers drop a cookie with same_site none unless it is secure; expected secure: true";
        problems.error(&block.path().field("same_site"), message);
    }
    let cookie = mint.cookie.to_ascii_lowercase();
    let host_only = mint.secure && mint.domain.is_none() && mint.path == "/";
    if cookie.starts_with("__host-") && !host_only {
        let message = "browsers drop a cookie of the prefix __Host- unless it has secure: true, path: / and no domain";
        problems.error(&block.path().field("cookie"), message);
    }
    if cookie.starts_with("__secure-") && !mint.secure {
        let message = "browsers drop a cookie of the prefix __Secure- unless it has secure: true";
        problems.error(&block.path().field("cookie"), message);
    }
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
