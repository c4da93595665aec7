//! A browser's cookies over changes of the configuration, and in front of nginx, which refuses a `cookie` header over 8 kB.

use super::{envoy_before, plugin};
use edgesplit_testkit::caches::Cache;
use edgesplit_testkit::client::{Client, Reply};
use edgesplit_testkit::stack::{Services, document, echoed, experiment};
use serde_json::{Value, json};

/// A cookie in a browser.
#[derive(Debug, Clone, PartialEq)]
struct Cookie {
    name: String,
    value: String,
    /// `None`: it belongs to the host alone.
    domain: Option<String>,
}

/// The cookies of a browser for one site, the oldest first, as browsers send them.
#[derive(Debug, Default)]
struct Jar(Vec<Cookie>);

impl Jar {
    fn header(&self) -> String {
        self.0.iter().map(|cookie| format!("{}={}", cookie.name, cookie.value)).collect::<Vec<_>>().join("; ")
    }

    /// Takes in the cookies of a response. Returns how many it set or removed.
    fn take(&mut self, reply: &Reply) -> usize {
        let set = reply.header_all("set-cookie");
        for text in &set {
            let mut parts = text.split("; ");
            let (name, value) = parts.next().unwrap().split_once('=').unwrap();
            let attributes: Vec<&str> = parts.collect();
            let domain = attributes.iter().find_map(|part| part.strip_prefix("Domain=")).map(str::to_owned);
            let cookie = Cookie { name: name.to_owned(), value: value.to_owned(), domain };
            let known = self.0.iter().position(|other| (&other.name, &other.domain) == (&cookie.name, &cookie.domain));
            match (known, attributes.contains(&"Max-Age=0")) {
                (Some(at), true) => drop(self.0.remove(at)),
                (None, true) => {}
                (Some(at), false) => self.0[at] = cookie,
                (None, false) => self.0.push(cookie),
            }
        }
        set.len()
    }

    fn visit(&mut self, client: &mut Client, path: &str) -> (Reply, usize) {
        let reply = client.get(path).host("www.shop.example").header("cookie", self.header()).send();
        assert_eq!(reply.status, 200, "{path} with {} bytes of cookies", self.header().len());
        let changes = self.take(&reply);
        (reply, changes)
    }
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
        let (first, _) = jar.visit(&mut before.client(), "/nav");
        let variant = echoed(&first, "x-ab-assignments");
        let [id, _] = &jar.0[..] else { panic!("an id and a bucket: {jar:?}") };
        let id = id.value.clone();
        let mut client = after.client();
        let changes: Vec<usize> = ["/later", "/nav", "/later", "/nav", "/later", "/nav"]
            .iter()
            .map(|path| jar.visit(&mut client, path).1)
            .collect();
        assert_eq!(changes[2..], [0; 4], "no cookie with every response: {changes:?}");
        let domains: Vec<(&str, Option<&str>)> =
            jar.0.iter().map(|cookie| (cookie.name.as_str(), cookie.domain.as_deref())).collect();
        let is_id = |cookie: &&Cookie| cookie.name == "ab_visitor";
        assert!(jar.0.iter().filter(is_id).all(|cookie| cookie.value == id), "one id: {jar:?}");
        let sticky: Vec<_> = domains.iter().filter(|(name, _)| *name == "ab_sticky").collect();
        assert_eq!(sticky, [&("ab_sticky", Some("shop.example"))], "{jar:?}");
        let (last, _) = jar.visit(&mut client, "/nav");
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
    // One account after the other logs in, with ids of 64 bytes.
    for account in 0..60 {
        let id = format!("{account:064}");
        let reply = client.get("/").header("x-user-id", &id).header("cookie", jar.header()).send();
        assert_eq!(reply.status, 200, "account {account} with {} cookies, {} bytes", jar.0.len(), jar.header().len());
        jar.take(&reply);
        assert!(jar.0.last().unwrap().name.ends_with(&id), "{jar:?}");
    }
    assert!(jar.0.len() <= 16 && jar.header().len() < 5_000, "{jar:?}");
}
