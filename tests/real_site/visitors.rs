//! Visitors of a whole site, with browsers: cookie jars, redirects, prefetches, preflights, parallel requests, and ways back.
//! The exposures must be exactly the visitors who were shown each variant.
//!
//! `SITE_SEEDS=20` runs more visits than one.

use super::jar::Jar;
use super::plugin;
use edgesplit_engine::sample_ratio::{SampleRatio, WATCHED_P_VALUE};
use edgesplit_testkit::client::{Client, Outgoing, Reply};
use edgesplit_testkit::eventually;
use edgesplit_testkit::http::{Request, Response};
use edgesplit_testkit::random::Random;
use edgesplit_testkit::stack::{Accounts, Services, document};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;
use url::Url;

const VISITORS: u64 = 2_000;
const PAGES: [&str; 12] = [
    "/",
    "/welcome",
    "/products",
    "/products/1",
    "/products/2",
    "/cart",
    "/checkout",
    "/checkout/done",
    "/account",
    "/blog",
    "/blog/1",
    "/search?q=shoes",
];
/// Links that the origin redirects.
const MOVED: [(&str, &str); 3] = [("/sale", "/products"), ("/old-blog", "/blog"), ("/shop", "/sale")];
const RESOURCES: [(&str, &str); 3] = [("/app.js", "script"), ("/style.css", "style"), ("/logo.png", "image")];
const REDIRECTS_MAX: usize = 5;
const COOKIE: &str = "ab_visitor";
const DEADLINE: Duration = Duration::from_secs(60);

/// A visitor who was shown a variant: unit, experiment, variant.
type Shown = (String, String, String);

fn site(request: &Request) -> Response {
    if let Some((_, target)) = MOVED.iter().find(|(path, _)| *path == request.path) {
        return Response::new(302).header("location", *target);
    }
    let shown = request.header("x-ab-assignments").unwrap_or_default();
    Response::new(200).header("content-type", "text/html").body(shown)
}

fn experiments() -> [(&'static str, Value); 4] {
    let halves = |key: &str, route: &[&str], green: Value| {
        json!({"key": key, "state": "running", "route": {"paths": route}, "variants": [
            {"key": "control", "weight": 5000, "baseline": true}, {"key": "green", "weight": 5000, "set": green}]})
    };
    let thirds = json!({"key": "blog", "state": "running", "route": {"paths": ["/blog*"]}, "traffic": 5000, "variants": [
        {"key": "control", "weight": 3334, "baseline": true}, {"key": "b", "weight": 3333}, {"key": "c", "weight": 3333}]});
    [
        ("banner", halves("banner", &["*"], json!({"request_headers": {"x-banner": "green"}}))),
        (
            "checkout",
            halves("checkout", &["/checkout*"], json!({"path": {"prefix": "/checkout", "with": "/checkout-v2"}})),
        ),
        ("landing", halves("landing", &["/"], json!({"redirect": "/welcome"}))),
        ("blog", thirds),
    ]
}

/// A browser with its cookies.
struct Browser<'a> {
    random: &'a mut Random,
    clients: &'a mut [Client],
    jar: Jar,
    shown: BTreeSet<Shown>,
}

impl Browser<'_> {
    /// Sends a request on one of the connections, and keeps the cookies of the answer.
    fn send(&mut self, outgoing: Outgoing, url: &Url, cookies: &str) -> Reply {
        let mut outgoing = outgoing.host(url.host_str().unwrap()).header("x-forwarded-proto", url.scheme());
        if !cookies.is_empty() {
            outgoing = outgoing.header("cookie", cookies);
        }
        let at = self.random.below(self.clients.len());
        let reply = self.clients[at].send(&outgoing).unwrap();
        self.jar.store(&reply, url);
        reply
    }

    fn request(method: &str, url: &Url, destination: &str) -> Outgoing {
        let path = url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()));
        Outgoing::new(method, &path)
            .header("user-agent", "Mozilla/5.0 (X11; Linux x86_64)")
            .header("sec-fetch-dest", destination)
    }

    /// Displays a page: follows redirects, and notes the variants that are shown on the way.
    fn navigate(&mut self, url: &Url) {
        let mut url = url.clone();
        for _ in 0..REDIRECTS_MAX {
            let cookies = self.jar.header(&url);
            let reply = self.send(Browser::request("GET", &url, "document"), &url, &cookies);
            // What a page preloads is requested with the cookies from before its answer.
            if self.random.one_in(4) {
                self.load_resources(&url, &cookies);
            }
            let Some(id) = self.jar.value(COOKIE, &url) else { return };
            for shown in reply.text().split(", ").filter_map(|pair| pair.split_once('=')) {
                self.shown.insert((id.clone(), shown.0.to_owned(), shown.1.to_owned()));
            }
            let Some(location) = reply.header("location") else { break };
            if url.path() == "/" {
                self.shown.insert((id, "landing".to_owned(), "green".to_owned()));
            }
            url = url.join(&location).unwrap();
        }
        let cookies = self.jar.header(&url);
        self.load_resources(&url, &cookies);
    }

    fn load_resources(&mut self, page: &Url, cookies: &str) {
        for (path, destination) in RESOURCES {
            let url = page.join(path).unwrap();
            self.send(Browser::request("GET", &url, destination), &url, cookies);
        }
    }

    /// A visit of a few pages, with requests between them that show none.
    fn visit(&mut self, hosts: &[&str]) {
        // Some type the address without https: the cookie of their id would be dropped.
        if self.random.one_in(20) {
            self.navigate(&Url::parse(&format!("http://{}/", hosts[0])).unwrap());
        }
        let mut history: Vec<Url> = Vec::new();
        for _ in 0..=self.random.below(4) {
            let host = hosts[self.random.below(hosts.len())];
            let at = self.random.below(PAGES.len() + MOVED.len());
            let path = PAGES.get(at).copied().unwrap_or_else(|| MOVED[at - PAGES.len()].0);
            let url = Url::parse(&format!("https://{host}{path}")).unwrap();
            let cookies = self.jar.header(&url);
            match self.random.below(6) {
                0 => {
                    let prefetch = Browser::request("GET", &url, "document").header("sec-purpose", "prefetch");
                    self.send(prefetch, &url, &cookies);
                }
                1 => {
                    let preflight =
                        Browser::request("OPTIONS", &url, "empty").header("origin", "https://other.example");
                    self.send(preflight.header("access-control-request-method", "PUT"), &url, "");
                }
                2 => {
                    self.send(Browser::request("HEAD", &url, "empty"), &url, &cookies);
                }
                3 if !history.is_empty() => {
                    let back = history[self.random.below(history.len())].clone();
                    self.navigate(&back);
                }
                _ => {}
            }
            self.navigate(&url);
            history.push(url);
        }
    }
}

/// All visits of a seed. Each visitor's id must be one.
fn visits(clients: &mut [Client], hosts: &[&str], seed: u64) -> BTreeSet<Shown> {
    let mut random = Random(seed);
    let mut shown = BTreeSet::new();
    for _ in 0..VISITORS {
        let mut browser =
            Browser { random: &mut random, clients: &mut *clients, jar: Jar::default(), shown: BTreeSet::new() };
        browser.visit(hosts);
        let ids: BTreeSet<_> = browser.shown.iter().map(|(id, ..)| id).collect();
        assert_eq!(ids.len(), 1, "a visitor is one unit: {:?}", browser.shown);
        shown.append(&mut browser.shown);
    }
    shown
}

fn exposed(services: &Services) -> BTreeSet<Shown> {
    let events = services.collector.events().into_values().map(|received| received.event);
    let text = |event: &Value, name: &str| event[name].as_str().unwrap_or_default().to_owned();
    events
        .filter(|event| event["type"] == "exposure")
        .map(|event| (text(&event, "unit"), text(&event, "experiment"), text(&event, "variant")))
        .collect()
}

/// The splits match the weights: no visitor was lost on the way to a variant.
fn assert_no_mismatch(shown: &BTreeSet<Shown>) {
    for (key, experiment) in experiments() {
        let variants = experiment["variants"].as_array().unwrap().iter();
        let counted = variants.map(|variant| {
            let is_shown = |(_, of, name): &&Shown| of == key && *name == variant["key"];
            (shown.iter().filter(is_shown).count() as u64, variant["weight"].as_u64().unwrap() as u32)
        });
        let counts: Vec<(u64, u32)> = counted.collect();
        let ratio = SampleRatio::new(&counts).unwrap();
        assert!(ratio.p_value > WATCHED_P_VALUE, "{key}: {counts:?} {ratio:?}");
    }
}

#[test]
fn exposures_are_exactly_the_visitors_who_were_shown_the_variant() {
    let seeds: u64 = std::env::var("SITE_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(1);
    for seed in 1..=seeds {
        let services = Services::start(&json!({}));
        services.origin.respond(site);
        let domain = (seed % 2 == 0).then_some("shop.example");
        let hosts = if domain.is_some() { &["shop.example", "www.shop.example"][..] } else { &["shop.example"] };
        let mint = json!({"cookie": COOKIE, "domain": domain, "partitioned": seed % 3 == 0});
        let document = document(&experiments().map(|(_, experiment)| experiment));
        let envoy = services.envoy(&plugin(document, json!({"visitor": {"id": [], "mint": mint}})));
        let shown = visits(&mut envoy.clients(4), hosts, seed);
        let units: BTreeSet<_> = shown.iter().map(|(id, ..)| id).collect();
        assert_eq!(units.len() as u64, VISITORS, "every visitor is counted once");
        eventually(DEADLINE, "all exposures have arrived", || {
            let accounts = Accounts::of(&envoy);
            (exposed(&services).len() >= shown.len() && accounts.delivered == accounts.emitted).then_some(())
        });
        let exposed = exposed(&services);
        let missing: Vec<_> = shown.difference(&exposed).take(5).collect();
        let false_ones: Vec<_> = exposed.difference(&shown).take(5).collect();
        assert!(missing.is_empty() && false_ones.is_empty(), "seed {seed}: missing {missing:?}, false {false_ones:?}");
        assert_no_mismatch(&shown);
    }
}
