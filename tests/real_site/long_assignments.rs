//! Many experiments on one page, in front of nginx, which refuses a header line over 8 kB.

use super::{envoy_before, plugin};
use edgesplit_testkit::caches::Cache;
use edgesplit_testkit::command;
use edgesplit_testkit::stack::{Services, document, experiment};
use edgesplit_testkit::{DEADLINE, eventually};
use serde_json::{Value, json};

#[test]
fn two_hundred_experiments_make_no_header_that_nginx_refuses() {
    let services = Services::start(&json!({}));
    let server =
        format!("server {{ listen SOCKET; location / {{ proxy_pass http://127.0.0.1:{}; }} }}", services.origin.port());
    let Some(nginx) = Cache::nginx_with(&server) else { return };
    let variants = json!([{"key": "control", "weight": 10000, "baseline": true}]);
    let experiments: Vec<Value> = (0..200)
        .map(|number| experiment(&format!("{number:03}-{}", "x".repeat(40)), json!({"variants": variants})))
        .collect();
    let with = |bytes: u32| plugin(document(&experiments), json!({"request": {"assignments_max_bytes": bytes}}));
    let unlimited = envoy_before(&services, &nginx, &with(65_536));
    assert_eq!(unlimited.client().get("/").header("x-user-id", "u1").send().status, 400, "nginx refuses it");

    let envoy = envoy_before(&services, &nginx, &with(4_096));
    assert_eq!(envoy.client().get("/").header("x-user-id", "u1").send().status, 200);
    let length = services.origin.last_request().header("x-ab-assignments").unwrap().len();
    assert!((4_000..=4_096).contains(&length), "{length}");
    eventually(DEADLINE, "the gauge", || {
        (envoy.counter("edgesplit.demo.config.disabled_experiments") > 100).then_some(())
    });

    let file = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("long_assignments.json");
    std::fs::write(&file, document(&experiments).to_string()).unwrap();
    let output = command::edgesplit(&["validate", file.to_str().unwrap()], "");
    let problems = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{problems}");
    assert!(problems.contains("assignments_max_bytes"), "{problems}");
}
