//! The built module in the interpreter.
#![allow(missing_docs)]
// Helpers of tests fail as tests do: by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use edgesplit_filter::http::headers::HeaderBlock;
use edgesplit_testkit::module::recording_host::RecordingHost;
use edgesplit_testkit::module::{Compiled, Death, ModuleVm};
use std::path::{Path, PathBuf};

/// Every proxy of a mesh fetches the module, and compiles it when it starts.
const MODULE_BYTES_MAX: u64 = 1_000_000;

fn module_file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("dist/edgesplit.wasm")
}

fn compiled() -> Compiled {
    Compiled::built()
}

/// The module as the linker leaves it, before unused exports are removed.
fn unstripped() -> Compiled {
    Compiled::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("dist/test/unstripped.wasm"))
}

const CONFIG: &str = r#"{"experiments": {"inline": {"schema": 1, "experiments": [{"key": "nav", "state": "running",
    "variants": [{"key": "green", "weight": 10000}]}]}},
    "visitor": {"id": [{"header": "x-user-id"}]}, "events": {"cluster": "collector"}}"#;

#[test]
fn size_is_within_its_limit() {
    let bytes = std::fs::metadata(module_file()).unwrap().len();
    assert!(bytes < MODULE_BYTES_MAX, "{bytes} bytes");
}

#[test]
fn module_decides_and_reports_at_shutdown() {
    decides_and_reports_at_shutdown(&compiled());
}

#[test]
fn module_with_all_exports_works_the_same() {
    decides_and_reports_at_shutdown(&unstripped());
}

fn decides_and_reports_at_shutdown(module: &Compiled) {
    let request = [(":path", "/"), (":authority", "h"), (":method", "GET"), ("x-user-id", "u1")];
    let host = RecordingHost {
        request: HeaderBlock::from_pairs(&request),
        response: HeaderBlock::from_pairs(&[(":status", "200")]),
        ..RecordingHost::default()
    };
    let mut vm = ModuleVm::start(module, &host, "demo").unwrap();
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
fn invalid_configuration_is_rejected_with_its_path() {
    let host = RecordingHost::default();
    let mut vm = ModuleVm::start(&compiled(), &host, "demo").unwrap();
    assert!(!vm.configure(&host, b"{\"experiments\": {\"cluster\": 7}}").unwrap());
    assert!(host.log.borrow().iter().any(|line| line.contains("experiments.cluster: ")), "{:?}", host.log.borrow());
}

#[test]
fn log_lines_escape_control_and_bidi_characters() {
    let host = RecordingHost::default();
    let mut vm = ModuleVm::start(&compiled(), &host, "demo").unwrap();
    let config = "{\"experiments\": {\"cluster\": \"c\"}, \"a\\u001b[2J\\nfake\u{202e}\": 1}";
    assert!(!vm.configure(&host, config.as_bytes()).unwrap());
    let log = host.log.borrow().join("|");
    assert!(!log.contains(['\u{1b}', '\n', '\u{202e}']) && log.contains(r"fake\u{202e}"), "{log:?}");
}

#[test]
fn host_panic_ends_the_vm_only() {
    let host = RecordingHost::default();
    let mut vm = ModuleVm::start(&compiled(), &host, "demo").unwrap();
    let log = host.log.borrow_mut(); // adding a line panics while it is borrowed
    assert!(matches!(vm.configure(&host, b"{}"), Err(Death::Host(_))));
    drop(log);
}
