use super::*;
use crate::native::Native;
use crate::{Options, compile_bytes};
use serde_json::{Value, json};

fn options(policy: EffectPolicy) -> Options {
    Options { effects: policy, ..Options::new(&Native, 64) }
}

/// The problems of an experiment of this route whose variant has these effects, and the names that it owns.
fn compiled(set: &Value, route: &Value, policy: &EffectPolicy) -> (Vec<String>, Vec<String>) {
    let variants = json!([{"key": "a", "weight": 5000, "baseline": true}, {"key": "b", "weight": 5000, "set": set}]);
    let experiment = json!({"key": "e", "state": "running", "route": route, "variants": variants});
    let config = json!({"schema": 1, "experiments": [experiment]}).to_string();
    let compiled = compile_bytes(config.as_bytes(), &options(policy.clone()));
    let snapshot = compiled.snapshot.expect("a snapshot");
    assert_eq!(snapshot.disabled.is_empty(), compiled.problems.errors() == 0);
    let problems = compiled.problems.iter().map(ToString::to_string).collect();
    (problems, snapshot.owned_request_headers.names().to_vec())
}

fn everything() -> EffectPolicy {
    let any = || vec![Pattern::new("*")];
    let rules = EffectRules { request_headers: any(), response_headers: any(), paths: true, redirect_hosts: any() };
    EffectPolicy {
        rules,
        is_given: true,
        reserved_request_headers: vec!["x-ab-assignments".to_owned(), "x-user-id".to_owned()],
        reserved_response_headers: vec!["x-ab-debug".to_owned()],
    }
}

#[test]
fn nothing_overrides_the_refused_headers() {
    let request = [
        "connection",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "proxy-connection",
        "Host",
        "content-type",
        "Content_Length",
        "content-security-policy",
        "cookie",
        "Authorization",
        "proxy-authorization",
        "forwarded",
        "X-Forwarded-For",
        "x_forwarded_client_cert",
        "x-real-ip",
        "x-envoy-upstream-rq-timeout-ms",
        "x-request-id",
        "traceparent",
        "tracestate",
        "b3",
        "x-b3-traceid",
        "baggage",
        "x-ab-assignments",
        "X_User_ID",
    ];
    let response = [
        "set-cookie",
        "Location",
        "content-type",
        "strict-transport-security",
        "content-security-policy-report-only",
        "access-control-allow-origin",
        "X-Frame-Options",
        "x_frame_options",
        "clear-site-data",
        "alt-svc",
        "transfer-encoding",
        "x-content-type-options",
        "cross-origin-opener-policy",
        "X-AB-Debug",
    ];
    let all = request.iter().map(|name| ("request_headers", name));
    for (field, name) in all.chain(response.iter().map(|name| ("response_headers", name))) {
        let (problems, owned) = compiled(&json!({field: {*name: "1"}}), &json!({}), &everything());
        let start =
            format!("experiments[0].variants[1].set.{field}.{name}: no variant may set this header").to_lowercase();
        assert!(
            matches!(problems.as_slice(), [one] if one.to_lowercase().starts_with(&start)),
            "{start}: {problems:?}"
        );
        assert_eq!(owned, [""; 0], "a disabled experiment owns nothing");
    }
    let allowed = json!({"request_headers": {"accept-language": "de", "x-a": "1"}, "response_headers": {"cache-control": "no-store"}});
    assert_eq!(compiled(&allowed, &json!({}), &everything()).0, [""; 0]);
}

#[test]
fn rules_bound_the_effects() {
    let narrow = EffectPolicy {
        rules: EffectRules { paths: false, request_headers: vec![Pattern::new("x-shop-*")], ..EffectRules::default() },
        ..EffectPolicy::default()
    };
    let default = EffectPolicy::default();
    let path = json!({"path": {"prefix": "/a", "with": "/b"}});
    for (policy, set, expected) in [
        (&default, json!({"request_headers": {"x-a": "1", "X_b": "1"}, "response_headers": {"x-a": "1"}}), ""),
        (
            &default,
            json!({"request_headers": {"accept": "1"}}),
            "request_headers.accept: not allowed: `effects.request_headers`",
        ),
        (
            &default,
            json!({"response_headers": {"vary": "a"}}),
            "response_headers.vary: not allowed: `effects.response_headers`",
        ),
        (&default, path.clone(), ""),
        (&narrow, path, "path: not allowed: `effects.paths`"),
        (&narrow, json!({"request_headers": {"X_Shop_A": "1"}}), ""),
        (&narrow, json!({"request_headers": {"x-a": "1"}}), "request_headers.x-a: not allowed"),
        (&default, json!({"path": {"prefix": "/a", "with": "/%2e%2E/admin"}}), "path.with: an empty or a dot segment"),
        (&default, json!({"path": {"prefix": "/a", "with": "//evil.example"}}), "path.with: an empty or a dot segment"),
    ] {
        let (problems, _) = compiled(&set, &json!({}), policy);
        let start = format!("experiments[0].variants[1].set.{expected}");
        assert_eq!(problems.is_empty(), expected.is_empty(), "{problems:?}");
        assert!(problems.iter().all(|problem| problem.starts_with(&start)), "{start}: {problems:?}");
    }
}

#[test]
fn redirects_lead_to_the_own_host_or_a_listed_one() {
    let rules = EffectRules { redirect_hosts: vec![Pattern::new("*.partner.example")], ..EffectRules::default() };
    let policy = EffectPolicy { rules, ..EffectPolicy::default() };
    let shop = json!({"hosts": ["shop.example"]});
    let error = "e";
    let warning = "w";
    for (redirect, route, expected) in [
        ("/new", json!({}), ""),
        ("https://Shop.example:8443/new", shop.clone(), ""),
        ("https://a.partner.example/", shop.clone(), ""),
        ("https://evil.example/", shop.clone(), error),
        ("https://evil.example/", json!({"hosts": ["*.shop.example"]}), error),
        ("https://evil.example/", json!({}), warning),
        ("https://shop.example/", json!({"hosts": ["*.example"]}), warning),
        ("https://shop.example@evil.example/", shop.clone(), error),
        ("https://evil.example\\@shop.example/", shop.clone(), error),
        ("ftp://shop.example/", shop.clone(), error),
        ("javascript:alert(1)", shop.clone(), error),
        ("//shop.example/", shop, error),
    ] {
        let (problems, _) = compiled(&json!({"redirect": redirect}), &route, &policy);
        assert_eq!(problems.len(), usize::from(!expected.is_empty()), "{redirect}: {problems:?}");
        let is_warning = problems.iter().all(|problem| problem.contains("only requests to this host"));
        assert!(expected.is_empty() || is_warning == (expected == warning), "{redirect}: {problems:?}");
    }
}

#[test]
fn only_active_experiments_own_names() {
    let set = |name: &str| json!([{"key": "a", "weight": 10000, "set": {"request_headers": {name: "1"}}}]);
    let experiments = json!([
        {"key": "a", "state": "running", "variants": set("X-A")},
        {"key": "p", "state": "paused", "variants": set("x-p")},
        {"key": "bad", "state": "running", "traffic": "?", "variants": set("x-bad")},
        {"key": "forbidden", "state": "running", "variants": set("accept")},
        {"key": "won", "state": "concluded", "winner": "a", "variants": set("x-won")},
    ]);
    let config = json!({"schema": 1, "experiments": experiments}).to_string();
    let snapshot = compile_bytes(config.as_bytes(), &options(EffectPolicy::default())).snapshot.expect("a snapshot");
    assert_eq!(snapshot.owned_request_headers.names(), ["x-a", "x-won"]);
}
