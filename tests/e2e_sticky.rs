//! Visitors who move when an experiment changes, in a real Envoy: with and without a sticky cookie, and with cookies that
//! the filter never wrote.
#![allow(missing_docs)]
// Helpers of tests fail as tests do: by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice)]

use edgesplit_testkit::client::{Client, Reply};
use edgesplit_testkit::random::Random;
use edgesplit_testkit::stack::{Services, document, echoed, merged};
use serde_json::{Value, json};
use std::collections::BTreeMap;

const VISITORS: usize = 2_000;
/// Connections that ask side by side, over both workers.
const CLIENTS: usize = 4;
const NONE: [&str; 0] = [];

fn experiment(with: Value) -> Value {
    let base = json!({"key": "nav", "state": "running", "sticky": true, "traffic": 10_000,
                      "variants": variants(5_000)});
    merged(base, with)
}

/// Two variants, of which the first has this weight.
fn variants(plain: u32) -> Value {
    json!([{"key": "plain", "weight": plain, "baseline": true}, {"key": "mega", "weight": 10_000 - plain}])
}

fn plugin(experiments: &[Value], with: Value) -> Value {
    let base = json!({"experiments": {"inline": document(experiments)}, "visitor": {"id": [{"header": "x-user-id"}]},
                      "request": {"sticky": {"cookie": "ab_sticky"}}});
    merged(base, with)
}

/// What a visitor was shown of the experiment, and the cookie that their browser has now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Shown {
    variant: Option<String>,
    cookie: Option<String>,
    /// Whether the response wrote it.
    written: bool,
}

/// A request of a browser that has this cookie.
fn ask(client: &mut Client, id: &str, cookie: Option<&str>) -> Shown {
    let request = client.get("/").header("x-user-id", id);
    let reply = match cookie {
        Some(cookie) => request.header("cookie", format!("other=1; {cookie}; last=2")).send(),
        None => request.send(),
    };
    assert_eq!(reply.status, 200);
    let assignments = echoed(&reply, "x-ab-assignments");
    let variant = assignments.first().map(|pair| pair.strip_prefix("nav=").unwrap().to_owned());
    let written = sticky_cookie(&reply);
    Shown { variant, written: written.is_some(), cookie: written.or_else(|| cookie.map(str::to_owned)) }
}

/// The sticky cookie that a response sets, without its attributes.
fn sticky_cookie(reply: &Reply) -> Option<String> {
    let cookies = reply.header_all("set-cookie");
    assert!(cookies.len() <= 1, "{cookies:?}");
    let cookie = cookies.first()?;
    assert!(cookie.starts_with("ab_sticky=1~"), "{cookie}");
    Some(cookie.split(';').next().unwrap().to_owned())
}

/// All visitors at an Envoy with this experiment; `cookie` gives what the browser of each has.
fn ask_all<'a>(services: &Services, experiment: Value, cookie: impl Fn(usize) -> Option<&'a str> + Sync) -> Vec<Shown> {
    let envoy = services.envoy(&plugin(&[experiment], json!({})));
    let cookie = &cookie;
    let mut shown: Vec<(usize, Shown)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (envoy.clients(CLIENTS).into_iter().enumerate())
            .map(|(first, mut client)| {
                scope.spawn(move || {
                    let numbers = (first..VISITORS).step_by(CLIENTS);
                    numbers
                        .map(|number| (number, ask(&mut client, &format!("visitor-{number}"), cookie(number))))
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    shown.sort_by_key(|(number, _)| *number);
    shown.into_iter().map(|(_, shown)| shown).collect()
}

/// The number of visitors by their old and new variant, as `diff` reports it.
fn moves<'a>(what: &str, pairs: impl Iterator<Item = (&'a Shown, &'a Shown)>) -> BTreeMap<(String, String), usize> {
    let name = |shown: &Shown| shown.variant.clone().unwrap_or_else(|| "-".to_owned());
    let mut counts = BTreeMap::new();
    for (before, after) in pairs {
        *counts.entry((name(before), name(after))).or_insert(0) += 1;
    }
    println!("{what}:");
    for ((from, to), count) in &counts {
        println!("  {} {from} -> {to}: {count}", if from == to { ' ' } else { '*' });
    }
    counts
}

fn moved(counts: &BTreeMap<(String, String), usize>) -> Vec<(&str, &str)> {
    counts.keys().filter(|(from, to)| from != to).map(|(from, to)| (from.as_str(), to.as_str())).collect()
}

#[test]
fn new_traffic_and_weights_move_only_visitors_without_a_cookie() {
    let services = Services::start(&json!({}));
    let tenth = ask_all(&services, experiment(json!({"traffic": 1_000})), |_| None);
    let half = ask_all(&services, experiment(json!({"traffic": 5_000})), |_| None);
    let counts = moves("10 % to 50 % of the traffic", tenth.iter().zip(&half));
    assert_eq!(moved(&counts), [("-", "mega"), ("-", "plain")], "who was in stays where they were");
    let in_before = tenth.iter().filter(|shown| shown.variant.is_some()).count();
    assert!((100..300).contains(&in_before), "{in_before} of {VISITORS} are a tenth");
    for shown in tenth.iter().chain(&half) {
        assert_eq!(shown.written, shown.variant.is_some(), "only visitors with a variant get the cookie: {shown:?}");
    }

    // The browsers of every second visitor have kept their cookies.
    let keeps = |number: usize| number.is_multiple_of(2);
    let other_weights = experiment(json!({"traffic": 5_000, "variants": variants(1_000)}));
    let after =
        ask_all(&services, other_weights.clone(), |number| half[number].cookie.as_deref().filter(|_| keeps(number)));
    let pairs = || half.iter().zip(&after).enumerate().filter(|(_, (before, _))| before.variant.is_some());
    let with = moves("weights 50:50 to 10:90, with cookie", pairs().filter(|(at, _)| keeps(*at)).map(|(_, pair)| pair));
    assert_eq!(moved(&with), []);
    let without = moves("and without", pairs().filter(|(at, _)| !keeps(*at)).map(|(_, pair)| pair));
    assert_eq!(moved(&without), [("plain", "mega")]);
    for (at, (_, shown)) in pairs() {
        assert_eq!(shown.written, !keeps(at), "a complete cookie is not written again: {shown:?}");
    }

    // A traffic of 0 adds no visitor. Those with a variant keep it.
    let closed = experiment(json!({"traffic": 0}));
    let after = ask_all(&services, closed, |number| half[number].cookie.as_deref().filter(|_| keeps(number)));
    for (number, (before, shown)) in half.iter().zip(&after).enumerate() {
        assert_eq!(shown.variant, before.variant.clone().filter(|_| keeps(number)), "visitor-{number}");
    }

    // A new version buckets all visitors again, and writes the new cookie.
    let (fresh, anew) = (
        ask_all(&services, other_weights.clone(), |_| None),
        ask_all(&services, merged(other_weights, json!({"sticky_version": 1})), |number| {
            half[number].cookie.as_deref()
        }),
    );
    let counts = moves("a new sticky_version, with cookie", half.iter().zip(&anew));
    assert_eq!(moved(&counts), [("plain", "mega")]);
    for (fresh, anew) in fresh.iter().zip(&anew) {
        assert_eq!((&anew.variant, anew.written), (&fresh.variant, fresh.variant.is_some()));
        let Some(variant) = &anew.variant else { continue };
        assert_eq!(anew.cookie, Some(format!("ab_sticky=1~nav.1.{variant}")));
    }

    // A removed variant has no visitors.
    let successor = experiment(json!({"traffic": 5_000, "variants": [
        {"key": "plain", "weight": 5_000, "baseline": true}, {"key": "giga", "weight": 5_000}]}));
    let after = ask_all(&services, successor, |number| half[number].cookie.as_deref());
    let counts = moves("a variant replaced by another", half.iter().zip(&after));
    assert_eq!(moved(&counts), [("mega", "giga")]);
}

#[test]
fn sticky_cookie_keeps_variants_after_login() {
    let services = Services::start(&json!({}));
    let with_mint = json!({"visitor": {"mint": {"secure": false}}});
    let envoy = services.envoy(&plugin(&[experiment(json!({}))], with_mint));
    let mut moved_without = 0;
    for number in 0..40 {
        let mut client = envoy.client();
        let first = client.get("/").send();
        let cookies: Vec<String> =
            first.header_all("set-cookie").iter().map(|cookie| cookie.split(';').next().unwrap().to_owned()).collect();
        assert_eq!(cookies.len(), 2, "an id and the bucket: {cookies:?}");
        let before = echoed(&first, "x-ab-assignments");
        assert_eq!(before.len(), 1);
        let id = format!("customer-{number}");
        let logged_in = |client: &mut Client, cookies: &str| {
            client.get("/").header("x-user-id", &id).header("cookie", cookies).send()
        };
        let kept = logged_in(&mut client, &cookies.join("; "));
        assert_eq!((echoed(&kept, "x-ab-assignments"), kept.header("set-cookie")), (before.clone(), None));
        let lost = logged_in(&mut client, cookies.iter().find(|cookie| cookie.starts_with("ab_visitor=")).unwrap());
        moved_without += usize::from(echoed(&lost, "x-ab-assignments") != before);
    }
    println!("{moved_without} of 40 would have moved without the sticky cookie");
    assert!((5..35).contains(&moved_without), "{moved_without}");
}

#[test]
fn cookie_is_written_on_changes_and_stays_within_browser_limits() {
    let services = Services::start(&json!({}));
    let page = |number: usize| format!("/page-{number}");
    let experiments: Vec<Value> = (0..70)
        .map(|number| {
            let key = format!("experiment-{number:02}-{}", "x".repeat(60));
            experiment(json!({"key": key, "route": {"paths": [page(number)]}}))
        })
        .collect();
    let envoy = services
        .envoy(&plugin(&experiments, json!({"request": {"sticky": {"max_age": "1h", "domain": "shop.example"}}})));
    let mut client = envoy.client();
    let mut cookie = String::new();
    let mut get = |path: &str, cookie: &str| client.get(path).header("x-user-id", "u1").header("cookie", cookie).send();
    for number in 0..experiments.len() {
        let reply = get(&page(number), &cookie);
        let whole = reply.header("set-cookie").unwrap();
        assert!(whole.len() <= 4096, "{}", whole.len());
        assert!(whole.ends_with("; Path=/; Domain=shop.example; Max-Age=3600; SameSite=Lax; Secure"), "{whole}");
        cookie = sticky_cookie(&reply).unwrap();
        // What is in it, and pages that are about nothing, write nothing.
        for path in [page(number), "/elsewhere".to_owned()] {
            assert_eq!(get(&path, &cookie).header("set-cookie"), None, "{path}");
        }
    }
    assert!(!cookie.contains("experiment-00-") && cookie.contains("experiment-69-"), "the oldest give way: {cookie}");
    assert!(get(&page(0), &cookie).header("set-cookie").is_some());
}

#[test]
fn without_consent_what_the_browser_has_is_taken_away() {
    let services = Services::start(&json!({}));
    let more = json!({"visitor": {"mint": {"secure": false}, "consent": {"cookie": "consent", "contains": "yes"}, "honor": ["gpc", "dnt"]}});
    let envoy = services.envoy(&plugin(&[experiment(json!({}))], more));
    let mut client = envoy.client();
    let given = client.get("/").header("cookie", "consent=yes").send().header_all("set-cookie");
    assert_eq!(given.len(), 2, "{given:?}");
    let ours: Vec<&str> = given.iter().map(|cookie| cookie.split(';').next().unwrap()).collect();
    let ours = ours.join("; ");
    for objection in [None, Some("sec-gpc"), Some("dnt")] {
        let consent = if objection.is_some() { "consent=yes" } else { "consent=no" };
        let request = client.get("/").header("cookie", format!("{consent}; {ours}; other=1"));
        let reply = match objection {
            Some(name) => request.header(name, "1").send(),
            None => request.send(),
        };
        let mut expired = reply.header_all("set-cookie");
        expired.sort();
        // An earlier configuration may have set them for the domain.
        let names = expired.iter().map(|cookie| cookie.split(';').next().unwrap()).collect::<Vec<_>>();
        assert_eq!(names, ["ab_sticky=", "ab_sticky=", "ab_visitor=", "ab_visitor="], "{expired:?}");
        assert_eq!(expired.iter().filter(|cookie| cookie.contains("Domain=shop.example")).count(), 2, "{expired:?}");
        assert!(expired.iter().all(|cookie| cookie.contains("Max-Age=0")), "{expired:?}");
        assert_eq!(echoed(&reply, "x-ab-assignments"), NONE);
    }
    // A visitor without cookies gets none.
    assert_eq!(client.get("/").header("cookie", "consent=no").send().header("set-cookie"), None);
}

/// A cookie's value that somebody has tampered with, out of bytes that a header can hold.
fn tampered(random: &mut Random) -> Vec<u8> {
    const PIECES: [&str; 20] = [
        "1",
        "2",
        "~",
        "~~",
        ".",
        "..",
        "nav",
        "nav.0.mega",
        "nav.0.plain",
        "nav.0.gone",
        "nav.1.mega",
        "nav.-1.mega",
        "nav.99999999999999999999.mega",
        "%",
        "%6eav.0.mega",
        "%ff",
        "n%61v.0.m%65ga",
        "other.0.x",
        "=",
        " ",
    ];
    let mut value = if random.below(2) == 0 { b"1~nav.0.mega~other.0.x".to_vec() } else { b"1~".to_vec() };
    for _ in 0..random.below(8) {
        let at = random.below(value.len() + 1);
        match random.below(5) {
            0 => value.truncate(at),
            1 => value.insert(at, [0x20, 0x7e, 0x80, 0xc3, 0xff, b'"', b'\t', b','][random.below(8)]),
            2 => drop(value.splice(at..at, PIECES[random.below(PIECES.len())].bytes())),
            3 => value.extend(PIECES[random.below(PIECES.len())].repeat(random.below(200)).bytes()),
            _ => {
                if let Some(byte) = value.get_mut(at) {
                    *byte = (0x21 + random.below(0xde)) as u8;
                }
            }
        }
    }
    value.iter_mut().filter(|byte| matches!(**byte, 0x7f | b';')).for_each(|byte| *byte = b'x');
    value
}

#[test]
fn ten_thousand_tampered_cookies_never_fail_a_request() {
    let services = Services::start(&json!({}));
    let envoy = services.envoy(&plugin(&[experiment(json!({}))], json!({})));
    let before = envoy.crash_counts();
    let plain = ask(&mut envoy.client(), "u1", None).variant;
    let counts: BTreeMap<(String, bool), usize> = std::thread::scope(|scope| {
        let threads: Vec<_> = (envoy.clients(CLIENTS).into_iter().zip(1..))
            .map(|(mut client, seed)| {
                scope.spawn(move || {
                    let mut random = Random(seed);
                    let mut counts = BTreeMap::new();
                    for _ in 0..10_000 / CLIENTS {
                        let value = tampered(&mut random);
                        let cookie = [b"a=1; ab_sticky=", value.as_slice(), b"; b=2"].concat();
                        let reply = client.get("/").header("x-user-id", "u1").header("cookie", &cookie).send();
                        let cookie = String::from_utf8_lossy(&value).into_owned();
                        assert_eq!(reply.status, 200, "{cookie}");
                        let assignments = echoed(&reply, "x-ab-assignments");
                        assert!(
                            ["nav=plain", "nav=mega"].contains(&assignments[0].as_str()),
                            "{cookie}: {assignments:?}"
                        );
                        let written = sticky_cookie(&reply);
                        if let Some(written) = &written {
                            assert!(written.len() < 4096 && written.is_ascii(), "{cookie}: {written}");
                        }
                        *counts.entry((assignments[0].clone(), written.is_some())).or_insert(0) += 1;
                    }
                    counts
                })
            })
            .collect();
        threads.into_iter().fold(BTreeMap::new(), |mut all, thread| {
            for (key, count) in thread.join().unwrap() {
                *all.entry(key).or_insert(0) += count;
            }
            all
        })
    });
    println!("10,000 tampered cookies, by variant and whether another is written: {counts:?}");
    assert_eq!(counts.values().sum::<usize>(), 10_000);
    // The visitor is bucketed into plain: only a cookie that is still one makes it mega.
    assert_eq!(plain.as_deref(), Some("plain"));
    assert_eq!(counts.len(), 3, "{counts:?}");
    assert_eq!(envoy.crash_counts(), before, "no crash");
    let log = envoy.log();
    assert!(!log.contains("panicked") && !log.contains("Wasm VM failed"), "{log}");
}
