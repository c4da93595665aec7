//! The JSON Schema of the plugin configuration: what the parser takes, as far as a schema can say. Bounds and defaults are
//! the parser's own. What a schema cannot say: how long a duration is, and how most fields go together.

use super::duration::show_ms;
use super::own_cookie::{self, OwnCookie};
use super::{
    Batch, CacheKey, Dedupe, OutboxLimits, PREVIEW_PARAMETER, Request, Retry, events, experiments, names, request,
};
use crate::visit::bots;
use edgesplit_formats::FormatRef;
use edgesplit_formats::native::schema as native;
use edgesplit_formats::schema::{
    TOKEN, boolean, choice, document, header_name, integer, list, map, nullable, object, or, text, with,
};
use serde_json::{Value, json};
use std::ops::RangeInclusive;

/// A whole path pattern, without query.
const PATH_PATTERN: &str = "^[/*][^?#\\s\\x00-\\x1f\\x7f-\\x9f]*$";
/// The name of a parameter that needs no percent-encoding.
const PARAMETER: &str = "^[A-Za-z0-9_.~-]+$";

/// The schema of a whole configuration.
pub fn schema() -> Value {
    let says = "The configuration of one Edgesplit plugin: JSON in the `configuration` of Envoy's wasm filter. Durations are texts \
                such as 250ms, 10s, 5m or 1h. Only `experiments` must be there.";
    let root = object(
        says,
        &["experiments"],
        &[
            ("experiments", experiments()),
            ("visitor", visitor()),
            ("paths", paths()),
            ("request", request()),
            ("response", response()),
            ("events", nullable(events())),
        ],
    );
    let debug_header = json!({
        "if": {
            "properties": {"response": {"type": "object", "properties": {"debug_header": {"type": "string"}}, "required": ["debug_header"]}},
            "required": ["response"],
        },
        "then": {
            "properties": {"request": {"properties": {"preview": {"type": "object"}}, "required": ["preview"]}},
            "required": ["request"],
        },
    });
    let needs_own_config = |format: FormatRef| format.event_wire().is_some_and(|wire| wire.needs_own_config());
    let own_config = format_names(needs_own_config).into_iter().map(|name| {
        let is_format = json!({"properties": {"format": {"enum": [name]}}, "required": ["format"]});
        json!({
            "if": {"properties": {"events": with(json!({"type": "object"}), is_format.clone())}, "required": ["events"]},
            "then": {"properties": {"experiments": is_format}},
        })
    });
    let together = json!({"allOf": std::iter::once(debug_header).chain(own_config).collect::<Vec<_>>()});
    document("Edgesplit plugin configuration", with(root, together), json!({"goal": native::goal()}))
}

/// A duration, of which the bounds can only be told.
fn duration(says: &str, bounds_ms: &RangeInclusive<u64>, default_ms: u64) -> Value {
    let says = format!("{says} From {} to {}.", show_ms(*bounds_ms.start()), show_ms(*bounds_ms.end()));
    or(text(&says, "^[0-9]+(\\.[0-9]+)?(ms|s|m|h)$"), show_ms(default_ms))
}

/// The members of an endpoint.
fn endpoint() -> [(&'static str, Value); 4] {
    // What belongs to the connection, or is said elsewhere.
    let refused = [
        "host",
        "content-length",
        "transfer-encoding",
        "connection",
        "keep-alive",
        "proxy-connection",
        "te",
        "upgrade",
    ];
    [
        (
            "cluster",
            text("The service, by the name of its cluster in Envoy's configuration.", "^[^\\x00-\\x1f\\x7f-\\x9f]+$"),
        ),
        (
            "authority",
            text(
                "The host of requests, with or without a port; if left out, that of the cluster's name.",
                "^[!\"$-.0->@-\\[\\]-~]+$",
            ),
        ),
        ("path", or(text("The path of requests, with or without a query.", "^/[!\"$-~]*$"), "/")),
        (
            "headers",
            or(
                map(
                    "More headers of requests, such as authorization.",
                    header_name(&refused),
                    json!({"type": "string", "pattern": "^[\\t -~]*$"}),
                ),
                json!({}),
            ),
        ),
    ]
}

fn experiments() -> Value {
    let [cluster, authority, path, headers] = endpoint();
    let keys = "Which flags, by their keys; * stands for any run of characters. Empty names all.";
    let [hosts, paths, methods] = native::route_fields();
    let route = object(
        "Restricts flags to requests, and names their baseline.",
        &[],
        &[
            ("keys", or(list(keys, json!({"type": "string", "minLength": 1})), json!([]))),
            hosts,
            paths,
            methods,
            ("baseline", nullable(native::key("The key of the variant that visitors see who are in no experiment."))),
        ],
    );
    let inline = json!({
        "type": ["object", "null"], "default": null,
        "description": "Experiments that are in force until the first good fetch, or for ever without `cluster`: a document in the format.",
    });
    let routes = "For vendors' formats, which know no routes: the first entry that names a flag counts.";
    let goals = "For vendors' formats: successes to count.";
    let key = json!({
        "type": "string", "minLength": 1,
        "description": "What GrowthBook's encrypted payloads are decrypted with: 16 bytes in base64.",
    });
    let block = object(
        "Where experiments come from: a `cluster` to fetch from, an `inline` document, or both.",
        &[],
        &[
            ("format", or(choice("The format of the experiments.", &format_names(|_| true)), "native")),
            cluster,
            authority,
            path,
            headers,
            (
                "refresh",
                duration(
                    "From one fetch to the next, before jitter.",
                    &experiments::REFRESH_BOUNDS_MS,
                    experiments::REFRESH_MS,
                ),
            ),
            (
                "timeout",
                duration("How long a fetch may take.", &experiments::TIMEOUT_BOUNDS_MS, experiments::TIMEOUT_MS),
            ),
            (
                "max_bytes",
                or(integer("A larger body is refused.", &experiments::BODY_BOUNDS_BYTES), experiments::BODY_BYTES),
            ),
            ("inline", inline),
            ("decryption_key", nullable(key)),
            ("routes", or(list(routes, route), json!([]))),
            ("goals", or(list(goals, json!({"$ref": "#/definitions/goal"})), json!([]))),
        ],
    );
    let needs = |format: &[&str]| json!({"properties": {"format": {"enum": format}}, "required": ["format"]});
    let has = |name: &str, schema: Value| json!({"properties": {name: schema}, "required": [name]});
    with(
        block,
        json!({
            "anyOf": [{"required": ["cluster"]}, has("inline", json!({"type": "object"}))],
            "dependencies": {"authority": ["cluster"], "path": ["cluster"], "headers": ["cluster"]},
            "allOf": [
                {"if": has("routes", json!({"type": "array", "minItems": 1})), "then": needs(&format_names(|format| !format.has_routes()))},
                {"if": has("goals", json!({"type": "array", "minItems": 1})), "then": needs(&format_names(|format| !format.has_routes()))},
                {"if": has("decryption_key", json!({"type": "string"})), "then": needs(&format_names(|format| format.has_encryption()))},
            ],
        }),
    )
}

/// The names of the experiment formats that `includes` selects.
fn format_names(includes: impl Fn(FormatRef) -> bool) -> Vec<&'static str> {
    edgesplit_formats::formats().filter(|format| includes(*format)).map(|format| format.name()).collect()
}

fn visitor() -> Value {
    let token = |says| text(says, TOKEN);
    let source = with(
        object(
            "A header or a cookie; with `jwt_claim`, a claim of the token that stands there.",
            &[],
            &[
                ("header", token("A request header.")),
                ("cookie", token("A cookie.")),
                (
                    "jwt_claim",
                    json!({"type": "string", "minLength": 1, "description": "The claim, such as sub. Signatures are not checked here."}),
                ),
            ],
        ),
        json!({"oneOf": [{"required": ["header"]}, {"required": ["cookie"]}]}),
    );
    let own_attributes = json!({"not": {"anyOf": [
        {"enum": ["", "id", "host", "path", "url", "method"]}, {"pattern": "^(header|cookie|query)\\."},
    ]}});
    let token_characters = TOKEN.trim_matches(['^', '$']);
    let attribute = format!(
        "^(id|host|path|url|method|(header|cookie)\\.{token_characters}|query\\.[^&=#\\x00-\\x1f\\x7f-\\x9f]+)$"
    );
    let consent = object(
        "Without this text in this cookie: no id, no experiment, no event.",
        &["cookie", "contains"],
        &[
            ("cookie", token("The cookie of the consent manager.")),
            ("contains", text("What its value holds where consent is given.", "^[^;\\x00-\\x1f\\x7f-\\x9f]+$")),
        ],
    );
    let pattern = json!({"type": "string", "pattern": "^[ -~]*[!-~][ -~]*$", "maxLength": bots::PATTERN_BYTES_MAX});
    let patterns = "Parts of user agents that name a bot, in any case; the entry builtin stands for the list that comes with the filter.";
    let honor = list("Signals that count as no consent.", json!({"type": "string", "enum": ["gpc", "dnt"]}));
    object(
        "Who the visitor is, what is known of them, and who takes no part.",
        &[],
        &[
            ("id", or(list("Where the id stands: the first that has a usable value wins.", source), json!([]))),
            (
                "mint",
                nullable(own_cookie(
                    "Makes an id for a visitor without one, kept in this cookie.",
                    &super::visitor::mint(),
                )),
            ),
            (
                "attributes",
                or(
                    map(
                        "Names for conditions; they are also written into events.",
                        own_attributes,
                        text("header.NAME, cookie.NAME, query.NAME, id, host, path, url or method.", &attribute),
                    ),
                    json!({}),
                ),
            ),
            ("consent", nullable(consent)),
            ("honor", or(honor, json!(["gpc"]))),
            ("bots", or(choice("Whether user agents that name a bot take part.", &["exclude", "include"]), "exclude")),
            ("bot_patterns", nullable(with(list(patterns, pattern), json!({"maxItems": bots::PATTERNS_MAX})))),
            (
                "expire_cookies",
                boolean(
                    "Whether cookies that the filter has set are taken away without consent, or with an objection.",
                    true,
                ),
            ),
        ],
    )
}

/// A cookie that the filter sets.
fn own_cookie(says: &str, default: &OwnCookie) -> Value {
    let age = "How long browsers keep it, in whole seconds.";
    let label = "[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?";
    let cookie = object(
        says,
        &[],
        &[
            ("cookie", or(text("Its name.", TOKEN), default.cookie.as_str())),
            ("max_age", duration(age, &own_cookie::AGE_BOUNDS_MS, default.max_age_s * 1_000)),
            ("path", or(text("The paths that it is for.", "^/[!-:<-~]*$"), default.path.as_str())),
            (
                "domain",
                nullable(text(
                    "The host that it is for, and those below it; null: the host that answers.",
                    &format!("^\\.?{label}(\\.{label})*$"),
                )),
            ),
            ("same_site", or(choice("Its SameSite; none only with secure.", &["strict", "lax", "none"]), "lax")),
            ("secure", boolean("Whether it is sent over TLS alone.", default.secure)),
            ("http_only", boolean("Whether it is kept from the page's scripts.", default.http_only)),
        ],
    );
    let crossing = json!({
        "if": {"properties": {"same_site": {"enum": ["none"]}}, "required": ["same_site"]},
        "then": {"properties": {"secure": {"enum": [true]}}},
    });
    with(cookie, crossing)
}

fn paths() -> Value {
    let list = |says| list(says, text("A path, or a pattern with * for any run of characters.", PATH_PATTERN));
    object(
        "Where the filter acts at all.",
        &[],
        &[
            ("include", or(list("On these paths; empty asks nothing."), json!(["/*"]))),
            ("exclude", or(list("But not on these."), json!([]))),
        ],
    )
}

/// The name of a header, of which these cannot be taken.
fn header(says: &str, taken: &[&str]) -> Value {
    with(header_name(taken), json!({"description": says}))
}

fn request() -> Value {
    let Request { assignments_header, cache_key: CacheKey { header: key_header, budget, .. }, .. } = Request::default();
    let cache_key = with(
        object(
            "How caches tell variants apart.",
            &[],
            &[
                (
                    "header",
                    or(
                        nullable(header("The header of the cache key; null only with `query`.", &names::NOT_OWNABLE)),
                        key_header,
                    ),
                ),
                ("query", nullable(text("A parameter of the URL, for caches that key on that.", PARAMETER))),
                (
                    "budget",
                    or(
                        integer("How many different cache keys one request could have.", &request::BUDGET_BOUNDS),
                        budget,
                    ),
                ),
            ],
        ),
        json!({
            "if": {"properties": {"header": {"type": "null"}}, "required": ["header"]},
            "then": {"properties": {"query": {"type": "string"}}, "required": ["query"]},
        }),
    );
    let preview = object(
        "Links that show chosen variants until they expire.",
        &["secret"],
        &[
            (
                "parameter",
                or(text("The parameter of the URL; the origin never sees it.", PARAMETER), PREVIEW_PARAMETER),
            ),
            (
                "secret",
                json!({"type": "string", "description": "What links are signed with: take 32 random bytes.",
                       "minLength": 1, "maxLength": request::SECRET_BYTES_MAX}),
            ),
        ],
    );
    object(
        "What is told to the caches and to the origin.",
        &[],
        &[
            (
                "assignments_header",
                or(header("key=variant, … for the origin, sorted by key.", &names::NOT_OWNABLE), assignments_header),
            ),
            ("cache_key", cache_key),
            ("sticky", nullable(own_cookie("The cookie that keeps visitors in their variants.", &request::sticky()))),
            ("preview", nullable(preview)),
        ],
    )
}

fn response() -> Value {
    let taken = [&names::NOT_OWNABLE[..], &names::RESPONSE_NAMES_TAKEN[..]].concat();
    object(
        "What is done to responses.",
        &[],
        &[
            (
                "downstream_caching",
                or(
                    choice(
                        "Whether shared caches behind the filter may keep pages with experiments.",
                        &["private", "unchanged"],
                    ),
                    "private",
                ),
            ),
            (
                "debug_header",
                nullable(header(
                    "key=variant;reason, … of requests with a valid preview link; needs request.preview.",
                    &taken,
                )),
            ),
        ],
    )
}

fn events() -> Value {
    let formats: Vec<&str> = events::EventFormat::all().iter().map(|(name, _)| *name).collect();
    let (batch, dedupe, outbox, retry) =
        (Batch::default(), Dedupe::default(), OutboxLimits::default(), Retry::default());
    let backoff = &events::BACKOFF_BOUNDS_MS;
    let [cluster, authority, path, headers] = endpoint();
    let fallback = "Where a batch goes, once, that would be dropped for want of room or for its age.";
    let size = |says, bounds: &RangeInclusive<u32>, default: usize| or(integer(says, bounds), default);
    object(
        "Where exposures and goals go. Without it there are none.",
        &["cluster"],
        &[
            ("format", or(choice("The body of a batch.", &formats), "native")),
            cluster,
            authority,
            path,
            headers,
            (
                "timeout",
                duration(
                    "How long a delivery may take; shorter than retry.lease.",
                    &events::TIMEOUT_BOUNDS_MS,
                    events::TIMEOUT_MS,
                ),
            ),
            (
                "batch",
                object(
                    "When a worker's buffer becomes a batch: at the first of these.",
                    &[],
                    &[
                        ("max_events", size("Events in it.", &events::BATCH_BOUNDS_EVENTS, batch.max_events)),
                        (
                            "max_bytes",
                            size(
                                "Its size; not more than outbox.max_bytes.",
                                &events::BATCH_BOUNDS_BYTES,
                                batch.max_bytes,
                            ),
                        ),
                        ("max_age", duration("Since its first event.", &events::BATCH_AGE_BOUNDS_MS, batch.max_age_ms)),
                    ],
                ),
            ),
            (
                "dedupe",
                object(
                    "For how long an exposure counts as seen.",
                    &[],
                    &[
                        (
                            "window",
                            duration(
                                "A worker reports an exposure once a window.",
                                &events::DEDUPE_WINDOW_BOUNDS_MS,
                                dedupe.window_ms,
                            ),
                        ),
                        (
                            "max_entries",
                            size("How many a worker remembers.", &events::DEDUPE_BOUNDS_ENTRIES, dedupe.max_entries),
                        ),
                    ],
                ),
            ),
            (
                "outbox",
                object(
                    "What all workers of the process together keep while the service is away.",
                    &[],
                    &[
                        ("max_bytes", size("Bytes of all batches.", &events::OUTBOX_BOUNDS_BYTES, outbox.max_bytes)),
                        ("max_batches", size("Batches.", &events::OUTBOX_BOUNDS_BATCHES, outbox.max_batches)),
                        (
                            "max_age",
                            duration("How long a batch may wait.", &events::OUTBOX_AGE_BOUNDS_MS, outbox.max_age_ms),
                        ),
                        (
                            "on_full",
                            or(
                                choice("What goes when there is no room.", &["drop_oldest", "drop_newest"]),
                                "drop_oldest",
                            ),
                        ),
                    ],
                ),
            ),
            (
                "retry",
                object(
                    "When a delivery is tried again.",
                    &[],
                    &[
                        ("backoff_min", duration("The shortest wait after a failure.", backoff, retry.backoff_min_ms)),
                        ("backoff_max", duration("The longest.", backoff, retry.backoff_max_ms)),
                        (
                            "lease",
                            duration(
                                "When another worker may take over a batch.",
                                &events::LEASE_BOUNDS_MS,
                                retry.lease_ms,
                            ),
                        ),
                    ],
                ),
            ),
            ("fallback", nullable(object(fallback, &["cluster"], &endpoint()))),
        ],
    )
}
