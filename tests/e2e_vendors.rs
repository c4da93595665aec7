//! Vendors' payloads in a real Envoy: the same decisions as the command's, and the vendor's own sticky buckets.
#![allow(missing_docs)]
// Helpers of tests fail as tests do: by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice)]

use edgesplit_testkit::envoy::Envoy;
use edgesplit_testkit::stack::{Services, echoed};
use edgesplit_testkit::vendors::{evaluated, payload, plugin, until_served, visitors};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

const FORMATS: [&str; 6] = ["optimizely", "growthbook", "eppo", "flagd", "unleash", "posthog"];

#[test]
fn decisions_equal_those_of_the_command_in_each_format() {
    for format in FORMATS {
        let services = Services::start(&payload(format));
        let envoy = services.envoy(&plugin(format, json!({})));
        until_served(&envoy);
        let visitors = visitors();
        let results = evaluated(format, &payload(format), &visitors);
        let mut clients = envoy.clients(4);
        let (mut decisions, mut reasons) = (0, BTreeMap::<String, usize>::new());
        let mut seen = BTreeSet::new();
        for (number, (visitor, result)) in visitors.iter().zip(&results).enumerate() {
            let reply = clients[number % 4].send(&visitor.request()).unwrap();
            let header = |name: &str| echoed(&reply, name).join(",");
            assert_eq!(header("x-ab-assignments"), result["assignments"], "{visitor:?}: {result}");
            assert_eq!(header("x-ab-cache-key"), result["cache_key"], "{visitor:?}: {result}");
            for decision in result["decisions"].as_array().unwrap() {
                decisions += 1;
                *reasons.entry(decision["reason"].as_str().unwrap().to_owned()).or_default() += 1;
                seen.insert((
                    decision["key"].to_string(),
                    decision["variant"].to_string(),
                    decision["value"].to_string(),
                ));
                let set = decision["value"]["edgesplit"]["request_headers"].as_object();
                for (name, value) in set.into_iter().flatten() {
                    assert_eq!(json!(header(name)), *value, "{visitor:?}: {decision}");
                }
            }
        }
        println!("{format}: {decisions} decisions with {} outcomes, all as the command's; {reasons:?}", seen.len());
        assert_eq!(decisions, 1_000);
        assert!(seen.len() > 10 && reasons.len() >= 3, "a mixed lot: {seen:?} {reasons:?}");
    }
}

/// A payload with one experiment of these weights.
fn weighted(weights: [f64; 2], bucket_version: u64) -> Value {
    json!({"features": {"nav": {"defaultValue": "none", "rules": [
        {"key": "nav-test", "seed": "nav-test", "hashAttribute": "id", "fallbackAttribute": "device", "hashVersion": 2,
         "weights": weights, "coverage": 1, "variations": ["plain", "mega"], "meta": [{"key": "plain"}, {"key": "mega"}],
         "bucketVersion": bucket_version, "minBucketVersion": bucket_version}]}}})
}

#[test]
fn growthbook_s_sticky_cookie_keeps_visitors_where_they_are() {
    let services = Services::start(&json!({}));
    let envoy = |payload: Value| {
        services.envoy(&json!({
            "experiments": {"inline": payload, "format": "growthbook"},
            "visitor": {"id": [{"header": "x-user-id"}], "attributes": {"device": "cookie.device"}},
            "request": {"sticky": {"max_age": "1h", "secure": false}}}))
    };
    let cookie_of = |reply: &edgesplit_testkit::client::Reply| -> Option<String> {
        let cookies = reply.header_all("set-cookie");
        assert!(cookies.len() <= 1, "{cookies:?}");
        let cookie = cookies.first()?;
        assert!(cookie.ends_with("; Path=/; Max-Age=3600; SameSite=Lax"), "{cookie}");
        Some(cookie.split(';').next().unwrap().to_owned())
    };
    let (before, after, anew) =
        (envoy(weighted([0.9, 0.1], 0)), envoy(weighted([0.1, 0.9], 0)), envoy(weighted([0.1, 0.9], 1)));
    let [mut before, mut after, mut anew] = [&before, &after, &anew].map(Envoy::client);
    let ask = |client: &mut edgesplit_testkit::client::Client, id: &str, cookie: &str| {
        let reply = client.get("/").header("x-user-id", id).header("cookie", cookie).send();
        assert_eq!(reply.status, 200);
        (echoed(&reply, "x-ab-assignments"), cookie_of(&reply))
    };
    let (mut moved, mut out) = (0, 0);
    for number in 0..100 {
        let id = format!("v {number}@shop");
        let (variant, cookie) = ask(&mut before, &id, "a=1");
        let cookie = cookie.expect("a new bucket is kept");
        let (name, value) = cookie.split_once('=').unwrap();
        // As GrowthBook's own SDKs name and write it.
        assert_eq!(name, format!("gbStickyBuckets__id||v%20{number}%40shop"));
        let text = edgesplit_filter::http::url::percent_decoded(value.as_bytes()).into_owned();
        let key = variant[0].strip_prefix("nav=").unwrap();
        let expected = json!({"attributeName": "id", "attributeValue": id, "assignments": {"nav-test__0": key}});
        assert_eq!(serde_json::from_slice::<Value>(&text).unwrap(), expected);

        // With the cookie, no visitor moves and nothing is written. Without it, visitors move.
        assert_eq!(ask(&mut after, &id, &format!("a=1; {cookie}; b=2")), (variant.clone(), None));
        // Nor with one that a browser's SDK has written, which encodes less.
        let theirs = format!("{name}={}", String::from_utf8_lossy(&text).replace('"', "%22").replace(',', "%2C"));
        assert_eq!(ask(&mut after, &id, &theirs), (variant.clone(), None));
        let (fresh, written) = ask(&mut after, &id, "a=1");
        assert!(written.is_some());
        moved += usize::from(fresh != variant);
        // The bucket of another visitor does not count.
        let stolen = theirs.replace("%22v ", "%22w ");
        assert_eq!(ask(&mut after, &id, &stolen).0, fresh);
        // Visitors of an old version are excluded from the new one, as the experiment asks.
        let (none, _) = ask(&mut anew, &id, &cookie);
        out += usize::from(none.is_empty());
    }
    println!("{moved} of 100 would have moved without the cookie");
    assert!((50..100).contains(&moved), "{moved}");
    assert_eq!(out, 100);

    // Who logs in keeps the bucket of the device.
    let device = ask(&mut before, "", "device=d1");
    let kept = device.1.expect("kept under the attribute that stood in");
    assert!(kept.starts_with("gbStickyBuckets__device||d1="), "{kept}");
    assert_eq!(ask(&mut after, "u1", &format!("device=d1; {kept}")).0, device.0);
    // Without consent, the cookie is removed, from the host's domain too.
    let reply = after.get("/").header("x-user-id", "u1").header("cookie", &kept).header("sec-gpc", "1").send();
    let expired = reply.header_all("set-cookie");
    assert!(echoed(&reply, "x-ab-assignments").is_empty());
    let removal = "gbStickyBuckets__device||d1=; Path=/; ";
    let rest = "Max-Age=0; SameSite=Lax";
    assert_eq!(expired, [format!("{removal}Domain=shop.example; {rest}"), format!("{removal}{rest}")]);
}
