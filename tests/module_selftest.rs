//! The built module in the interpreter: it starts, decides, refuses, and costs what it may.
#![allow(missing_docs)]

use edgesplit_filter::http::headers::HeaderMap;
use edgesplit_testkit::module::quiet::Quiet;
use edgesplit_testkit::module::{Compiled, Death, ModuleVm, NoHost};
use std::path::{Path, PathBuf};

/// How large the module may be: every proxy of a mesh fetches it, and compiles it when it starts.
const MODULE_BYTES_MAX: u64 = 1_000_000;

fn module_file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("dist/edgesplit.wasm")
}

fn compiled() -> Compiled {
    Compiled::load(&module_file())
}

const CONFIG: &str = r#"{"experiments": {"inline": {"schema": 1, "experiments": [{"key": "nav", "state": "running",
    "variants": [{"key": "green", "weight": 10000}]}]}},
    "visitor": {"id": [{"header": "x-user-id"}]}, "events": {"cluster": "collector"}}"#;

#[test]
fn the_module_stays_small_with_all_formats_in_it() {
    let bytes = std::fs::metadata(module_file()).unwrap().len();
    assert!(bytes < MODULE_BYTES_MAX, "{bytes} bytes");
}

#[test]
fn the_module_decides_and_reports_when_it_goes() {
    let request = [(":path", "/"), (":authority", "h"), (":method", "GET"), ("x-user-id", "u1")];
    let host = Quiet {
        request: HeaderMap::from_pairs(&request),
        response: HeaderMap::from_pairs(&[(":status", "200")]),
        ..Quiet::default()
    };
    let mut vm = ModuleVm::start(&compiled(), &host, "demo").unwrap();
    assert!(vm.configure(&host, CONFIG.as_bytes()).unwrap(), "{:?}", host.log.borrow());
    assert_eq!(vm.tick_period_ms(), 100);
    assert!(vm.request(&host, 7).unwrap());
    vm.response(&host, 7).unwrap();
    let written = host.written.borrow().join("|");
    assert_eq!(written, "x-ab-assignments: nav=green|x-ab-cache-key: nav.green|cache-control: private");
    vm.shut_down(&host).unwrap();
    let calls = host.calls.borrow();
    assert_eq!(calls.len(), 1);
    assert!(calls[0].starts_with("collector {\"batch\":") && calls[0].contains("\"unit\":\"u1\""), "{calls:?}");
}

#[test]
fn a_wrong_configuration_is_refused_with_its_path() {
    let host = Quiet::default();
    let mut vm = ModuleVm::start(&compiled(), &host, "demo").unwrap();
    assert!(!vm.configure(&host, b"{\"experiments\": {\"cluster\": 7}}").unwrap());
    assert!(host.log.borrow().iter().any(|line| line.contains("experiments.cluster: ")), "{:?}", host.log.borrow());
}

#[test]
fn a_host_that_gives_up_ends_the_vm_and_not_the_test() {
    let host = Quiet::default();
    let mut vm = ModuleVm::start(&compiled(), &host, "demo").unwrap();
    assert!(matches!(vm.configure(&NoHost, CONFIG.as_bytes()), Err(Death::Host(_))));
}
