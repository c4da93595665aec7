//! Requests of a client: header blocks with lying lengths, cookies, URLs, user agents, `cache-control` values.

use edgesplit_engine::attribute::{AttributeName, Attributes};
use edgesplit_filter::http::headers::{HeaderBlock, HeaderMap};
use edgesplit_filter::http::{cache_control, cookies, url};
use edgesplit_filter::plugin_config::PluginConfig;
use edgesplit_filter::request_context::{self, RequestContext};
use std::cell::OnceCell;
use std::sync::LazyLock;

static CONFIG: LazyLock<PluginConfig> = LazyLock::new(|| {
    let text = br#"{"experiments": {"cluster": "c"}, "visitor": {
        "id": [{"header": "x-user-id"}, {"cookie": "uid"}], "mint": {}, "honor": ["gpc", "dnt"],
        "consent": {"cookie": "consent", "contains": "x"},
        "attributes": {"country": "header.x-country", "plan": "cookie.plan", "utm": "query.utm"}}}"#;
    PluginConfig::parse(text).unwrap_or_else(|problems| panic!("{problems:?}"))
});

/// Takes one input.
pub(crate) fn run(data: &[u8]) {
    // Once as the whole block, with the lengths that it claims, and once as values of the headers that are read.
    let block = HeaderBlock::new(data.to_vec());
    let values: Vec<&[u8]> = data.split(|&byte| byte == b'\n').collect();
    let names =
        [":path", ":authority", ":method", "cookie", "cookie", "user-agent", "x-user-id", "sec-gpc", "x-country"];
    let pairs: Vec<(&str, &[u8])> = names.into_iter().zip(values).collect();
    for headers in [block.map(), HeaderMap::of(&pairs)] {
        let visitor = &CONFIG.visitor;
        let mut view = RequestContext::new(&headers, visitor);
        let text = OnceCell::new();
        view.id = request_context::id(&view, visitor, &text);
        let _ = (request_context::has_consent(&view, visitor), request_context::is_bot(&view, visitor));
        for name in ["id", "host", "path", "url", "method", "country", "plan", "utm", "query.a", "cookie.b", "header.c"]
        {
            let _ = view.attribute(&AttributeName::parse(name));
        }
        let _ = cookies::cookie(&headers, "uid");
        let _ = cache_control::made_private(headers.iter().map(|(_, value)| value));
    }
    for value in ["", "k.v~a.b"] {
        let target = url::with_parameter(data, "__ab", Some(value));
        let (_, query) = url::path_and_query(&target);
        assert!(query.is_some_and(|query| url::has_parameter(query, "__ab")));
        let without = url::with_parameter(&target, "__ab", None);
        assert!(!url::path_and_query(&without).1.is_some_and(|query| url::has_parameter(query, "__ab")));
    }
}
