//! Where the filter acts, and how it changes requests and responses.

use super::names;
use super::own_cookie::{Cookie, OwnCookie};
use crate::http::headers::folded;
use crate::http::owned_names::OwnedNames;
use edgesplit_engine::pattern::Pattern;
use edgesplit_formats::ASSIGNMENTS_BYTES_MAX;
use edgesplit_formats::diagnostics::{Node, Problems};
use edgesplit_formats::document;
use edgesplit_formats::document::schema::Members;
use edgesplit_formats::document::{
    Absent, Choice, Kind, List, MemberReader, Nullable, Object, Parsed, Text, Then, strict, whole,
};
use std::fmt;

/// The cookie of sticky bucketing. Its age, 90 days, counts from the last change.
const STICKY: Cookie = Cookie { cookie: "ab_sticky", max_age_s: 2160 * 3600 };

document! {
    /// The paths on which the filter acts: those that match an entry of `include` and none of `exclude`.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Paths {
        /// The filter acts on these paths. Empty: every path.
        pub include: Vec<Pattern> = vec![Pattern::new("/*")] => List(PATH_PATTERN),
        /// The filter does not act on these paths.
        pub exclude: Vec<Pattern> = Vec::new() => List(PATH_PATTERN),
    }
}

const PATH_PATTERN: Parsed<Pattern> = Parsed {
    expected: "a path pattern: it starts with / or * and has no query, fragment, space or control character",
    pattern: "^[/*][^?#\\s\\x00-\\x1f\\x7f-\\x9f]*$",
    parse: |text| {
        let is_odd = |c: char| c.is_control() || c.is_whitespace() || c == '?' || c == '#';
        (text.starts_with(['/', '*']) && !text.contains(is_odd)).then(|| Pattern::new(text))
    },
    write: Pattern::text,
};

/// The block `paths`. An empty `include` matches every path.
pub(super) const PATHS: Then<Object<Paths>, Paths> = Then {
    kind: strict(),
    then: |Paths { mut include, exclude }, _, _| {
        if include.is_empty() {
            include.push(Pattern::new("*"));
        }
        Some(Paths { include, exclude })
    },
};

document! {
    /// The information that caches and the origin get.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Request {
        /// The header that names the visitor's variants to the origin: `key=variant, …`, sorted by key.
        pub assignments_header: String = "x-ab-assignments".to_owned() => names::OWNED_HEADER,
        /// More headers that clients may not send, in any spelling: names, or the starts of names with a `*` at the end.
        /// They are removed even before the first config.
        pub owned_headers: Vec<String> = Vec::new() => List(names::OWNED_PATTERN),
        /// The longest assignments header that a request may have. An experiment that would make it longer is disabled.
        pub assignments_max_bytes: usize = ASSIGNMENTS_BYTES_MAX => whole(1, 65_536),
        /// Whether the length is configured: then it applies to vendors' flags too.
        pub is_assignments_limit_given: bool = false => IsGiven("assignments_max_bytes"),
        /// How caches distinguish variants.
        pub cache_key: CacheKey = CacheKey::default() => CACHE_KEY,
        /// The cookie that keeps visitors in their variants; null: visitors are bucketed anew with every request.
        pub sticky: Option<OwnCookie> = None => Nullable(STICKY),
        /// Links that show chosen variants until they expire.
        pub preview: Option<Preview> = None => Nullable(strict()),
    }
}

document! {
    /// Links that show chosen variants.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Preview {
        /// The query parameter that carries the token. The origin never receives it.
        pub parameter: String = PREVIEW_PARAMETER.to_owned() => names::OWNED_PARAMETER,
        /// The text that links are signed with. Use 32 random bytes.
        pub secret: Secret => SECRET,
    }
}

const SECRET: Then<Text, Secret> = Then {
    // The key of HMAC-SHA-256 has 64 bytes; longer texts are hashed first and gain nothing.
    kind: Text::secret("a text of 16 to 1024 bytes", "^[\\s\\S]{16,1024}$", |text| {
        (SECRET_BYTES_MIN..=1024).contains(&text.len())
    }),
    then: |secret, _, _| Some(Secret(secret)),
};

/// The default parameter of preview links.
pub const PREVIEW_PARAMETER: &str = "__ab_preview";

/// The shortest secret. Anyone who has a link can guess a shorter one by trying.
pub const SECRET_BYTES_MIN: usize = 16;

/// A text that is never shown; not empty.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl Request {
    /// The names of headers that clients cannot send, independent of the experiments.
    pub fn owned_names(&self) -> OwnedNames {
        let own = [&self.assignments_header].into_iter().chain(&self.cache_key.header);
        OwnedNames::new(own.chain(&self.owned_headers))
    }
}

document! {
    /// How caches distinguish variants: by a header, a query parameter, or both. At least one of the two is set.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct CacheKey {
        /// The header, for caches that can key on one; null only with `query`.
        pub header: Option<String> = Some("x-ab-cache-key".to_owned()) => Nullable(names::OWNED_HEADER),
        /// The query parameter, for caches that key on the URL.
        pub query: Option<String> = None => Nullable(names::OWNED_PARAMETER),
        /// How many different cache keys a route may have.
        pub budget: u64 = 64 => whole(1, 1_000_000),
        /// Whether the budget is configured: then it applies to vendors' flags too.
        pub is_budget_given: bool = false => IsGiven("budget"),
    }
}

const CACHE_KEY: Then<Object<CacheKey>, CacheKey> = Then {
    kind: strict(),
    then: |cache_key, node, problems| {
        if cache_key.header.is_none() && cache_key.query.is_none() {
            let message = "null is allowed only with a `query`: caches need one of the two to distinguish variants";
            problems.error(&node.path.field("header"), message);
        }
        Some(cache_key)
    },
};

/// Whether another member is there.
struct IsGiven(&'static str);

impl Kind for IsGiven {
    type Value = bool;

    fn expected(&self) -> String {
        String::new()
    }

    fn read(&self, _: Node<'_>, _: &mut Problems) -> Option<bool> {
        None // it is no member itself
    }

    fn member(&self, members: &mut MemberReader<'_>, _: &'static str, _: Absent<bool>) -> Option<bool> {
        Some(members.node.value.get(self.0).is_some())
    }

    fn schema(&self) -> serde_json::Value {
        serde_json::Value::Null
    }

    fn describe(&self, _: &'static str, _: &'static str, _: &Absent<bool>, _: &mut Members) {}
}

const DOWNSTREAM_CACHING: Choice<bool> = Choice(|| vec![("private", true), ("unchanged", false)]);

const VALIDATORS: Choice<bool> = Choice(|| vec![("unchanged", false), ("per_variant", true)]);

document! {
    /// Changes to responses.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Response {
        /// Whether responses on routes with an experiment are made private to the browser: then no shared cache in
        /// front of the proxy keeps one visitor's variant.
        pub downstream_private as "downstream_caching": bool = true => DOWNSTREAM_CACHING,
        /// Whether, on routes with an experiment, an `etag` names the variant that it belongs to, so that no browser
        /// keeps another variant's page after a 304.
        pub validators_per_variant as "validators": bool = false => VALIDATORS,
        /// The header that shows decisions and reasons, `key=variant;reason, …`, on requests with a valid preview
        /// link; needs `request.preview`.
        pub debug_header: Option<String> = None => Nullable(names::OWN_RESPONSE_HEADER),
    }
}

/// The block `request`.
pub(super) const REQUEST: Then<Object<Request>, Request> = Then {
    kind: strict(),
    then: |request, node, problems| {
        let CacheKey { header, query, .. } = &request.cache_key;
        let assignments = folded(request.assignments_header.as_bytes());
        if let Some(header) = header.as_ref().filter(|header| folded(header.as_bytes()) == assignments) {
            let message = format!("{header} is the assignments_header too; expected two different names");
            problems.error(&node.path.field("cache_key").field("header"), message);
        }
        let parameter = request.preview.as_ref().map(|preview| &preview.parameter);
        if let Some(query) = query.as_ref().filter(|query| Some(*query) == parameter) {
            let message = format!("{query} is the cache key's parameter too; expected two different names");
            problems.error(&node.path.field("preview").field("parameter"), message);
        }
        Some(request)
    },
};
