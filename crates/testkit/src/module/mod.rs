//! The built module in an interpreter, over any host that implements the port: what is tested is what ships. A host that
//! unwinds becomes a trap, as a crash in a proxy is one.
#![allow(dead_code, unreachable_pub, missing_docs, reason = "every test uses a part of it")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a broken test environment is a failed test"
)]

mod host_functions;
pub mod recording_host;
mod state;

pub use state::ModuleHost;

use crate::project::{MODULE_SOURCES, check_current};
use edgesplit_filter::host::Reply;
use edgesplit_filter::http::headers::HeaderBlock;
use state::{State, lend};
use std::any::Any;
use std::path::Path;
use wasmi::{Config, Engine, Instance, Module, Store};

/// The root context's id; streams have larger ones.
const ROOT: u32 = 1;

/// The end of a callback that did not return.
#[derive(Debug)]
pub enum Death {
    /// The host unwound with this: the VM is dead.
    Host(Box<dyn Any + Send>),
    /// The module trapped: a panic, as a rule, with the last line it logged.
    Trap(String),
}

/// The compiled module, shared by all VMs.
#[derive(Debug, Clone)]
pub struct Compiled {
    engine: Engine,
    module: Module,
}

impl Compiled {
    /// The module that `make build` writes.
    #[track_caller]
    pub fn built() -> Compiled {
        Compiled::load(&crate::root().join("dist/edgesplit.wasm"))
    }

    /// Reads and compiles the module in `file`. The modules that `make` builds must be newer than their sources.
    #[track_caller]
    pub fn load(file: &Path) -> Compiled {
        if file.starts_with(crate::root().join("dist")) {
            check_current(file, &MODULE_SOURCES).unwrap_or_else(|error| panic!("{error}"));
        }
        let bytes = std::fs::read(file).unwrap_or_else(|error| panic!("{}: {error}: run `make build`", file.display()));
        let mut config = Config::default();
        config.consume_fuel(true);
        let engine = Engine::new(&config);
        let module = Module::new(&engine, &bytes[..]).expect("the module is valid");
        Compiled { engine, module }
    }
}

/// A VM: the module with a memory of its own.
pub struct ModuleVm {
    store: Store<State>,
    instance: Instance,
    work: Work,
}

/// The cost of callbacks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Work {
    /// Calls from the proxy into the module, each a crossing of the border.
    pub callbacks: u64,
    /// Instructions of the module, in the interpreter's fuel: one each, more for those that copy many bytes. All of a function,
    /// a loop or a branch of an `if` count when it is entered, also those that are jumped over.
    pub instructions: u64,
}

/// Fuel for one callback: far more than any needs. A callback that uses it up does not end.
const FUEL_PER_CALLBACK_MAX: u64 = 20_000_000_000;

impl ModuleVm {
    /// Starts the module: `plugin` is the plugin's name.
    pub fn start(compiled: &Compiled, host: &dyn ModuleHost, plugin: &str) -> Result<ModuleVm, Death> {
        let mut store = Store::new(&compiled.engine, State::new(plugin));
        store.set_fuel(FUEL_PER_CALLBACK_MAX).unwrap();
        let linker = host_functions::linker(&compiled.engine, &compiled.module);
        let instance = linker.instantiate_and_start(&mut store, &compiled.module).expect("all imports are there");
        store.data_mut().memory = instance.get_memory(&store, "memory");
        let mut vm = ModuleVm { store, instance, work: Work::default() };
        vm.call(host, "_initialize", &[])?;
        vm.call(host, "proxy_on_context_create", &[ROOT, 0])?;
        vm.call(host, "proxy_on_vm_start", &[ROOT, 0])?;
        Ok(vm)
    }

    /// Configures the plugin. Returns whether the module accepts the configuration.
    pub fn configure(&mut self, host: &dyn ModuleHost, configuration: &[u8]) -> Result<bool, Death> {
        self.store.data_mut().configuration = configuration.to_vec();
        Ok(self.call(host, "proxy_on_configure", &[ROOT, configuration.len() as u32])? == 1)
    }

    pub fn tick(&mut self, host: &dyn ModuleHost) -> Result<(), Death> {
        self.call(host, "proxy_on_tick", &[ROOT]).map(drop)
    }

    /// Hands a reply over; a reset has no headers.
    pub fn reply(
        &mut self,
        host: &dyn ModuleHost,
        token: u32,
        headers: HeaderBlock,
        body: Vec<u8>,
    ) -> Result<(), Death> {
        let sizes = [headers.map().iter().count() as u32, body.len() as u32];
        self.store.data_mut().reply = Some((headers, body));
        let done = self.call(host, "proxy_on_http_call_response", &[ROOT, token, sizes[0], sizes[1], 0]);
        self.store.data_mut().reply = None;
        done.map(drop)
    }

    /// Handles a request's headers in a new stream. Returns whether the request goes on to the origin: the module may answer it.
    pub fn request(&mut self, host: &dyn ModuleHost, stream: u32) -> Result<bool, Death> {
        self.call(host, "proxy_on_context_create", &[stream, ROOT])?;
        Ok(self.call(host, "proxy_on_request_headers", &[stream, 1, 1])? == 0)
    }

    /// Handles the headers of the response in the stream, and ends it.
    pub fn response(&mut self, host: &dyn ModuleHost, stream: u32) -> Result<(), Death> {
        self.call(host, "proxy_on_response_headers", &[stream, 1, 0])?;
        self.end(host, stream)
    }

    /// Ends a stream, answered or not.
    pub fn end(&mut self, host: &dyn ModuleHost, stream: u32) -> Result<(), Death> {
        for callback in ["proxy_on_done", "proxy_on_log", "proxy_on_delete"] {
            self.call(host, callback, &[stream])?;
        }
        Ok(())
    }

    pub fn shut_down(&mut self, host: &dyn ModuleHost) -> Result<(), Death> {
        self.call(host, "proxy_on_done", &[ROOT]).map(drop)
    }

    /// The work since the last call.
    pub fn work(&mut self) -> Work {
        std::mem::take(&mut self.work)
    }

    /// The number of allocations so far. Only the module for tests reports it.
    pub fn allocations(&mut self) -> Option<u64> {
        let counter = self.instance.get_typed_func::<(), u64>(&self.store, "edgesplit_allocations").ok()?;
        counter.call(&mut self.store, ()).ok()
    }

    /// The callbacks that the module has.
    pub fn exports(&self) -> Vec<String> {
        self.instance.exports(&self.store).map(|export| export.name().to_owned()).collect()
    }

    /// The size of the VM's memory in bytes. It never shrinks.
    pub fn memory_bytes(&self) -> usize {
        self.store.data().memory.map_or(0, |memory| memory.data_size(&self.store))
    }

    /// The tick period that the module asked for.
    pub fn tick_period_ms(&self) -> u32 {
        self.store.data().tick_period_ms
    }

    /// Calls an export. A missing one is skipped, as proxies do.
    fn call(&mut self, host: &dyn ModuleHost, name: &str, arguments: &[u32]) -> Result<u32, Death> {
        let Some(function) = self.instance.get_func(&self.store, name) else { return Ok(0) };
        let ty = function.ty(&self.store);
        let mut results: Vec<wasmi::Val> = ty.results().iter().map(|_| wasmi::Val::I32(0)).collect();
        let arguments: Vec<wasmi::Val> = arguments.iter().map(|number| wasmi::Val::I32(*number as i32)).collect();
        self.store.set_fuel(FUEL_PER_CALLBACK_MAX).unwrap();
        let done = lend(&mut self.store, host, |store| function.call(store, &arguments, &mut results));
        self.work.callbacks += 1;
        self.work.instructions += FUEL_PER_CALLBACK_MAX - self.store.get_fuel().unwrap_or(0);
        match (done, self.store.data_mut().unwound.take()) {
            (_, Some(payload)) => Err(Death::Host(payload)),
            (Err(error), None) => Err(Death::Trap(format!("{name}: {error}: {}", self.store.data().last_log))),
            (Ok(()), None) => Ok(match results.first() {
                Some(wasmi::Val::I32(result)) => *result as u32,
                _ => 0,
            }),
        }
    }
}

/// A reply as the module gets it, from one as the port has it.
pub fn taken_apart(reply: &impl Reply) -> (HeaderBlock, Vec<u8>) {
    (reply.headers(), reply.body(usize::MAX))
}
