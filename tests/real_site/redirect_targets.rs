//! Redirects of variants whose target differs from the page in port, scheme or query alone.

use super::{assert_exposures, plugin};
use edgesplit_testkit::stack::{Services, document, experiment};
use serde_json::json;

#[test]
fn visitor_at_the_target_in_every_part_is_not_redirected() {
    let services = Services::start(&json!({}));
    let variants = json!([{"key": "control", "weight": 0, "baseline": true},
        {"key": "green", "weight": 10000, "set": {"redirect": "https://shop.example:8443/p?v=2"}}]);
    let envoy = services.envoy(&plugin(document(&[experiment("p", json!({"variants": variants}))]), json!({})));
    let mut client = envoy.client();
    for (id, host, scheme, path, expected) in [
        ("port", "shop.example", "https", "/p?v=2", Some("https://shop.example:8443/p?v=2&v=2")),
        ("query", "shop.example:8443", "https", "/p?v=1", Some("https://shop.example:8443/p?v=2&v=1")),
        ("scheme", "shop.example:8443", "http", "/p?v=2", Some("https://shop.example:8443/p?v=2&v=2")),
        ("none", "shop.example:8443", "https", "/p?a=1&v=2", None),
    ] {
        let request = client.get(path).host(host).header("x-user-id", id).header("x-forwarded-proto", scheme);
        let reply = request.send();
        assert_eq!((reply.status == 302, reply.header("location").as_deref()), (expected.is_some(), expected), "{id}");
    }
    let redirected = ["port", "query", "scheme"].map(|id| format!("{id} p=green /p 302"));
    assert_exposures(&services, &mut client, "/p", &redirected.each_ref().map(String::as_str));
}
