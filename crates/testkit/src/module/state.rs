//! The state of a VM outside the module, with the host that it borrows for each callback.
#![allow(unsafe_code, reason = "host functions have to reach a host that lives only as long as one callback")]

use edgesplit_filter::host::{Host, StreamHost};
use edgesplit_filter::http::headers::HeaderBlock;
use std::any::Any;
use wasmi::{Memory, Store};

/// All host calls of the module.
pub trait ModuleHost: Host + StreamHost {}

impl<H: Host + StreamHost> ModuleHost for H {}

/// The data of a VM's host functions.
pub struct State {
    /// The host of the running callback; none between callbacks.
    host: Option<*const dyn ModuleHost>,
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
            host: None,
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
        let host = self.host.expect("a host call happens in a callback");
        // SAFETY: `lend` sets the pointer to a host that outlives the callback, and removes it afterwards.
        unsafe { &*host }
    }
}

/// Runs a callback while the VM has this host.
pub fn lend<T>(store: &mut Store<State>, host: &dyn ModuleHost, callback: impl FnOnce(&mut Store<State>) -> T) -> T {
    let host = std::ptr::from_ref(host);
    // SAFETY: only the lifetime changes; the pointer is removed before this function returns.
    let host = unsafe { std::mem::transmute::<*const dyn ModuleHost, *const dyn ModuleHost>(host) };
    store.data_mut().host = Some(host);
    let result = callback(store);
    store.data_mut().host = None;
    result
}
