//! Hostile clients in front of the cache recipes of `envoy/`: after 10,000 of their requests, honest visitors receive
//! only pages that they would have received without them.
#![allow(missing_docs)]
// Helpers of tests fail as tests do: by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice)]

use edgesplit_filter::http::url::percent_decoded;
use edgesplit_testkit::caches::{Cache, on_port, on_socket, start_envoy};
use edgesplit_testkit::client::Outgoing;
use edgesplit_testkit::envoy::Envoy;
use edgesplit_testkit::http::{Request, Response};
use edgesplit_testkit::random::Random;
use edgesplit_testkit::roles::Origin;
use edgesplit_testkit::stack::document;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

const HOSTILE_REQUESTS: usize = 10_000;
/// Connections that ask side by side.
const CLIENTS: usize = 4;
const PAGES: usize = 125;
const VISITORS: usize = 8;
/// Headers that the origin acts on.
const TRUSTED: [&str; 5] = ["x-ab-assignments", "x-ab-cache-key", "x-button", "x-nav", "x-price"];
/// Parameters that the origin acts on.
const PARAMETERS: [&str; 2] = ["__ab", "__ab_preview"];
/// What a hostile client writes where a variant's name or a cache key belongs.
const FORGED: [&str; 9] =
    ["", "evil", "nav.mega", "button.blue~nav.mega", "nav=mega", "button=blue, nav=evil", "1~0~a.b~c", ",", "%00"];
/// Only the filter protects: the recipes' second line of defence is off.
const UNDEFENDED: [(&str, &str); 2] = [
    ("headers_with_underscores_action: REJECT_REQUEST", "headers_with_underscores_action: ALLOW"),
    ("path_with_escaped_slashes_action: REJECT_REQUEST", "path_with_escaped_slashes_action: KEEP_UNCHANGED"),
];

/// Experiments with headers, and one that rewrites the path.
fn experiments() -> Value {
    let halves = |key: &str, set: Value| {
        json!({"key": key, "state": "running", "sticky": true, "route": {"paths": ["/shop/*"]},
               "variants": [{"key": "plain", "weight": 5000, "baseline": true},
                            {"key": "other", "weight": 5000, "set": set}]})
    };
    document(&[
        halves("button", json!({"request_headers": {"x-button": "blue"}})),
        halves("nav", json!({"request_headers": {"x-nav": "mega"}})),
        halves("layout", json!({"path": {"prefix": "/shop", "with": "/v2"}})),
    ])
}

/// An application that trusts the proxy in front. It folds the names of headers as CGI does, decodes parameters, and
/// writes into the page everything that it acts on. Baselines are like no experiment to it, as docs/caches.md demands.
fn application(request: &Request) -> Response {
    let mut acted_on = BTreeSet::new();
    for (name, value) in &request.headers {
        let name = String::from_utf8_lossy(name).to_ascii_lowercase().replace('_', "-");
        if TRUSTED.contains(&name.as_str()) {
            let value = String::from_utf8_lossy(value);
            let values = value.split(',').map(str::trim).filter(|value| !value.ends_with("=plain"));
            acted_on.extend(values.filter(|value| !value.is_empty()).map(|value| format!("{name}: {value}")));
        }
    }
    let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
    for pair in query.split(['&', ';']) {
        let pair = String::from_utf8_lossy(&percent_decoded(pair.as_bytes())).into_owned();
        if PARAMETERS.contains(&pair.split('=').next().unwrap()) {
            acted_on.insert(format!("?{pair}"));
        }
    }
    let host = request.header("host").unwrap_or_default();
    let page = format!("{host} {path} {acted_on:?}");
    let length = page.len();
    let etag = format!("\"{:x}\"", page.bytes().fold(7_u64, |hash, byte| hash.wrapping_mul(31) ^ u64::from(byte)));
    let confirms = |value: String| value == "*" || value.contains(&etag);
    let (status, page) = match request.header("range").as_deref() {
        _ if request.header("if-none-match").is_some_and(confirms) => (304, String::new()),
        Some("bytes=0-9") => (206, page[..10].to_owned()),
        _ => (200, page),
    };
    let response = Response::new(status)
        .header("cache-control", "public, max-age=600")
        .header("date", httpdate::fmt_http_date(std::time::SystemTime::now()))
        .header("etag", etag);
    match status {
        206 => response.header("content-range", format!("bytes 0-9/{length}")).body(page),
        _ => response.body(page),
    }
}

/// Visitors of even numbers are known by a header, the others by the filter's cookie.
fn identified(outgoing: Outgoing, visitor: usize) -> Outgoing {
    match visitor.is_multiple_of(2) {
        true => outgoing.header("x-user-id", format!("visitor-{visitor}")),
        false => outgoing.header("cookie", format!("ab_visitor=00000000-0000-4000-8000-{visitor:012}")),
    }
}

/// The requests of all honest visitors for all pages.
fn honest_requests() -> Vec<Outgoing> {
    let page = |page: usize| (0..VISITORS).map(move |visitor| identified(Outgoing::get(&path(page)), visitor));
    (0..PAGES).flat_map(page).collect()
}

fn path(page: usize) -> String {
    format!("/shop/{page}")
}

/// A name with random case, and `_` or `-` at random for each of them; sometimes with a prefix that CGI adds.
fn spelled(name: &str, random: &mut Random) -> String {
    let letter = |letter: char| match letter {
        '-' | '_' => random.pick(&['-', '_']),
        letter => random.pick(&[letter, letter.to_ascii_uppercase()]),
    };
    let name: String = name.chars().map(letter).collect();
    format!("{}{name}", random.pick(&["", "", "", "", "", "http-", "HTTP_"]))
}

/// Text of which random characters are percent-encoded, in either case, and rarely twice.
fn encoded(text: &str, random: &mut Random) -> String {
    let character = |byte: u8| match random.below(8) {
        0 => format!("%{byte:02x}"),
        1 => format!("%{byte:02X}"),
        2 if random.below(8) == 0 => format!("%25{byte:02X}"),
        _ => char::from(byte).to_string(),
    };
    text.bytes().map(character).collect()
}

/// A query with owned parameters: encoded, repeated, empty, between others.
fn query(random: &mut Random) -> String {
    let mut pairs = Vec::new();
    for _ in 0..=random.below(3) {
        let name = random.pick(&PARAMETERS);
        let name = encoded(name, random);
        pairs.push(match random.below(4) {
            0 => name,
            1 => random.pick(&["", "a=1", "=", "%", "%ff=1"]).to_owned(),
            _ => format!("{name}={}", random.pick(&FORGED).replace(' ', "+")),
        });
    }
    pairs.join(random.pick(&["&", "&", "&", "&&", ";"]))
}

/// Another way to write the path of a page.
fn written(path: &str, random: &mut Random) -> String {
    let page = path.strip_prefix("/shop/").unwrap();
    match random.below(10) {
        0 => format!("//shop//{page}"),
        1 => format!("/shop/x/../{page}"),
        2 => format!("/shop/%2e%2E/shop/./{page}"),
        3 => format!("/shop%2F{page}"),
        4 => format!("/sh%6Fp/{page}"),
        5 => format!("/shop/{page}%ff"),
        6 => format!("http://shop.example/shop/{page}"),
        7 => format!("/v2/{page}"),
        8 => format!("/shop/{page}#/../{page}"),
        _ => format!("/shop\\{page}"),
    }
}

/// One to four attacks in one request.
fn hostile_request(random: &mut Random) -> Outgoing {
    let mut request = Outgoing::get(&path(random.below(PAGES)));
    if random.below(4) > 0 {
        request = identified(request, random.below(VISITORS));
    }
    for _ in 0..=random.below(3) {
        request = with_attack(request, random);
    }
    if random.below(3) == 0 {
        // At the end: attacks on the path expect one without a query.
        let query = query(random);
        request.path = format!("{}?{query}", request.path);
    }
    request
}

fn with_attack(mut request: Outgoing, random: &mut Random) -> Outgoing {
    let name = random.pick(&TRUSTED);
    let value = random.pick(&FORGED);
    match random.below(14) {
        0..=3 => request.header(spelled(name, random), value),
        4 => {
            let (first, second) = (spelled(name, random), spelled(name, random));
            request.header(first, value).header(second, random.pick(&FORGED))
        }
        5 => request.header(spelled(name, random), [b"evil\xff\xfe", value.as_bytes()].concat()),
        6 => request.header("connection", format!("keep-alive, {}", spelled(name, random))),
        7 => {
            if request.path.starts_with("/shop/") {
                request.path = written(&request.path, random);
            }
            request
        }
        8 => request.host(random.pick(&["shop.example.", "SHOP.example", "shop.example:80", "evil.example", "a/b"])),
        9 => {
            let value = random.pick(&["1~nav.0.other", "1~nav.0.evil~button.0.other", "1~~", "nav.mega"]);
            request.header("cookie", format!("ab_sticky={value}"))
        }
        10 => request.header("cookie", format!("ab_visitor={}; __ab=evil", random.pick(&FORGED))),
        11 => request.header("if-none-match", random.pick(&["*", "\"evil\"", "W/\"1\""])),
        12 => request.header("range", random.pick(&["bytes=0-9", "bytes=0-9", "bytes=5-", "bytes=x"])),
        _ => {
            request.method = random.pick(&["HEAD", "HEAD", "OPTIONS", "PURGE"]).to_owned();
            request
        }
    }
}

/// Sends all requests over a few connections, and returns the status and the page of each that was answered.
fn send(envoy: &Envoy, requests: &[Outgoing]) -> Vec<(u16, String)> {
    std::thread::scope(|scope| {
        let part = |(client, part)| {
            let (mut client, part): (edgesplit_testkit::client::Client, &[Outgoing]) = (client, part);
            scope.spawn(move || {
                let answer = |request| client.send(request).map_or((0, String::new()), |it| (it.status, it.text()));
                part.iter().map(answer).collect::<Vec<_>>()
            })
        };
        let parts = envoy.clients(CLIENTS).into_iter().zip(requests.chunks(requests.len().div_ceil(CLIENTS)));
        let threads: Vec<_> = parts.map(part).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    })
}

fn start_application() -> Origin {
    let origin = Origin::start().unwrap();
    origin.respond(application);
    origin
}

/// The page of each honest request where nothing caches and no client is hostile.
fn expected_pages() -> Vec<(u16, String)> {
    let origin = start_application();
    send(&start("envoy.yaml", &on_port(origin.port())), &honest_requests())
}

/// An Envoy with this recipe, a sticky cookie, preview links and one more owned header.
fn start(recipe: &str, origin: &str) -> Envoy {
    const PREVIEW: &str = "preview: {secret: 0123456789abcdef}";
    let members = format!("owned_headers: [x-price]\n{0}sticky: {{secure: false}}\n{0}{PREVIEW}", " ".repeat(22));
    let members = format!("{members}\n{}cache_key:", " ".repeat(22));
    let changes: &[(&str, &str)] = match recipe {
        "envoy.yaml" => &[
            ("owned_headers: []", "owned_headers: [x-price]"),
            ("sticky: null", "sticky: {secure: false}"),
            ("preview: null", PREVIEW),
        ],
        _ => &[("cache_key:", &members)],
    };
    start_envoy(recipe, &[&UNDEFENDED[..], changes].concat(), &experiments(), origin)
}

fn check_hostile_requests_change_no_page(envoy: &Envoy, origin: &Origin, name: &str) {
    let mut random = Random(18);
    let hostile: Vec<Outgoing> = (0..HOSTILE_REQUESTS).map(|_| hostile_request(&mut random)).collect();
    let mut statuses = BTreeMap::new();
    for (status, _) in send(envoy, &hostile) {
        *statuses.entry(status).or_insert(0) += 1;
    }
    let before = origin.server.requests_received();
    let honest = honest_requests();
    let received = send(envoy, &honest);
    let hits = honest.len() as u64 - (origin.server.requests_received() - before);
    println!("{name}: hostile requests by status: {statuses:?}; {hits} of {} honest ones from the cache", honest.len());
    let expected = expected_pages();
    let wrong: Vec<_> =
        honest.iter().zip(received.iter().zip(&expected)).filter(|(_, (got, expected))| got != expected).collect();
    let named = wrong.iter().map(|(request, pages)| format!("{} {pages:?}", request.path));
    let named: Vec<String> = named.take(3).collect();
    assert!(wrong.is_empty(), "{name}: {} wrong pages, such as {named:#?}", wrong.len());
    // The test is about something: hostile requests are served, and so are their pages.
    assert!(statuses[&200] > HOSTILE_REQUESTS / 2 && hits > 500, "{statuses:?}, {hits} hits");
    let pages: BTreeSet<_> = expected.iter().collect();
    assert!(pages.len() > 3 * PAGES && expected.iter().all(|(status, _)| *status == 200), "{pages:?}");
}

#[test]
fn envoy_s_own_cache_keeps_no_hostile_page() {
    let origin = start_application();
    let envoy = start("cache-envoy.yaml", &on_port(origin.port()));
    check_hostile_requests_change_no_page(&envoy, &origin, "cache_v2");
}

#[test]
fn varnish_keeps_no_hostile_page() {
    let origin = start_application();
    let Some(varnish) = Cache::varnish(origin.port()) else { return };
    let envoy = start("envoy.yaml", &on_socket(&varnish.socket()));
    check_hostile_requests_change_no_page(&envoy, &origin, "Varnish");
}

#[test]
fn nginx_keeps_no_hostile_page() {
    let origin = start_application();
    let Some(nginx) = Cache::nginx(origin.port()) else { return };
    let envoy = start("envoy.yaml", &on_socket(&nginx.socket()));
    check_hostile_requests_change_no_page(&envoy, &origin, "nginx");
}
