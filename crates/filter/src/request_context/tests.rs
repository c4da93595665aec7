use super::*;
use crate::plugin_config::PluginConfig;
use serde_json::json;

fn visitor(block: Value) -> Visitor {
    PluginConfig::from_value(&json!({"experiments": {"cluster": "c"}, "visitor": block})).unwrap().visitor
}

#[test]
fn look_ups_of_long_headers_take_their_time() {
    let visitor = visitor(json!({"attributes": {"plan": "cookie.plan"}}));
    let (cookies, target) = ("a=b; ".repeat(100), format!("/?{}", "a=b&".repeat(15_000)));
    let map = HeaderMap::of(&[(":path", &target), ("cookie", &cookies)]);
    let view = RequestContext::new(&map, &visitor);
    for (name, expected) in [("cookie.x", 1_600), ("plan", 1_616), ("query.x", 60_000), ("header.x", 128), ("id", 0)] {
        assert_eq!(view.look_up_bytes(&AttributeName::parse(name)), expected, "{name}");
    }
}

#[test]
fn attributes_come_from_the_request() {
    let visitor = visitor(json!({"attributes": {"country": "header.x-country", "utm": "query.utm_source"}}));
    let map = HeaderMap::of(&[
        (":authority", "Shop.example:8443"),
        (":path", "/a?utm_source=mail%20x&b=2"),
        (":method", "GET"),
        (":scheme", "http"),
        ("x-country", "DE"),
        ("cookie", "plan=pro"),
    ]);
    let view = RequestContext::new(&map, &visitor);
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
