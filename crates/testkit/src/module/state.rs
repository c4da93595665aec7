//! The state of a VM outside the module, with the host that it borrows for each callback.
#![allow(unsafe_code, reason = "host functions have to reach a host that lives only as long as one callback")]

use edgesplit_filter::host::{Call, DispatchError, Headers, Host, HostError, MetricKind, SetError, StreamHost};
use edgesplit_filter::http::headers::{HeaderBlock, HeaderMap};
use std::any::Any;
use wasmi::{Memory, Store};

/// All host calls of the module.
pub trait ModuleHost: Host + StreamHost {}

impl<H: Host + StreamHost> ModuleHost for H {}

/// The data of a VM's host functions.
pub struct State {
    /// The host of the running callback. Null between callbacks.
    host: *const dyn ModuleHost,
    pub plugin: String,
    pub configuration: Vec<u8>,
    pub reply: Option<(HeaderBlock, Vec<u8>)>,
    pub memory: Option<Memory>,
    pub unwound: Option<Box<dyn Any + Send>>,
    pub last_log: String,
    /// The tick period that the module asked for.
    pub tick_period_ms: u32,
}

impl State {
    pub fn new(plugin: &str) -> State {
        State {
            host: std::ptr::null::<NoHost>(),
            plugin: plugin.to_owned(),
            configuration: Vec::new(),
            reply: None,
            memory: None,
            unwound: None,
            last_log: String::new(),
            tick_period_ms: 0,
        }
    }

    pub fn host(&self) -> &dyn ModuleHost {
        assert!(!self.host.is_null(), "a host call outside a callback");
        // SAFETY: `lend` sets the pointer to a host that outlives the callback, and removes it afterwards.
        unsafe { &*self.host }
    }
}

/// Runs a callback while the VM has this host.
pub fn lend<T>(store: &mut Store<State>, host: &dyn ModuleHost, callback: impl FnOnce(&mut Store<State>) -> T) -> T {
    // SAFETY: only the lifetime changes; the pointer is removed before this function returns.
    store.data_mut().host =
        unsafe { std::mem::transmute::<*const dyn ModuleHost, *const dyn ModuleHost>(std::ptr::from_ref(host)) };
    let result = callback(store);
    store.data_mut().host = std::ptr::null::<NoHost>();
    result
}

/// Stands for the host between callbacks, when there is none: calling it unwinds.
pub struct NoHost;

fn gone() -> ! {
    std::panic::resume_unwind(Box::new("there is no host"))
}

impl Host for NoHost {
    fn now_ms(&self) -> i64 {
        gone()
    }
    fn random(&self) -> u128 {
        gone()
    }
    fn log(&self, _level: log::Level, _message: &str) {
        gone()
    }
    fn shared_get(&self, _key: &str) -> Result<edgesplit_filter::host::Shared, HostError> {
        gone()
    }
    fn shared_set(&self, _key: &str, _value: &[u8], _cas: u32) -> Result<(), SetError> {
        gone()
    }
    fn dispatch(&self, _call: &Call<'_>) -> Result<u32, DispatchError> {
        gone()
    }
    fn define_metric(&self, _kind: MetricKind, _name: &str) -> Option<u32> {
        gone()
    }
    fn increment(&self, _metric: u32, _by: i64) {
        gone()
    }
    fn record(&self, _metric: u32, _value: u64) {
        gone()
    }
}

impl StreamHost for NoHost {
    fn headers<'a>(&'a self, _which: Headers, _block: &'a mut HeaderBlock) -> HeaderMap<'a> {
        gone()
    }
    fn response_status(&self) -> Option<u16> {
        gone()
    }
    fn set_header(&self, _which: Headers, _name: &str, _value: &[u8]) {
        gone()
    }
    fn add_header(&self, _which: Headers, _name: &str, _value: &[u8]) {
        gone()
    }
    fn remove_header(&self, _which: Headers, _name: &str) {
        gone()
    }
    fn respond(&self, _status: u32, _headers: &[(&str, &str)]) -> bool {
        gone()
    }
}
