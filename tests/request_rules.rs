//! The rules of the request path that need no proxy: one request at a time, on a host that records its calls.
#![allow(missing_docs)]
// Helpers of tests fail as tests do: by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use edgesplit_filter::http::headers::HeaderBlock;
use edgesplit_filter::request::{Flow, handle_request};
use edgesplit_filter::response::handle_response;
use edgesplit_filter::worker::Worker;
use edgesplit_testkit::module::recording_host::RecordingHost;
use serde_json::{Value, json};

/// A worker with the experiments that `plugin` has inline, and its host.
struct Site {
    worker: Worker,
    host: RecordingHost,
}

impl Site {
    fn new(plugin: &Value) -> Site {
        let host = RecordingHost::default();
        let worker = Worker::configure(&host, "demo", plugin.to_string().as_bytes());
        Site { worker: worker.unwrap_or_else(|problems| panic!("{problems:?}")), host }
    }

    /// Sends a request with these headers beside those that every request has. Returns the changes of the request, and
    /// then the changes of its response.
    fn request(&mut self, headers: &[(&str, &str)]) -> (Vec<String>, Vec<String>) {
        self.exchange(headers, &[(":status", "200")])
    }

    /// Like `request`, where the response has the headers `response`.
    fn exchange(&mut self, headers: &[(&str, &str)], response: &[(&str, &str)]) -> (Vec<String>, Vec<String>) {
        let standard = [(":method", "GET"), (":path", "/"), (":authority", "shop.example"), ("x-user-id", "u1")];
        let mut all: Vec<(&str, &str)> =
            standard.into_iter().filter(|(name, _)| headers.iter().all(|(given, _)| given != name)).collect();
        all.extend(headers);
        self.host.request = HeaderBlock::from_pairs(&all);
        self.host.response = HeaderBlock::from_pairs(response);
        self.host.written.take();
        let (Flow::Continue(plan) | Flow::Answered(plan)) = handle_request(&mut self.worker, &self.host);
        let request = self.host.written.take();
        handle_response(&mut self.worker, &self.host, plan);
        (request, self.host.written.take())
    }

    /// The value of a metric of the filter.
    fn count(&mut self, name: &str) -> u64 {
        self.worker.tick(&self.host);
        self.host.counted.borrow().get(&format!("edgesplit.demo.{name}")).copied().unwrap_or(0)
    }

    /// The events that the last request emitted.
    fn events(&mut self, headers: &[(&str, &str)]) -> u64 {
        let before = self.count("events.emitted");
        self.request(headers);
        self.count("events.emitted") - before
    }
}

fn plugin(variants: &Value) -> Value {
    let experiments = json!([{"key": "nav", "state": "running", "route": {"paths": ["/shop*"]}, "variants": variants}]);
    json!({"experiments": {"inline": {"schema": 1, "experiments": experiments}},
           "visitor": {"id": [{"header": "x-user-id"}]}, "paths": {"exclude": ["/shop/static*"]},
           "request": {"owned_headers": ["X-Price", "x-shop-*"], "cache_key": {"query": "__ab"},
                       "preview": {"secret": "0123456789abcdef"}}})
}

fn variants() -> Value {
    json!([{"key": "control", "weight": 0, "baseline": true},
           {"key": "green", "weight": 10000, "set": {"request_headers": {"x-button": "green"}}}])
}

#[test]
fn owned_names_are_removed_in_every_spelling_and_on_every_path() {
    let mut site = Site::new(&plugin(&variants()));
    for path in ["/shop", "/shop/static/a.js", "/elsewhere"] {
        for name in ["x_ab_assignments", "X_AB_CACHE_KEY", "x-ab_assignments", "x_button", "x-price", "X_Shop_Id"] {
            let (written, _) = site.request(&[(":path", path), (name, "forged"), (name, "twice")]);
            assert!(written.contains(&format!("-{name}")), "{name} on {path}: {written:?}");
            assert!(!written.iter().any(|line| line.contains("forged")), "{written:?}");
            let sets_own = written.contains(&"x-button: green".to_owned());
            assert_eq!(sets_own, path == "/shop", "{name} on {path}: {written:?}");
        }
    }
}

#[test]
fn owned_parameters_are_removed_in_every_encoding() {
    let mut site = Site::new(&plugin(&variants()));
    for (query, expected) in [
        ("__ab=x", ""),
        ("a=1&%5F_ab=x&_%5fab&__%61b=&b=2&__ab=y", "?a=1&b=2"),
        ("%5F%5F%61%62=x&&__ab_preview=1~0~a.b~c", ""),
        ("%5f_ab%5Fpreview=x&a", "?a"),
        ("__ab=1&__abc=2", "?__abc=2"),
    ] {
        for path in ["/shop/static/a.js", "/elsewhere"] {
            let (written, _) = site.request(&[(":path", &format!("{path}?{query}"))]);
            assert_eq!(written, [format!(":path={path}{expected}")], "{query}");
        }
    }
}

#[test]
fn connection_cannot_make_the_next_hop_drop_owned_headers() {
    let mut site = Site::new(&plugin(&variants()));
    let connection = |written: &[String]| -> Vec<String> {
        written.iter().filter(|line| line.contains("connection")).cloned().collect()
    };
    let upgrade = [("connection", "Upgrade, x_ab-assignments"), ("Connection", "X-Button ,keep-alive")];
    let (written, _) = site.request(&[&upgrade[..], &[(":path", "/shop"), ("upgrade", "websocket")]].concat());
    assert_eq!(connection(&written), ["-connection", "connection: Upgrade, keep-alive"]);
    assert!(written.contains(&"x-ab-assignments: nav=green".to_owned()), "{written:?}");
    let (written, _) = site.request(&[("connection", "x-price")]);
    assert_eq!(connection(&written), ["-connection"]);
    let (written, _) = site.request(&[("connection", "Upgrade"), ("upgrade", "websocket")]);
    assert_eq!(connection(&written), [""; 0]);
}

/// A plugin with one experiment for every path, a goal and events, and the members of `more` on top.
fn reporting(set: &Value, more: &Value) -> Value {
    let variants = json!([{"key": "control", "weight": 0, "baseline": true},
                          {"key": "green", "weight": 10000, "set": set}]);
    let document = json!({"schema": 1, "goals": [{"key": "goal", "route": {"paths": ["/thanks"]}}],
        "experiments": [{"key": "nav", "state": "running", "variants": variants}]});
    let mut plugin = json!({"experiments": {"inline": document}, "visitor": {"id": [{"header": "x-user-id"}]},
                            "events": {"cluster": "collector"}});
    plugin.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    plugin
}

#[test]
fn preflights_pass_untouched() {
    let mut site = Site::new(&reporting(
        &json!({"redirect": "/new"}),
        &json!({"visitor": {
        "id": [{"header": "x-user-id"}], "mint": {}, "consent": {"cookie": "consent", "contains": "yes"}}}),
    ));
    let id = "00000000-0000-4000-8000-000000000000";
    for cookie in [format!("consent=yes; ab_visitor={id}"), format!("ab_visitor={id}")] {
        let preflight = [(":method", "OPTIONS"), ("cookie", cookie.as_str()), ("x-ab-assignments", "forged")];
        assert_eq!(site.request(&preflight), (vec!["-x-ab-assignments".to_owned()], vec![]));
    }
    assert_eq!((site.count("events.emitted"), site.count("mint.minted")), (0, 0));
    let route = json!({"methods": ["OPTIONS"], "paths": ["/api*"]});
    let experiment =
        json!({"key": "api", "state": "running", "route": route, "variants": [{"key": "on", "weight": 10000}]});
    let inline = json!({"schema": 1, "experiments": [experiment]});
    let mut named =
        Site::new(&json!({"experiments": {"inline": inline}, "visitor": {"id": [{"header": "x-user-id"}]}}));
    let (written, _) = named.request(&[(":method", "OPTIONS"), (":path", "/api/1")]);
    assert!(written.contains(&"x-ab-assignments: api=on".to_owned()), "{written:?}");
}

#[test]
fn head_is_decided_like_get_and_is_no_visit() {
    let mut site = Site::new(&reporting(&json!({}), &json!({})));
    let get = site.request(&[("x-user-id", "u2"), (":path", "/thanks")]);
    assert_eq!(site.count("events.emitted"), 2);
    assert_eq!(site.request(&[("x-user-id", "u2"), (":path", "/thanks"), (":method", "HEAD")]), get);
    assert_eq!(site.events(&[("x-user-id", "u3"), (":path", "/thanks"), (":method", "HEAD")]), 0);
    assert_eq!(site.events(&[("x-user-id", "u3"), (":path", "/thanks")]), 2, "HEAD was recorded as reported");
}

#[test]
fn prefetches_are_decided_and_their_exposures_withheld() {
    let purposes = [("sec-purpose", "prefetch;prerender"), ("Purpose", "prefetch"), ("x-moz", "prefetch")];
    let mut site = Site::new(&reporting(&json!({}), &json!({})));
    for (purpose, id) in purposes.into_iter().zip(["u1", "u2", "u3"]) {
        let (written, _) = site.request(&[purpose, ("x-user-id", id)]);
        assert!(written.contains(&"x-ab-assignments: nav=green".to_owned()), "{written:?}");
        assert_eq!(site.count("events.emitted"), 0, "{purpose:?}");
    }
    for id in ["u1", "u2", "u3"] {
        assert_eq!(site.events(&[("x-user-id", id)]), 1, "the shown page of {id}");
    }
    assert_eq!(site.events(&[("x-user-id", "u4"), ("purpose", "other")]), 1);
    let counted = json!({"events": {"cluster": "collector", "prefetch": "count"}});
    let mut site = Site::new(&reporting(&json!({}), &counted));
    assert_eq!(site.events(&[("sec-purpose", "prefetch")]), 1);
}

#[test]
fn ids_are_minted_for_navigations_over_https_only() {
    let plugin = |mint: Value| reporting(&json!({}), &json!({"visitor": {"mint": mint}}));
    let minted = |site: &mut Site, headers: &[(&str, &str)]| {
        let (_, response) = site.request(headers);
        response.iter().any(|line| line.starts_with("set-cookie: ab_visitor="))
    };
    let https = (":scheme", "https");
    let mut site = Site::new(&plugin(json!({})));
    for (headers, expected) in [
        (vec![https], true),
        (vec![("x-forwarded-proto", "https"), (":scheme", "http")], true),
        (vec![https, ("sec-fetch-dest", "document")], true),
        (vec![https, ("sec-fetch-dest", "iframe")], true),
        (vec![https, ("sec-fetch-dest", "image")], false),
        (vec![https, ("sec-fetch-dest", "empty")], false),
        (vec![https, (":method", "POST")], false),
        (vec![https, (":method", "HEAD")], false),
        (vec![https, ("sec-purpose", "prefetch")], false),
        (vec![(":scheme", "http")], false),
        (vec![("x-forwarded-proto", "http"), https], false),
        (vec![], false),
    ] {
        assert_eq!(minted(&mut site, &headers), expected, "{headers:?}");
    }
    let counts =
        ["minted", "refused_not_navigation", "refused_insecure"].map(|name| site.count(&format!("mint.{name}")));
    assert_eq!(counts, [4, 5, 3]);

    let mut site = Site::new(&plugin(json!({"on": "any", "secure": false})));
    for (headers, expected) in [
        (vec![("sec-fetch-dest", "image")], true),
        (vec![(":method", "POST")], true),
        (vec![(":method", "HEAD")], false),
        (vec![("sec-purpose", "prefetch")], false),
    ] {
        assert_eq!(minted(&mut site, &headers), expected, "{headers:?}");
    }
}

#[test]
fn redirect_that_is_skipped_is_no_exposure() {
    let mut site = Site::new(&reporting(&json!({"redirect": "https://shop.example:8443/new?v=2"}), &json!({})));
    let https = (":scheme", "https");
    let there = (":authority", "shop.example:8443");
    for (at, path) in [((":authority", "shop.example"), "/new?v=2"), (there, "/new?v=1"), (there, "/old?v=2")] {
        let (written, _) = site.request(&[https, at, (":path", path)]);
        assert_eq!(written.first().map(String::as_str), Some("302"), "{at:?} {path}: {written:?}");
    }
    assert_eq!(site.count("events.emitted"), 1);
    let arrived = [https, there, ("x-user-id", "u2")];
    assert_eq!(site.events(&[&arrived[..], &[(":path", "/new?a=1&v=2")]].concat()), 0);
    assert_eq!(site.events(&[&arrived[..], &[(":path", "/old")]].concat()), 1);
}

#[test]
fn validators_belong_to_one_variant() {
    let site = |weight: u32, response: Value| {
        let variants = json!([{"key": "control", "weight": weight, "baseline": true},
                              {"key": "green", "weight": 10000 - weight}]);
        let route = json!({"paths": ["/shop*"]});
        let experiments = json!([{"key": "nav", "state": "running", "route": route, "variants": variants}]);
        Site::new(&json!({"experiments": {"inline": {"schema": 1, "experiments": experiments}},
                          "visitor": {"id": [{"header": "x-user-id"}]}, "response": response}))
    };
    let per_variant = json!({"validators": "per_variant"});
    let own = |lines: Vec<String>| -> Vec<String> {
        lines.into_iter().filter(|line| !line.contains("x-ab-") && !line.contains("cache-control")).collect()
    };
    let shop = (":path", "/shop");
    let etag = [(":status", "200"), ("etag", "W/\"1\""), ("last-modified", "x")];
    let (mut baseline, mut green) = (site(10_000, per_variant.clone()), site(0, per_variant));
    let (_, written) = green.exchange(&[shop], &etag);
    let [line] = &own(written)[..] else { panic!("one change") };
    let marked = line.strip_prefix("etag=").unwrap().to_owned();
    assert!(marked.starts_with("W/\"1~ab-") && marked.ends_with('"') && marked.len() == 25, "{marked}");
    assert_eq!(own(baseline.exchange(&[shop], &etag).1), [""; 0]);
    assert_eq!(own(green.exchange(&[(":path", "/")], &etag).1), [""; 0]);
    let unmarked = [(":status", "200"), ("last-modified", "x")];
    assert_eq!(own(green.exchange(&[shop], &unmarked).1), ["-last-modified"]);

    let since = ("if-modified-since", "x");
    let (of_green, of_baseline) = (("if-none-match", marked.as_str()), ("if-none-match", "W/\"1\""));
    let removed = ["-if-modified-since", "-if-none-match"];
    assert_eq!(own(green.request(&[shop, of_green, since]).0), ["if-none-match=W/\"1\""]);
    assert_eq!(own(green.request(&[shop, of_baseline, since]).0), removed);
    for path in [shop, (":path", "/")] {
        assert_eq!(own(baseline.request(&[path, of_green, since]).0), removed);
        assert_eq!(own(baseline.request(&[path, of_baseline, since]).0), [""; 0]);
    }
    let mut unchanged = site(0, json!({}));
    let (request, response) = unchanged.exchange(&[shop, of_baseline, since], &etag);
    assert_eq!((own(request), own(response)), (vec![], vec![]));
}

#[test]
fn responses_are_kept_from_caches_in_front() {
    let overriding =
        ["surrogate-control", "cdn-cache-control", "Acme-CDN-Cache-Control", "edge-control", "x-accel-expires"];
    let headers: Vec<(&str, &str)> = [(":status", "200"), ("cache-control", "private")]
        .into_iter()
        .chain(overriding.map(|name| (name, "60")))
        .collect();
    let mut site = Site::new(&plugin(&variants()));
    assert_eq!(site.exchange(&[(":path", "/shop")], &headers).1, overriding.map(|name| format!("-{name}")));
    assert_eq!(site.exchange(&[(":path", "/")], &headers).1, [""; 0]);

    // Even where caching is left to the origin, a cookie is one visitor's.
    let unchanged = json!({"visitor": {"mint": {"secure": false}}, "response": {"downstream_caching": "unchanged"}});
    let mut site = Site::new(&reporting(&json!({}), &unchanged));
    let public = [(":status", "200"), ("cache-control", "public, max-age=60"), ("x-accel-expires", "60")];
    let (_, written) = site.exchange(&[("x-user-id", "")], &public);
    let expected = ["cache-control=private, max-age=60", "-x-accel-expires"];
    assert_eq!(written.iter().filter(|line| !line.starts_with("set-cookie")).collect::<Vec<_>>(), expected);
    let cookie = format!("ab_visitor={}", "00000000-0000-4000-8000-000000000000");
    assert_eq!(site.exchange(&[("cookie", &cookie)], &public).1, [""; 0]);
}

/// The cookies that a response sets: `name=value`, and a minus in front of those that it removes with this domain.
fn set_cookies(written: &[String]) -> Vec<String> {
    let cookies = written.iter().filter_map(|line| line.strip_prefix("set-cookie: "));
    let short = |cookie: &str| {
        let mut parts = cookie.split("; ");
        let (pair, rest): (_, Vec<&str>) = (parts.next().unwrap(), parts.collect());
        let domain = rest.iter().find_map(|part| part.strip_prefix("Domain=")).unwrap_or("host");
        let name = pair.split('=').next().unwrap();
        if rest.contains(&"Max-Age=0") { format!("-{name} {domain}") } else { format!("{pair} {domain}") }
    };
    cookies.map(short).collect()
}

#[test]
fn cookies_of_an_earlier_domain_are_removed_once() {
    let variants = json!([{"key": "control", "weight": 5000, "baseline": true}, {"key": "green", "weight": 5000}]);
    let experiments = json!([{"key": "nav", "state": "running", "sticky": true, "variants": variants}]);
    let cookie = json!({"domain": "shop.example", "secure": false});
    let mut site = Site::new(&json!({"experiments": {"inline": {"schema": 1, "experiments": experiments}},
        "visitor": {"mint": cookie, "consent": {"cookie": "consent", "contains": "yes"}}, "request": {"sticky": cookie}}));
    let [old, new] = ["1", "2"].map(|digit| format!("00000000-0000-4000-8000-00000000000{digit}"));
    let mut ask = |cookies: &str| {
        let headers = [(":authority", "www.shop.example"), ("cookie", cookies), ("x-user-id", "")];
        set_cookies(&site.request(&headers).1)
    };
    let ours = |id: &str, variant: &str| format!("ab_visitor={id}; ab_sticky=1~nav.0.{variant}; consent=yes");
    let settled = ours(&old, "green");
    assert_eq!(ask(&settled), [""; 0], "one of each");
    assert_eq!(ask(&format!("{settled}; ab_visitor={old}; ab_sticky=1~nav.0.green")), [""; 0], "twice the same");
    assert_eq!(ask(&format!("ab_visitor=forged; {settled}; ab_visitor=other")), [""; 0], "the site's own");
    let removed = |name: &str| [format!("-{name} host"), format!("-{name} www.shop.example")];
    let twice = ask(&format!("{settled}; ab_visitor={new}"));
    assert_eq!(twice, [&removed("ab_visitor")[..], &[format!("ab_visitor={old} shop.example")]].concat());
    let twice = ask(&format!("{settled}; ab_sticky=1~nav.0.control~later.0.b"));
    let kept = ["ab_sticky=1~nav.0.green~later.0.b shop.example".to_owned()];
    assert_eq!(twice[1..], [&removed("ab_sticky")[..], &kept].concat());
    assert_eq!(twice[0], format!("ab_visitor={old} shop.example"), "renewed with it");
    // Without consent, the cookies of both domains go.
    let without = ask(&settled.replace("yes", "no"));
    let all = |name: &str| [&removed(name)[..], &[format!("-{name} shop.example")]].concat();
    assert_eq!(without, [all("ab_visitor"), all("ab_sticky")].concat());
    assert_eq!(site.count("cookies.removed"), 2);
}

#[test]
fn growthbook_cookies_are_bounded() {
    let feature = json!({"rules": [{"key": "exp", "variations": ["a", "b"], "weights": [0.5, 0.5], "coverage": 1,
                                    "hashAttribute": "id", "hashVersion": 2, "meta": [{"key": "0"}, {"key": "1"}]}]});
    let inline = json!({"features": {"nav": feature}});
    let mut site = Site::new(&json!({"experiments": {"format": "growthbook", "inline": inline},
        "visitor": {"id": [{"header": "x-user-id"}]}, "request": {"sticky": {"secure": false}}}));
    // A browser on which one visitor after the other logs in.
    let mut jar: Vec<(String, String)> = Vec::new();
    let mut largest = 0;
    for visitor in 0..60 {
        let cookies: Vec<String> = jar.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let cookies = cookies.join("; ");
        largest = largest.max(cookies.len());
        let id = format!("visitor-{visitor}");
        let (_, written) = site.request(&[("cookie", &cookies), ("x-user-id", &id)]);
        let changes = set_cookies(&written);
        assert!((1..=2).contains(&changes.len()), "{changes:?}");
        for change in &changes {
            let cookie = change.rsplit_once(' ').unwrap().0;
            match cookie.strip_prefix('-') {
                Some(removed) => jar.retain(|(name, _)| name != removed),
                None => {
                    let (name, value) = cookie.split_once('=').unwrap();
                    jar.retain(|(known, _)| known != name);
                    jar.push((name.to_owned(), value.to_owned()));
                }
            }
        }
        assert!(jar.last().unwrap().0.ends_with(&id), "the visitor's own is kept: {jar:?}");
    }
    assert!(jar.len() <= 16 && largest < 5_000, "{} cookies, {largest} bytes", jar.len());
    assert_eq!(site.count("cookies.removed"), 60 - jar.len() as u64);
}

#[test]
fn vendors_exposures_beyond_the_limit_come_with_the_next_request() {
    let rule = |number: usize| json!({"key": format!("e{number:03}"), "variations": [0, 1]});
    let feature = |number: usize| (format!("f{number}"), json!({"defaultValue": 0, "rules": [rule(number)]}));
    let features: serde_json::Map<_, _> = (0..300).map(feature).collect();
    let mut site = Site::new(&json!({"experiments": {"format": "growthbook", "inline": {"features": features}},
        "visitor": {"id": [{"header": "x-user-id"}]}, "events": {"cluster": "c", "format": "growthbook"}}));
    let events = [(); 4].map(|()| site.events(&[]));
    assert!(events[0] < 200 && events[3] == 0, "{events:?}");
    assert_eq!((events.iter().sum::<u64>(), site.count("errors.event_limit")), (300, 2));
}
