//! The blocks of `docs/deployment.md` and `docs/native.md`, in a real Envoy.
#![allow(missing_docs)]
// A test fails by panicking, in its helpers too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use edgesplit_testkit::bootstrap::EnvoyOptions;
use edgesplit_testkit::envoy::{Directory, Envoy};
use edgesplit_testkit::module_under_test::built_module;
use edgesplit_testkit::page::{Block, blocks, commands, contains, has_curl};
use edgesplit_testkit::roles::Origin;
use edgesplit_testkit::{DEADLINE, eventually, root};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Command;

/// The element of a block's list, after a replacement.
fn element(block: &Block, from: &str, to: &str) -> Value {
    let text = block.lines.join("\n");
    assert!(text.contains(from), "{from}");
    let list: Vec<Value> = serde_saphyr::from_str(&text.replace(from, to)).unwrap();
    list.into_iter().next().unwrap()
}

/// A page's block of this kind.
fn block<'a>(page: &'a [Block], info: &str) -> &'a Block {
    page.iter().find(|block| block.info == info).unwrap_or_else(|| panic!("{info}"))
}

/// An Envoy with the filter of the twelve lines of `page`, in which its commands print the expected lines.
fn twelve_lines(
    page: &[Block],
    from: &str,
    module: &Path,
    adjust: impl Fn(&mut Value) + Send + Sync + 'static,
) -> (Envoy, Origin) {
    assert_eq!(block(page, "yaml filter").lines.len(), 12);
    let filter = element(block(page, "yaml filter"), from, &module.to_string_lossy());
    let origin = Origin::start().unwrap();
    let envoy = Envoy::start(&EnvoyOptions::new(origin.port()).adjust(move |bootstrap| {
        let manager = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config";
        let manager = bootstrap.pointer_mut(manager).unwrap();
        manager["http_filters"].as_array_mut().unwrap().insert(0, filter.clone());
        adjust(manager);
    }));
    let here = |text: &str| {
        let text = text.replace("127.0.0.1:10000", &format!("127.0.0.1:{}", envoy.port()));
        text.replace("127.0.0.1:9901", &format!("127.0.0.1:{}", envoy.admin_port()))
    };
    for (command, expected) in commands(block(page, "console check")) {
        eventually(DEADLINE, &format!("$ {command} prints {expected:#?}"), || {
            let output = Command::new("sh").args(["-c", &here(&command)]).output().unwrap();
            contains(&String::from_utf8_lossy(&output.stdout), &expected, here).ok()
        });
    }
    let requests = origin.server.requests();
    let assigned: Vec<_> = requests.iter().map(|request| request.header("x-ab-assignments")).collect();
    assert_eq!(assigned, [Some("aa=a".to_owned())]);
    (envoy, origin)
}

#[test]
fn twelve_lines_add_the_filter_to_an_envoy() {
    if !has_curl() {
        return;
    }
    let page = blocks("deployment");
    let folder = Directory::new().unwrap();
    let log = folder.file("access.log");
    let access_log = element(block(&page, "yaml access-log"), "/dev/stdout", &log.to_string_lossy());
    let (envoy, _origin) = twelve_lines(&page, "/etc/envoy/edgesplit.wasm", &built_module(), move |manager| {
        manager["access_log"] = Value::from(vec![access_log.clone()]);
    });

    // Without an id, and over plain http without a minted one, there is no variant.
    envoy.client().get("/").send();
    envoy.sigterm_and_wait();
    let lines = fs::read_to_string(&log).unwrap();
    let expected = [block(&page, "text access-log").lines[0].as_str(), "GET / 200 variants=-"];
    assert_eq!(lines.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn twelve_lines_add_the_native_module_to_an_envoy() {
    if has_curl() {
        twelve_lines(&blocks("native"), "/etc/envoy/libedgesplit.so", &root().join("dist/libedgesplit.so"), |_| ());
    }
}

#[test]
fn rules_for_prometheus_are_those_of_the_containers() {
    let page = blocks("native");
    let configuration = fs::read_to_string(root().join("envoy/compose/prometheus.yml")).unwrap();
    let configuration: Value = serde_saphyr::from_str(&configuration).unwrap();
    let shown: Value = serde_saphyr::from_str(&block(&page, "yaml prometheus").lines.join("\n")).unwrap();
    let rules = "metric_relabel_configs";
    assert_eq!(shown[rules], configuration["scrape_configs"][0][rules]);
}
