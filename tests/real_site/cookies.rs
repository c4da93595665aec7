//! A browser's cookies over changes of the configuration, and in front of nginx, which refuses a `cookie` header over 8 kB.

use super::jar::Jar;
use super::{envoy_before, plugin};
use cookie_store::CookieDomain;
use edgesplit_testkit::caches::Cache;
use edgesplit_testkit::client::{Client, Reply};
use edgesplit_testkit::stack::{Services, document, echoed, experiment};
use serde_json::{Value, json};
use url::Url;

/// Requests a page with the cookies of the jar. Returns how many cookies the response set or removed, too.
fn visit(jar: &mut Jar, client: &mut Client, path: &str) -> (Reply, usize) {
    let url = Url::parse(&format!("http://www.shop.example{path}")).unwrap();
    let cookies = jar.header(&url);
    let reply = client.get(path).host("www.shop.example").header("cookie", &cookies).send();
    assert_eq!(reply.status, 200, "{path} with {} bytes of cookies", cookies.len());
    let changes = jar.store(&reply, &url);
    (reply, changes)
}

#[test]
fn cookies_move_to_a_new_domain_once() {
    let services = Services::start(&json!({}));
    let variants = json!([{"key": "control", "weight": 5000, "baseline": true}, {"key": "green", "weight": 5000}]);
    let with = |path: &str| json!({"sticky": true, "variants": variants, "route": {"paths": [path]}});
    let experiments = document(&[experiment("nav", with("/nav")), experiment("later", with("/later"))]);
    let configured = |cookie: Value| {
        let visitor = json!({"id": [], "mint": cookie});
        services.envoy(&plugin(experiments.clone(), json!({"visitor": visitor, "request": {"sticky": cookie}})))
    };
    let before = configured(json!({"secure": false}));
    let after = configured(json!({"secure": false, "domain": "shop.example"}));
    for _ in 0..10 {
        let mut jar = Jar::default();
        let (first, _) = visit(&mut jar, &mut before.client(), "/nav");
        let variant = echoed(&first, "x-ab-assignments");
        let [id, _] = jar.cookies()[..] else { panic!("an id and a bucket: {jar:?}") };
        let id = id.value().to_owned();
        let mut client = after.client();
        let changes: Vec<usize> = ["/later", "/nav", "/later", "/nav", "/later", "/nav"]
            .iter()
            .map(|path| visit(&mut jar, &mut client, path).1)
            .collect();
        assert_eq!(changes[2..], [0; 4], "no cookie with every response: {changes:?}");
        let named = |name: &str| jar.cookies().into_iter().filter(|cookie| cookie.name() == name).collect::<Vec<_>>();
        assert!(named("ab_visitor").iter().all(|cookie| cookie.value() == id), "one id: {jar:?}");
        let domains: Vec<_> = named("ab_sticky").into_iter().map(|cookie| cookie.domain.clone()).collect();
        assert_eq!(domains, [CookieDomain::Suffix("shop.example".to_owned())], "{jar:?}");
        let (last, _) = visit(&mut jar, &mut client, "/nav");
        assert_eq!(echoed(&last, "x-ab-assignments"), variant);
    }
}

#[test]
fn growthbook_cookies_stay_within_the_limits_of_nginx() {
    let services = Services::start(&json!({}));
    let server =
        format!("server {{ listen SOCKET; location / {{ proxy_pass http://127.0.0.1:{}; }} }}", services.origin.port());
    let Some(nginx) = Cache::nginx_with(&server) else { return };
    let rule = json!({"key": "exp", "variations": ["a", "b"], "weights": [0.5, 0.5], "coverage": 1, "hashAttribute": "id",
                      "hashVersion": 2, "meta": [{"key": "0"}, {"key": "1"}]});
    let payload = json!({"features": {"nav": {"defaultValue": "a", "rules": [rule]}}});
    let sticky = json!({"experiments": {"format": "growthbook"}, "request": {"sticky": {"secure": false}}});
    let envoy = envoy_before(&services, &nginx, &plugin(payload, sticky));
    let (mut client, mut jar) = (envoy.client(), Jar::default());
    let url = Url::parse("http://shop.example/").unwrap();
    // One account after the other logs in, with ids of 64 bytes.
    for account in 0..60 {
        let (id, cookies) = (format!("{account:064}"), jar.header(&url));
        let reply = client.get("/").header("x-user-id", &id).header("cookie", &cookies).send();
        assert_eq!(reply.status, 200, "account {account} with {} bytes of cookies", cookies.len());
        jar.store(&reply, &url);
        assert!(jar.cookies().last().unwrap().name().ends_with(&id), "{jar:?}");
    }
    assert!(jar.cookies().len() <= 16 && jar.header(&url).len() < 5_000, "{jar:?}");
}
