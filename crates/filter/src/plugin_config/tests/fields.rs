//! Every field of a configuration, and its default.

use super::super::*;
use super::accepted;
use crate::request_context::bots::BotPatterns;
use edgesplit_engine::pattern::Pattern;
use serde_json::json;

fn source(cluster: &str) -> Endpoint {
    let (path, scheme, headers) = ("/".to_owned(), Scheme::Http, Vec::new());
    Endpoint { cluster: cluster.to_owned(), authority: cluster.to_owned(), path, scheme, headers }
}

fn experiments() -> Experiments {
    let format = edgesplit_formats::NATIVE;
    Experiments {
        format,
        source: None,
        inline: None,
        decryption_key: None,
        generation: 2,
        routes: vec![],
        goals: vec![],
    }
}

#[test]
fn cluster_alone_gets_the_defaults() {
    let config = accepted(&json!({"$schema": "./plugin.schema.json", "experiments": {"cluster": "experiments"}}));
    let expected = PluginConfig {
        experiments: Experiments {
            source: Some(Source {
                endpoint: source("experiments"),
                refresh_ms: 10_000,
                timeout_ms: 2_000,
                max_bytes: 4_194_304,
                monotonic: false,
            }),
            ..experiments()
        },
        visitor: Visitor {
            id: vec![],
            mint: None,
            attributes: vec![],
            consent: None,
            honor_gpc: true,
            honor_dnt: false,
            exclude_bots: true,
            bot_patterns: BotPatterns::default(),
            expire_cookies: true,
        },
        paths: Paths { include: vec![Pattern::new("/*")], exclude: vec![] },
        request: Request {
            assignments_header: "x-ab-assignments".to_owned(),
            owned_headers: vec![],
            assignments_max_bytes: 4096,
            is_assignments_limit_given: false,
            cache_key: CacheKey {
                header: Some("x-ab-cache-key".to_owned()),
                query: None,
                budget: 64,
                is_budget_given: false,
            },
            sticky: None,
            preview: None,
        },
        effects: None,
        response: Response { downstream_private: true, validators_per_variant: false, debug_header: None },
        events: None,
        editor: (),
    };
    assert_eq!(config, expected);

    let all_empty = json!({
        "experiments": {"cluster": "experiments", "headers": {}, "routes": [], "inline": null},
        "visitor": {"mint": null, "consent": null, "bot_patterns": null}, "paths": {}, "response": {"debug_header": null}, "events": null,
        "effects": null, "request": {"cache_key": {"query": null}, "sticky": null, "preview": null},
    });
    assert_eq!(accepted(&all_empty), expected);
}

#[test]
fn blocks_have_defaults() {
    let config = accepted(&json!({
        "experiments": {"inline": {"experiments": []}}, "visitor": {"mint": {}}, "events": {"cluster": "collector"},
    }));
    assert_eq!(config.experiments, Experiments { inline: Some(json!({"experiments": []})), ..experiments() });
    let cookie = OwnCookie {
        cookie: "ab_visitor".to_owned(),
        max_age_s: 31_536_000,
        path: "/".to_owned(),
        domain: None,
        same_site: SameSite::Lax,
        secure: true,
        http_only: false,
        partitioned: false,
    };
    assert_eq!(config.visitor.mint, Some(Mint { cookie: cookie.clone(), on: MintOn::Navigation }));
    let config_with = accepted(&json!({
        "experiments": {"inline": {}}, "request": {"sticky": {}, "preview": {"secret": "0123456789abcdef"}}}));
    let sticky = OwnCookie { cookie: "ab_sticky".to_owned(), max_age_s: 7_776_000, ..cookie };
    assert_eq!(config_with.request.sticky, Some(sticky));
    assert_eq!(config_with.request.preview.unwrap().parameter, "__ab_preview");
    let events = Events {
        format: EventFormat::Native,
        endpoint: source("collector"),
        timeout_ms: 2_000,
        batch: Batch { max_events: 500, max_bytes: 262_144, max_age_ms: 1_000 },
        dedupe: Dedupe { window_ms: 1_800_000, max_entries: 100_000 },
        withholds_prefetches: true,
        keeps_url_query: false,
        outbox: OutboxLimits {
            max_bytes: 16_777_216,
            max_batches: 256,
            max_age_ms: 86_400_000,
            on_full: OnFull::DropOldest,
            spool: None,
        },
        retry: Retry { backoff_min_ms: 1_000, backoff_max_ms: 60_000, lease_ms: 10_000 },
        fallback: None,
    };
    assert_eq!(config.events, Some(events));

    let empty = json!({"batch": {}, "dedupe": {}, "outbox": {}, "retry": {}, "cluster": "collector", "fallback": null});
    assert_eq!(accepted(&json!({"experiments": {"inline": {}}, "events": empty})).events, config.events);
}

/// Everything that may be written, with values that differ from the defaults.
pub(super) fn full() -> Value {
    json!({
        "experiments": {
            "format": "native", "cluster": "outbound|80||experiments.shop", "authority": "experiments.internal:8080",
            "path": "/experiments.json?env=live", "headers": {"Authorization": "Bearer abc", "x-a": ""}, "scheme": "https",
            "refresh": "0.25s", "timeout": "250ms", "max_bytes": 1024, "inline": {"schema": 1, "experiments": []},
            "monotonic": true, "routes": [],
        },
        "visitor": {
            "id": [{"header": "X-User-Id"}, {"cookie": "uid"}, {"jwt_claim": "sub", "header": "Authorization"},
                   {"jwt_claim": "uid", "cookie": "session"}],
            "mint": {"cookie": "v", "max_age": "1.5h", "path": "/shop", "domain": ".shop.example", "same_site": "none",
                     "secure": true, "http_only": true, "partitioned": true, "on": "any"},
            "attributes": {"country": "header.X-Country", "plan": "cookie.plan", "utm": "query.utm_source",
                           "site": "host", "where.to": "path"},
            "consent": {"cookie": "consent", "contains": "experiments"}, "honor": ["dnt"], "bots": "include",
            "bot_patterns": ["Shop-Probe", "builtin"], "expire_cookies": false,
        },
        "paths": {"include": ["/shop/*", "*.html"], "exclude": ["/shop/health"]},
        "effects": {"request_headers": ["X_A*"], "response_headers": [], "paths": false, "redirect_hosts": ["*.Example"]},
        "request": {"assignments_header": "X-Variants", "assignments_max_bytes": 100,
                    "owned_headers": ["X-Price", "x-shop-*"], "cache_key": {"header": null, "query": "__ab", "budget": 8},
                    "sticky": {"cookie": "buckets", "max_age": "1h", "path": "/shop", "domain": "shop.example",
                               "same_site": "strict", "secure": false, "http_only": true},
                    "preview": {"parameter": "preview", "secret": "never shown to a person"}},
        "response": {"downstream_caching": "unchanged", "validators": "per_variant", "debug_header": "X-Debug"},
        "events": {
            "format": "ndjson", "cluster": "collector", "authority": "collector.internal", "path": "/v1/events",
            "headers": {"x-key": "k"}, "timeout": "100ms", "scheme": "https",
            "batch": {"max_events": 1, "max_bytes": 1, "max_age": "50ms"},
            "dedupe": {"window": "1s", "max_entries": 1}, "prefetch": "count", "url_query": "keep",
            "outbox": {"max_bytes": 1, "max_batches": 1, "max_age": "1s", "on_full": "drop_newest", "spool": "/var/lib/edgesplit"},
            "retry": {"backoff_min": "10ms", "backoff_max": "10ms", "lease": "200ms"},
        },
    })
}

#[test]
fn every_field_is_read() {
    let config = accepted(&full());
    let text = |text: &str| text.to_owned();
    let endpoint = Endpoint {
        cluster: text("outbound|80||experiments.shop"),
        authority: text("experiments.internal:8080"),
        path: text("/experiments.json?env=live"),
        scheme: Scheme::Https,
        headers: vec![(text("authorization"), text("Bearer abc")), (text("x-a"), text(""))],
    };
    let source = Source { endpoint, refresh_ms: 250, timeout_ms: 250, max_bytes: 1024, monotonic: true };
    let expected = PluginConfig {
        experiments: Experiments {
            source: Some(source),
            inline: Some(json!({"schema": 1, "experiments": []})),
            ..experiments()
        },
        visitor: Visitor {
            id: vec![
                IdSource::Header(text("x-user-id")),
                IdSource::Cookie(text("uid")),
                IdSource::JwtClaim { claim: text("sub"), token: TokenSource::Header(text("authorization")) },
                IdSource::JwtClaim { claim: text("uid"), token: TokenSource::Cookie(text("session")) },
            ],
            mint: Some(Mint {
                on: MintOn::Any,
                cookie: OwnCookie {
                    cookie: text("v"),
                    max_age_s: 5400,
                    path: text("/shop"),
                    domain: Some(text(".shop.example")),
                    same_site: SameSite::None,
                    secure: true,
                    http_only: true,
                    partitioned: true,
                },
            }),
            attributes: vec![
                (text("country"), AttributeName::Header(text("x-country"))),
                (text("plan"), AttributeName::Cookie(text("plan"))),
                (text("site"), AttributeName::Host),
                (text("utm"), AttributeName::Query(text("utm_source"))),
                (text("where.to"), AttributeName::Path),
            ],
            consent: Some(Consent { cookie: text("consent"), contains: text("experiments") }),
            honor_gpc: false,
            honor_dnt: true,
            exclude_bots: false,
            bot_patterns: BotPatterns::new(["shop-probe", "builtin"].into_iter()),
            expire_cookies: false,
        },
        paths: Paths {
            include: vec![Pattern::new("/shop/*"), Pattern::new("*.html")],
            exclude: vec![Pattern::new("/shop/health")],
        },
        request: Request {
            assignments_header: text("x-variants"),
            owned_headers: vec![text("x-price"), text("x-shop-*")],
            assignments_max_bytes: 100,
            is_assignments_limit_given: true,
            cache_key: CacheKey { header: None, query: Some(text("__ab")), budget: 8, is_budget_given: true },
            sticky: Some(OwnCookie {
                cookie: text("buckets"),
                max_age_s: 3600,
                path: text("/shop"),
                domain: Some(text("shop.example")),
                same_site: SameSite::Strict,
                secure: false,
                http_only: true,
                partitioned: false,
            }),
            preview: config.request.preview.clone(),
        },
        effects: Some(EffectRules {
            request_headers: vec![Pattern::new("x-a*")],
            response_headers: vec![],
            paths: false,
            redirect_hosts: vec![Pattern::new("*.example")],
        }),
        response: Response {
            downstream_private: false,
            validators_per_variant: true,
            debug_header: Some(text("x-debug")),
        },
        events: Some(Events {
            format: EventFormat::Ndjson,
            endpoint: Endpoint {
                cluster: text("collector"),
                authority: text("collector.internal"),
                path: text("/v1/events"),
                scheme: Scheme::Https,
                headers: vec![(text("x-key"), text("k"))],
            },
            timeout_ms: 100,
            batch: Batch { max_events: 1, max_bytes: 1, max_age_ms: 50 },
            dedupe: Dedupe { window_ms: 1000, max_entries: 1 },
            withholds_prefetches: false,
            keeps_url_query: true,
            outbox: OutboxLimits {
                max_bytes: 1,
                max_batches: 1,
                max_age_ms: 1000,
                on_full: OnFull::DropNewest,
                spool: Some(text("/var/lib/edgesplit")),
            },
            retry: Retry { backoff_min_ms: 10, backoff_max_ms: 10, lease_ms: 200 },
            fallback: None,
        }),
        editor: (),
    };
    assert_eq!(config, expected);
    let preview = config.request.preview.as_ref().unwrap();
    assert_eq!((preview.parameter.as_str(), preview.secret.bytes()), ("preview", &b"never shown to a person"[..]));
    assert!(!format!("{config:?}").contains("never shown"));
}

#[test]
fn example_of_the_contract_is_accepted() {
    accepted(&json!({
        "experiments": {
            "format": "native", "cluster": "experiments", "authority": "experiments.internal",
            "path": "/experiments.json", "headers": {"authorization": "Bearer abc"}, "refresh": "10s", "timeout": "2s",
            "max_bytes": 4_194_304, "inline": {}, "routes": [],
        },
        "visitor": {
            "id": [{"header": "x-user-id"}, {"cookie": "uid"}],
            "mint": {"cookie": "ab_visitor", "max_age": "8760h", "path": "/", "domain": null, "same_site": "lax",
                     "secure": true, "partitioned": false, "on": "navigation"},
            "attributes": {"country": "header.x-country", "plan": "cookie.plan", "utm": "query.utm_source"},
            "consent": null, "honor": ["gpc"], "bots": "exclude",
        },
        "paths": {"include": ["/*"], "exclude": []},
        "request": {
            "assignments_header": "x-ab-assignments", "owned_headers": [],
            "cache_key": {"header": "x-ab-cache-key", "query": null, "budget": 64}, "sticky": null, "preview": null,
        },
        "response": {"downstream_caching": "private", "validators": "unchanged", "debug_header": null},
        "events": {
            "format": "native", "cluster": "collector", "authority": "collector.internal", "path": "/v1/events",
            "headers": {}, "timeout": "2s",
            "batch": {"max_events": 500, "max_bytes": 262_144, "max_age": "1s"},
            "dedupe": {"window": "30m", "max_entries": 100_000}, "prefetch": "withhold",
            "url_query": "strip",
            "outbox": {"max_bytes": 16_777_216, "max_batches": 256, "max_age": "24h", "on_full": "drop_oldest"},
            "retry": {"backoff_min": "1s", "backoff_max": "60s", "lease": "10s"}, "fallback": null,
        },
    }));
}
