//! The work of the built module for one request, counted: the instructions for hostile headers of up to 60 kB, with configs
//! near their limits. A client must not be able to hold a worker.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "request_steps/attributes.rs"]
mod attributes;

use attributes::{attribute_cases, many_flags};
use edgesplit_filter::http::headers::HeaderBlock;
use edgesplit_testkit::module::recording_host::RecordingHost;
use edgesplit_testkit::module::{Compiled, ModuleVm};
use serde_json::{Value, json};
use std::path::Path;

/// How many instructions a request and its response may take together, counted as `Work` does, which counts branches that are
/// not taken too. V8 takes about 5 ms at most for each of the cases here.
const INSTRUCTIONS_MAX: u64 = 160_000_000;

/// How many bytes of headers a client sends: Envoy's default limit.
const HEADER_BYTES: usize = 60_000;

/// A header's value of the most bytes that a client may send.
fn filled(part: &str) -> String {
    part.repeat(HEADER_BYTES / part.len())
}

fn list(count: usize, value: impl Fn(usize) -> Value) -> Value {
    (0..count).map(value).collect()
}

/// Native experiments with this audience each.
fn native(count: usize, audience: impl Fn(usize) -> Value) -> Value {
    let experiment = |number: usize| {
        json!({"key": format!("e{number}"), "state": "running", "sticky": true, "audience": audience(number), "variants": [
            {"key": "control", "weight": 5000, "baseline": true},
            {"key": "treatment", "weight": 5000, "set": {"request_headers": {format!("x-e{number}"): "1"}}}]})
    };
    json!({"schema": 1, "experiments": list(count, experiment)})
}

/// Experiments whose audiences are as many checks as there may be: each of these attributes in turn, with `check`.
fn checks(attributes: &[&str], check: &Value) -> Value {
    native(64, |_| json!({"$nor": list(300, |at| json!({attributes[at % attributes.len()]: check}))}))
}

/// Features with this condition each.
fn growthbook(count: usize, condition: impl Fn(usize) -> Value) -> Value {
    let feature = |number: usize| {
        let rule = json!({"key": format!("e{number}"), "variations": [false, true], "weights": [0.5, 0.5],
            "hashAttribute": format!("header.x-{}", number % 32), "condition": condition(number)});
        (format!("f{number}"), json!({"defaultValue": false, "rules": [rule]}))
    };
    json!({"features": (0..count).map(feature).collect::<serde_json::Map<_, _>>()})
}

struct Case {
    name: &'static str,
    plugin: Value,
    experiments: Value,
    headers: Vec<(String, String)>,
}

fn case(name: &'static str, plugin: Value, experiments: Value, headers: &[(&str, &str)]) -> Case {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Case { name, plugin, experiments, headers }
}

/// Headers with these names and this value, as many as a client may send.
fn many(name: impl Fn(usize) -> String, value: &str) -> Vec<(String, String)> {
    let mut bytes = 0;
    let headers = (0..).map(|number| (name(number), value.to_owned()));
    headers
        .take_while(|(name, value)| {
            bytes += name.len() + value.len();
            bytes < HEADER_BYTES
        })
        .collect()
}

fn identity_cases() -> Vec<Case> {
    let ids = json!({"visitor": {"id": list(8, |at| json!({"cookie": format!("a{at}")})), "mint": {},
        "consent": {"cookie": "acc", "contains": "x"}, "attributes": {"plan": "cookie.azz"}}});
    let everyone = || native(64, |_| json!({}));
    let bots = json!({"visitor": {"id": [{"cookie": "uid"}],
        "bot_patterns": list(256, |at| format!("{}{at:03}", "a".repeat(120)).into())}});
    let token = |payload: &str| {
        use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
        format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(payload))
    };
    let jwt =
        json!({"visitor": {"id": list(8, |at| json!({"header": "authorization", "jwt_claim": format!("c{at}")}))}});
    let preview = json!({"visitor": {"id": [{"cookie": "uid"}]}, "request": {
        "preview": {"secret": "a secret of 25 bytes, yes"}, "cache_key": {"query": "ab"}}});
    let sticky = json!({"visitor": {"id": [{"cookie": "uid"}]}, "request": {"sticky": {"cookie": "ab_sticky"}}});
    let owned = json!({"visitor": {"id": [{"cookie": "uid"}]}, "request": {"owned_headers": ["x-o*", "x-p-*"]}});
    let uid = ("cookie", "uid=1");
    vec![
        case("a long id", json!({"visitor": {"id": [{"header": "x-id"}]}}), everyone(), &[("x-id", &filled("a"))]),
        case("short cookies", ids.clone(), everyone(), &[("cookie", &filled("a;"))]),
        case("cookies with the first letter of ours", ids.clone(), everyone(), &[("cookie", &filled("a=;"))]),
        case("spaces between cookies", ids.clone(), everyone(), &[("cookie", &filled(" "))]),
        case("minted ids that are none", ids, everyone(), &[("cookie", &filled("ab_visitor=0;"))]),
        case("user agents", bots, everyone(), &[uid, ("user-agent", &filled("a"))]),
        case("a deep token", jwt.clone(), everyone(), &[("authorization", &token(&"[".repeat(6_000)))]),
        case(
            "a token of numbers",
            jwt.clone(),
            everyone(),
            &[("authorization", &token(&format!("{{\"a\":[{}1]}}", "1,".repeat(3_000))))],
        ),
        case("a long token", jwt, everyone(), &[("authorization", &filled("."))]),
        case("separators in a query", preview.clone(), everyone(), &[uid, (":path", &format!("/?{}", filled("&")))]),
        case("our parameters", preview.clone(), everyone(), &[uid, (":path", &format!("/?{}", filled("ab=1&")))]),
        case("encoded parameters", preview.clone(), everyone(), &[uid, (":path", &format!("/?{}", filled("%61b=1&")))]),
        case(
            "preview tokens",
            preview,
            everyone(),
            &[uid, (":path", &format!("/?{}", filled("__ab_preview=a.b~c.d&")))],
        ),
        case(
            "a long sticky cookie",
            sticky.clone(),
            everyone(),
            &[("cookie", &format!("uid=1; ab_sticky={}", filled("a.1.b~")))],
        ),
        case("sticky cookies", sticky, everyone(), &[("cookie", &format!("uid=1; {}", filled("ab_sticky=a.1.b;")))]),
        Case {
            name: "owned names",
            plugin: owned.clone(),
            experiments: everyone(),
            headers: many(|at| format!("x_o{at}"), ""),
        },
        Case {
            name: "spellings of one name",
            plugin: owned.clone(),
            experiments: everyone(),
            headers: many(
                |at| {
                    "x-ab-assignments"
                        .char_indices()
                        .map(|(place, letter)| {
                            let is_varied = at >> place & 1 == 1;
                            match letter {
                                '-' if is_varied => '_',
                                _ if is_varied => letter.to_ascii_uppercase(),
                                _ => letter,
                            }
                        })
                        .collect()
                },
                "",
            ),
        },
        case("connection", owned, everyone(), &[uid, ("connection", &filled("x_o,"))]),
        case(
            "purposes",
            json!({"visitor": {"id": [{"cookie": "uid"}]}}),
            everyone(),
            &[uid, ("sec-purpose", &filled(";")), ("x-moz", &filled("p;")), ("purpose", &filled(" "))],
        ),
    ]
}

fn condition_cases() -> Vec<Case> {
    let plugin = || json!({"visitor": {"id": [{"cookie": "uid"}], "attributes": {"plan": "cookie.plan"}}});
    let uid = ("cookie", "uid=1");
    let eq = json!("x");
    let slow = json!({"$regex": "[\\w.+-]{1,64}@example\\.com$"});
    let back = json!({"$regex": "(a*)*\\1(?=b)"});
    let search = json!({"$regex": "needle"});
    let near = "a.".repeat(1_000);
    let long_path = format!("/{}", filled("a"));
    let long_query = format!("/?{}", filled("a=b&"));
    let routes = |path: &str| {
        let mut experiments = native(64, |_| json!({}));
        for (number, experiment) in experiments["experiments"].as_array_mut().unwrap().iter_mut().enumerate() {
            experiment["route"] = json!({"paths": list(50, |at| format!("{path}{number}-{at}*").into())});
        }
        experiments
    };
    vec![
        case("header checks", plugin(), checks(&["header.x-a"], &eq), &[uid, ("x-a", &filled("a"))]),
        case("header checks, no text", plugin(), checks(&["header.x-a"], &eq), &[uid, ("x-a", &filled("ä"))]),
        Case {
            headers: many(|at| format!("x-{at}"), ""),
            ..case("checks of many headers", plugin(), checks(&["header.x-a"], &eq), &[])
        },
        case("path checks", plugin(), checks(&["path"], &eq), &[uid, (":path", &long_path)]),
        case("URL checks", plugin(), checks(&["url"], &eq), &[uid, (":path", &long_path)]),
        case("URL checks, long host", plugin(), checks(&["url"], &eq), &[uid, (":authority", &filled("A"))]),
        case("host checks", plugin(), checks(&["host"], &eq), &[uid, (":authority", &filled("A"))]),
        case("method checks", plugin(), checks(&["method"], &eq), &[uid, (":method", &filled("A"))]),
        case("query checks", plugin(), checks(&["query.plan"], &eq), &[uid, (":path", &long_query)]),
        case(
            "cookie checks",
            plugin(),
            checks(&["cookie.plan", "plan"], &eq),
            &[("cookie", &format!("uid=1;{}", filled("p;")))],
        ),
        case("number checks", plugin(), checks(&["header.x-a"], &json!({"$gt": 3})), &[uid, ("x-a", &filled("1"))]),
        case(
            "checks of the longest number",
            plugin(),
            checks(&["header.x-a"], &json!({"$lt": 3})),
            &[uid, ("x-a", &"1".repeat(1_024))],
        ),
        case(
            "version checks",
            plugin(),
            checks(&["header.x-a"], &json!({"$vgt": "1.2.3"})),
            &[uid, ("x-a", &filled("1."))],
        ),
        case(
            "set checks",
            plugin(),
            checks(&["header.x-a"], &json!({"$ini": list(10, |at| format!("v{at}").into())})),
            &[uid, ("x-a", &filled("A"))],
        ),
        case("slow patterns", plugin(), checks(&["header.x-a"], &slow), &[uid, ("x-a", &near)]),
        case("back-references", plugin(), checks(&["header.x-a"], &back), &[uid, ("x-a", &"a".repeat(2_000))]),
        case("searching patterns", plugin(), checks(&["header.x-a"], &search), &[uid, ("x-a", &"needl".repeat(400))]),
        case(
            "searches without case",
            plugin(),
            checks(&["header.x-a"], &json!({"$regexi": "needle|nadel"})),
            &[uid, ("x-a", &"Näedl".repeat(300))],
        ),
        case("patterns on a long text", plugin(), checks(&["header.x-a"], &slow), &[uid, ("x-a", &filled("a"))]),
        case("path patterns", plugin(), routes("/*a*a*a*b"), &[uid, (":path", &long_path)]),
        case("unequal path patterns", plugin(), routes("*ab*"), &[uid, (":path", &long_path)]),
    ]
}

fn growthbook_cases() -> Vec<Case> {
    let plugin = json!({"experiments": {"format": "growthbook"}, "effects": {}, "visitor": {"id": [{"cookie": "uid"}]},
        "request": {"sticky": {}}});
    let features = || growthbook(500, |at| json!({"header.x-a": {"$ne": at}}));
    let ids: String = (0..32).fold(String::new(), |all, at| format!("{all}; gbStickyBuckets__header.x-{at}||v={{}}"));
    let all: Vec<(String, String)> = (0..32).map(|at| (format!("x-{at}"), "v".to_owned())).collect();
    let encoded = format!("uid=1;{}", filled("%67bStickyBuckets__header.x-0||0={};"));
    vec![
        case("features", plugin.clone(), features(), &[("cookie", "uid=1"), ("x-a", &filled("1")), ("x-1", "v")]),
        case(
            "vendor's cookies",
            plugin.clone(),
            features(),
            &[("cookie", &format!("uid=1{ids};{}", filled("gbStickyBuckets__a||b={};"))), ("x-1", "v")],
        ),
        case(
            "encoded vendor's cookies",
            plugin.clone(),
            features(),
            &[("cookie", &format!("uid=1;{}", filled("g%62={};"))), ("x-1", "v"), ("x-2", "v")],
        ),
        Case {
            headers: [vec![("cookie".to_owned(), encoded)], all].concat(),
            ..case("vendor's cookies of all attributes", plugin, features(), &[])
        },
    ]
}

/// Goals of a visitor who is assigned a variant of as many experiments as are decided for a goal, and of more.
fn goal_cases() -> Vec<Case> {
    let plugin = |format: &str| {
        json!({"experiments": {"format": format}, "effects": {},
            "visitor": {"id": [{"cookie": "uid"}]}, "request": {"sticky": {"cookie": "ab_sticky"}}})
    };
    let goals = list(256, |at| json!({"key": format!("g{at}")}));
    let elsewhere = |count: usize, audience: &Value| {
        let mut experiments = native(count, |_| audience.clone());
        for (number, experiment) in experiments["experiments"].as_array_mut().unwrap().iter_mut().enumerate() {
            experiment["route"] = json!({"paths": [format!("/p{number}")]});
        }
        experiments["goals"] = goals.clone();
        experiments
    };
    let mut of_vendor = plugin("growthbook");
    of_vendor["experiments"]["goals"] = goals.clone();
    let uid = ("cookie", "uid=1");
    let buckets: String = (0..200).map(|number| format!("~e{number}.0.control")).collect();
    let slow = json!({"header.x-a": {"$regex": "[\\w.+-]{1,64}@example\\.com$"}});
    vec![
        case("goals", plugin("native"), elsewhere(1_000, &json!({})), &[uid]),
        case("goals with more experiments", plugin("native"), elsewhere(4_000, &json!({})), &[uid]),
        case(
            "goals with a sticky cookie",
            plugin("native"),
            elsewhere(1_000, &json!({})),
            &[("cookie", &format!("uid=1; ab_sticky=1{buckets}"))],
        ),
        case(
            "goals with slow patterns",
            plugin("native"),
            elsewhere(1_000, &slow),
            &[uid, ("x-a", &"a.".repeat(1_000))],
        ),
        case(
            "goals of a vendor",
            of_vendor,
            growthbook(1_000, |at| json!({"header.x-a": {"$ne": at}})),
            &[uid, ("x-1", "v")],
        ),
    ]
}

/// The instructions of a request and its response, the largest of two.
fn instructions(module: &Compiled, case: &Case) -> u64 {
    let mut plugin = case.plugin.clone();
    plugin["experiments"]["inline"] = case.experiments.clone();
    plugin["events"]["cluster"] = "collector".into();
    let line = [(":method", "GET"), (":scheme", "https"), (":authority", "shop.example"), (":path", "/")];
    if let Ok(folder) = std::env::var("REQUESTS") {
        // For `benches/requests.mjs`, which times them.
        let file = Path::new(&folder).join(format!("{}.json", case.name));
        let mut headers: Vec<Value> = line.iter().map(|(name, value)| json!([name, value])).collect();
        headers.retain(|pair| case.headers.iter().all(|(name, _)| pair[0] != **name));
        headers.extend(case.headers.iter().map(|(name, value)| json!([name, value])));
        std::fs::write(file, json!({"plugin": plugin, "headers": headers}).to_string()).unwrap();
        return 0;
    }
    let own: Vec<(&str, &str)> = case.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let rest = line.into_iter().filter(|(name, _)| own.iter().all(|(known, _)| known != name));
    let request = HeaderBlock::from_pairs(&rest.chain(own.iter().copied()).collect::<Vec<_>>());
    let response = HeaderBlock::from_pairs(&[(":status", "200")]);
    let host = RecordingHost { request, response, ..RecordingHost::default() };
    let mut vm = ModuleVm::start(module, &host, "bench").unwrap();
    assert!(vm.configure(&host, plugin.to_string().as_bytes()).unwrap(), "{}: {:?}", case.name, host.log.borrow());
    vm.work();
    let work = [2, 3].map(|stream| {
        vm.request(&host, stream).unwrap();
        vm.response(&host, stream).unwrap();
        vm.work().instructions
    });
    work.into_iter().max().unwrap()
}

fn check(cases: Vec<Case>) {
    let module = Compiled::built();
    let mut over = Vec::new();
    for case in cases {
        let instructions = instructions(&module, &case);
        println!("{}: {instructions} instructions", case.name);
        if instructions > INSTRUCTIONS_MAX {
            over.push(format!("{}: {instructions}", case.name));
        }
    }
    assert!(over.is_empty(), "over {INSTRUCTIONS_MAX} instructions for one request:\n{}", over.join("\n"));
}

#[test]
fn reading_headers_never_holds_a_worker() {
    check(identity_cases());
}

#[test]
fn conditions_never_hold_a_worker() {
    check(condition_cases());
}

#[test]
fn goals_never_hold_a_worker() {
    check(goal_cases());
}

#[test]
fn attributes_never_hold_a_worker() {
    check(attribute_cases());
}

#[test]
fn vendors_flags_never_hold_a_worker() {
    check(growthbook_cases());
    check(many_flags());
}
