//! The built module in the interpreter: it starts, decides, refuses, and costs what it may.
#![allow(missing_docs)]
mod module;

use edgesplit::host::{Call, Headers, Host, HostError, MetricKind, SetError, Shared, StreamHost};
use edgesplit::http::headers::HeaderMap;
use module::{Compiled, Death, ModuleVm, NoHost};
use std::cell::RefCell;
use std::collections::BTreeMap;

/// A host in which nothing happens but what is asked.
#[derive(Default)]
struct Quiet {
    headers: Vec<(String, String)>,
    written: RefCell<Vec<String>>,
    shared: RefCell<BTreeMap<String, (Vec<u8>, u32)>>,
    calls: RefCell<Vec<String>>,
    log: RefCell<Vec<String>>,
}

impl Host for Quiet {
    fn now_ms(&self) -> i64 {
        1_795_392_000_000
    }
    fn random(&self) -> u128 {
        4
    }
    fn log(&self, _level: log::Level, message: &str) {
        self.log.borrow_mut().push(message.to_owned());
    }
    fn shared_get(&self, key: &str) -> Result<Shared, HostError> {
        let absent = Shared { value: Vec::new(), cas: Shared::ABSENT };
        Ok(self.shared.borrow().get(key).map_or(absent, |(value, cas)| Shared { value: value.clone(), cas: *cas }))
    }
    fn shared_set(&self, key: &str, value: &[u8], cas: u32) -> Result<(), SetError> {
        let mut shared = self.shared.borrow_mut();
        let next = shared.len() as u32 + shared.values().map(|(_, cas)| *cas).max().unwrap_or(0) + 1;
        match shared.get(key) {
            Some((_, now)) if *now != cas => return Err(SetError::Stale),
            _ => shared.insert(key.to_owned(), (value.to_vec(), next)),
        };
        Ok(())
    }
    fn dispatch(&self, call: &Call<'_>) -> Result<u32, HostError> {
        let mut calls = self.calls.borrow_mut();
        calls.push(format!("{} {}", call.cluster, String::from_utf8_lossy(call.body)));
        Ok(calls.len() as u32)
    }
    fn define_metric(&self, _kind: MetricKind, _name: &str) -> Option<u32> {
        Some(1)
    }
    fn increment(&self, _metric: u32, _by: i64) {}
    fn record(&self, _metric: u32, _value: u64) {}
}

impl StreamHost for Quiet {
    fn headers(&self, _which: Headers) -> HeaderMap {
        HeaderMap::from_pairs(&self.headers)
    }
    fn set_header(&self, _which: Headers, name: &str, value: &[u8]) {
        self.written.borrow_mut().push(format!("{name}={}", String::from_utf8_lossy(value)));
    }
    fn add_header(&self, _which: Headers, name: &str, value: &[u8]) {
        self.written.borrow_mut().push(format!("{name}: {}", String::from_utf8_lossy(value)));
    }
    fn remove_header(&self, _which: Headers, name: &str) {
        self.written.borrow_mut().push(format!("-{name}"));
    }
    fn respond(&self, _status: u32, _headers: &[(&str, &str)]) -> bool {
        true
    }
}

fn compiled() -> Compiled {
    Compiled::load(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("dist/edgesplit.wasm"))
}

const CONFIG: &str = r#"{"experiments": {"inline": {"schema": 1, "experiments": [{"key": "nav", "state": "running",
    "variants": [{"key": "green", "weight": 10000}]}]}},
    "visitor": {"id": [{"header": "x-user-id"}]}, "events": {"cluster": "collector"}}"#;

#[test]
fn the_module_decides_and_reports_when_it_goes() {
    let host = Quiet {
        headers: [(":path", "/"), (":authority", "h"), (":method", "GET"), (":status", "200"), ("x-user-id", "u1")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec(),
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
