//! The built module in an interpreter, over any host that implements the port: what is tested is what ships. A host that
//! unwinds becomes a trap, as a crash in a proxy is one.
#![allow(unsafe_code, reason = "host functions have to reach a host that lives only as long as one callback")]
#![allow(dead_code, unreachable_pub, missing_docs, reason = "every test uses a part of it")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a broken test environment is a failed test"
)]

pub mod recording_host;

use crate::project::{MODULE_SOURCES, check_current};
use edgesplit_filter::host::{Call, DispatchError, Headers, Host, HostError, MetricKind, Reply, SetError, StreamHost};
use edgesplit_filter::http::headers::HeaderMap;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use wasmi::{AsContext, AsContextMut, Caller, Config, Engine, Error, Instance, Linker, Memory, Module, Store};

/// All that the module can ask of its host.
pub trait ModuleHost: Host + StreamHost {}

impl<H: Host + StreamHost> ModuleHost for H {}

/// The root context's id; streams have larger ones.
const ROOT: u32 = 1;

/// Statuses of the ABI.
const OK: u32 = 0;
const NOT_FOUND: u32 = 1;
const BAD_ARGUMENT: u32 = 2;
const CAS_MISMATCH: u32 = 8;
const INTERNAL_FAILURE: u32 = 10;

/// How a callback ended that did not end well.
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

/// What host functions find besides the module itself.
struct State {
    /// The host of the callback that runs. Null between callbacks.
    host: *const dyn ModuleHost,
    plugin: String,
    configuration: Vec<u8>,
    reply: Option<(HeaderMap, Vec<u8>)>,
    memory: Option<Memory>,
    unwound: Option<Box<dyn Any + Send>>,
    last_log: String,
    /// The tick period that the module asked for.
    tick_period_ms: u32,
}

impl State {
    fn host(&self) -> &dyn ModuleHost {
        assert!(!self.host.is_null(), "a host call outside a callback");
        // SAFETY: `ModuleVm::call` sets the pointer to a host that outlives the callback, and takes it back behind it.
        unsafe { &*self.host }
    }
}

/// A VM: the module with a memory of its own.
pub struct ModuleVm {
    store: Store<State>,
    instance: Instance,
    work: Work,
}

/// What callbacks cost.
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
        let state = State {
            host: std::ptr::null::<NoHost>(),
            plugin: plugin.to_owned(),
            configuration: Vec::new(),
            reply: None,
            memory: None,
            unwound: None,
            last_log: String::new(),
            tick_period_ms: 0,
        };
        let mut store = Store::new(&compiled.engine, state);
        store.set_fuel(FUEL_PER_CALLBACK_MAX).unwrap();
        let linker = linker(&compiled.engine, &compiled.module);
        let instance = linker.instantiate_and_start(&mut store, &compiled.module).expect("all imports are there");
        store.data_mut().memory = instance.get_memory(&store, "memory");
        let mut vm = ModuleVm { store, instance, work: Work::default() };
        vm.call(host, "_initialize", &[])?;
        vm.call(host, "proxy_on_context_create", &[ROOT, 0])?;
        vm.call(host, "proxy_on_vm_start", &[ROOT, 0])?;
        Ok(vm)
    }

    /// Configures the plugin. False where the module refuses.
    pub fn configure(&mut self, host: &dyn ModuleHost, configuration: &[u8]) -> Result<bool, Death> {
        self.store.data_mut().configuration = configuration.to_vec();
        Ok(self.call(host, "proxy_on_configure", &[ROOT, configuration.len() as u32])? == 1)
    }

    pub fn tick(&mut self, host: &dyn ModuleHost) -> Result<(), Death> {
        self.call(host, "proxy_on_tick", &[ROOT]).map(drop)
    }

    /// Hands a reply over; a reset has no headers.
    pub fn reply(&mut self, host: &dyn ModuleHost, token: u32, headers: HeaderMap, body: Vec<u8>) -> Result<(), Death> {
        let sizes = [headers.iter().count() as u32, body.len() as u32];
        self.store.data_mut().reply = Some((headers, body));
        let done = self.call(host, "proxy_on_http_call_response", &[ROOT, token, sizes[0], sizes[1], 0]);
        self.store.data_mut().reply = None;
        done.map(drop)
    }

    /// Handles a request's headers in a new stream. False where the module answered it itself.
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

    /// What was done since the last time this was asked.
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
        // SAFETY: only the lifetime changes; the pointer is taken back before this function returns.
        self.store.data_mut().host =
            unsafe { std::mem::transmute::<*const dyn ModuleHost, *const dyn ModuleHost>(std::ptr::from_ref(host)) };
        self.store.set_fuel(FUEL_PER_CALLBACK_MAX).unwrap();
        let done = function.call(&mut self.store, &arguments, &mut results);
        self.work.callbacks += 1;
        self.work.instructions += FUEL_PER_CALLBACK_MAX - self.store.get_fuel().unwrap_or(0);
        self.store.data_mut().host = std::ptr::null::<NoHost>();
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
    fn headers(&self, _which: Headers) -> HeaderMap {
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

type Env<'a> = Caller<'a, State>;

/// Runs `work` with the host. Where the host unwinds, the module traps.
fn with_host<T>(caller: &mut Env<'_>, work: impl FnOnce(&dyn ModuleHost) -> T) -> Result<T, Error> {
    let done = catch_unwind(AssertUnwindSafe(|| work(caller.data().host())));
    done.map_err(|payload| {
        caller.data_mut().unwound = Some(payload);
        Error::new("the host gave up on this VM")
    })
}

fn memory(caller: &Env<'_>) -> Memory {
    caller.data().memory.expect("the module has a memory")
}

/// The module's bytes at `at`. What lies outside its memory traps.
fn read(caller: &Env<'_>, at: u32, len: u32) -> Result<Vec<u8>, Error> {
    let mut bytes = vec![0; len as usize];
    memory(caller).read(caller.as_context(), at as usize, &mut bytes).map_err(|error| Error::new(error.to_string()))?;
    Ok(bytes)
}

fn text(caller: &Env<'_>, at: u32, len: u32) -> Result<String, Error> {
    String::from_utf8(read(caller, at, len)?).map_err(|error| Error::new(error.to_string()))
}

fn write(caller: &mut Env<'_>, at: u32, bytes: &[u8]) -> Result<(), Error> {
    let memory = memory(caller);
    memory.write(caller.as_context_mut(), at as usize, bytes).map_err(|error| Error::new(error.to_string()))
}

fn write_u32(caller: &mut Env<'_>, at: u32, number: u32) -> Result<(), Error> {
    write(caller, at, &number.to_le_bytes())
}

/// Gives bytes to the module, in memory that it allocates for them.
fn give(caller: &mut Env<'_>, bytes: &[u8], data_at: u32, len_at: u32) -> Result<(), Error> {
    let mut data = 0;
    if !bytes.is_empty() {
        let allocate = caller.get_export("proxy_on_memory_allocate").and_then(wasmi::Extern::into_func);
        let allocate =
            allocate.expect("the module allocates").typed::<u32, u32>(&*caller).expect("the signature of the ABI");
        data = allocate.call(caller.as_context_mut(), bytes.len() as u32)?;
        write(caller, data, bytes)?;
    }
    write_u32(caller, data_at, data)?;
    write_u32(caller, len_at, bytes.len() as u32)
}

fn which(map: u32) -> Option<Headers> {
    match map {
        0 => Some(Headers::Request),
        2 => Some(Headers::Response),
        _ => None,
    }
}

/// Pairs in the ABI's encoding, as texts.
fn pairs(block: Vec<u8>) -> Vec<(String, String)> {
    let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    HeaderMap::from_block(block).iter().map(|(name, value)| (lossy(name), lossy(value))).collect()
}

#[allow(clippy::too_many_lines, reason = "one entry for each host function")]
fn linker(engine: &Engine, module: &Module) -> Linker<State> {
    let mut linker = Linker::new(engine);
    let env = "env";
    let wasi = "wasi_snapshot_preview1";
    linker
        .func_wrap(env, "proxy_log", |mut caller: Env<'_>, level: u32, at: u32, len: u32| {
            let line = text(&caller, at, len)?;
            caller.data_mut().last_log.clone_from(&line);
            let levels = [log::Level::Trace, log::Level::Debug, log::Level::Info, log::Level::Warn];
            let level = levels.get(level as usize).copied().unwrap_or(log::Level::Error);
            with_host(&mut caller, |host| host.log(level, &line))?;
            Ok::<u32, Error>(OK)
        })
        .unwrap()
        .func_wrap(env, "proxy_get_current_time_nanoseconds", |mut caller: Env<'_>, at: u32| {
            let now_ms = with_host(&mut caller, |host| host.now_ms())?;
            write(&mut caller, at, &(now_ms as u64).wrapping_mul(1_000_000).to_le_bytes())?;
            Ok::<u32, Error>(OK)
        })
        .unwrap()
        .func_wrap(env, "proxy_set_tick_period_milliseconds", |mut caller: Env<'_>, period_ms: u32| {
            caller.data_mut().tick_period_ms = period_ms;
            OK
        })
        .unwrap()
        .func_wrap(
            env,
            "proxy_get_buffer_bytes",
            |mut caller: Env<'_>, kind: u32, start: u32, max: u32, data: u32, len: u32| {
                let state = caller.data();
                let bytes = match kind {
                    4 => state.reply.as_ref().map(|(_, body)| body.clone()).unwrap_or_default(),
                    7 => state.configuration.clone(),
                    _ => return Ok::<u32, Error>(NOT_FOUND),
                };
                let bytes: Vec<u8> = bytes.into_iter().skip(start as usize).take(max as usize).collect();
                give(&mut caller, &bytes, data, len)?;
                Ok(OK)
            },
        )
        .unwrap()
        .func_wrap(env, "proxy_get_property", |mut caller: Env<'_>, at: u32, len: u32, data: u32, size: u32| {
            if read(&caller, at, len)? != b"plugin_name" {
                return Ok::<u32, Error>(NOT_FOUND);
            }
            let plugin = caller.data().plugin.clone();
            give(&mut caller, plugin.as_bytes(), data, size)?;
            Ok(OK)
        })
        .unwrap()
        .func_wrap(env, "proxy_call_foreign_function", |_: u32, _: u32, _: u32, _: u32, _: u32, _: u32| OK)
        .unwrap()
        .func_wrap(env, "proxy_get_header_map_pairs", |mut caller: Env<'_>, map: u32, data: u32, len: u32| {
            let headers = match which(map) {
                Some(which) => with_host(&mut caller, |host| host.headers(which))?,
                // Asked for without any, this is where a careless module would die.
                None if map == 6 => {
                    caller.data().reply.as_ref().map(|(headers, _)| headers.clone()).unwrap_or_default()
                }
                None => return Ok::<u32, Error>(BAD_ARGUMENT),
            };
            give(&mut caller, headers.block(), data, len)?;
            Ok(OK)
        })
        .unwrap()
        .func_wrap(
            env,
            "proxy_get_header_map_value",
            |mut caller: Env<'_>, map: u32, name: u32, name_len: u32, data: u32, len: u32| {
                // The one header that is ever asked for alone.
                if which(map) != Some(Headers::Response) || read(&caller, name, name_len)? != b":status" {
                    return Ok::<u32, Error>(BAD_ARGUMENT);
                }
                match with_host(&mut caller, |host| host.response_status())? {
                    Some(status) => {
                        give(&mut caller, status.to_string().as_bytes(), data, len)?;
                        Ok(OK)
                    }
                    None => Ok(NOT_FOUND),
                }
            },
        )
        .unwrap();
    for (name, replaces) in [("proxy_replace_header_map_value", true), ("proxy_add_header_map_value", false)] {
        linker
            .func_wrap(
                env,
                name,
                move |mut caller: Env<'_>, map: u32, name: u32, name_len: u32, value: u32, len: u32| {
                    let Some(which) = which(map) else { return Ok::<u32, Error>(BAD_ARGUMENT) };
                    let (name, value) = (text(&caller, name, name_len)?, read(&caller, value, len)?);
                    with_host(&mut caller, |host| {
                        if replaces {
                            host.set_header(which, &name, &value)
                        } else {
                            host.add_header(which, &name, &value)
                        }
                    })?;
                    Ok(OK)
                },
            )
            .unwrap();
    }
    linker
        .func_wrap(env, "proxy_remove_header_map_value", |mut caller: Env<'_>, map: u32, name: u32, len: u32| {
            let Some(which) = which(map) else { return Ok::<u32, Error>(BAD_ARGUMENT) };
            let name = text(&caller, name, len)?;
            with_host(&mut caller, |host| host.remove_header(which, &name))?;
            Ok(OK)
        })
        .unwrap()
        .func_wrap(
            env,
            "proxy_get_shared_data",
            |mut caller: Env<'_>, key: u32, key_len: u32, data: u32, len: u32, cas: u32| {
                let key = text(&caller, key, key_len)?;
                match with_host(&mut caller, |host| host.shared_get(&key))? {
                    Ok(shared) if shared.cas == edgesplit_filter::host::Shared::ABSENT => Ok::<u32, Error>(NOT_FOUND),
                    Ok(shared) => {
                        give(&mut caller, &shared.value, data, len)?;
                        write_u32(&mut caller, cas, shared.cas)?;
                        Ok(OK)
                    }
                    Err(HostError) => Ok(INTERNAL_FAILURE),
                }
            },
        )
        .unwrap()
        .func_wrap(
            env,
            "proxy_set_shared_data",
            |mut caller: Env<'_>, key: u32, key_len: u32, value: u32, len: u32, cas: u32| {
                let (key, value) = (text(&caller, key, key_len)?, read(&caller, value, len)?);
                let set = with_host(&mut caller, |host| host.shared_set(&key, &value, cas))?;
                Ok::<u32, Error>(match set {
                    Ok(()) => OK,
                    Err(SetError::Stale) => CAS_MISMATCH,
                    Err(SetError::Failed) => INTERNAL_FAILURE,
                })
            },
        )
        .unwrap()
        .func_wrap(env, "proxy_define_metric", |mut caller: Env<'_>, kind: u32, name: u32, len: u32, id: u32| {
            let name = text(&caller, name, len)?;
            let kind = if kind == 0 { MetricKind::Counter } else { MetricKind::Gauge };
            match with_host(&mut caller, |host| host.define_metric(kind, &name))? {
                Some(metric) => {
                    write_u32(&mut caller, id, metric)?;
                    Ok::<u32, Error>(OK)
                }
                None => Ok(INTERNAL_FAILURE),
            }
        })
        .unwrap()
        .func_wrap(env, "proxy_increment_metric", |mut caller: Env<'_>, id: u32, by: i64| {
            with_host(&mut caller, |host| host.increment(id, by))?;
            Ok::<u32, Error>(OK)
        })
        .unwrap()
        .func_wrap(env, "proxy_record_metric", |mut caller: Env<'_>, id: u32, value: u64| {
            with_host(&mut caller, |host| host.record(id, value))?;
            Ok::<u32, Error>(OK)
        })
        .unwrap()
        .func_wrap(
            env,
            "proxy_send_local_response",
            |mut caller: Env<'_>, status: u32, _: u32, _: u32, _: u32, _: u32, headers: u32, len: u32, _: i32| {
                let headers = pairs(read(&caller, headers, len)?);
                let headers: Vec<(&str, &str)> =
                    headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
                let done = with_host(&mut caller, |host| host.respond(status, &headers))?;
                Ok::<u32, Error>(if done { OK } else { INTERNAL_FAILURE })
            },
        )
        .unwrap()
        .func_wrap(env, "proxy_http_call", http_call)
        .unwrap()
        .func_wrap(env, "proxy_set_effective_context", |_: u32| OK)
        .unwrap()
        .func_wrap(wasi, "random_get", |mut caller: Env<'_>, at: u32, len: u32| {
            let mut bytes = Vec::new();
            while bytes.len() < len as usize {
                bytes.extend(with_host(&mut caller, |host| host.random())?.to_le_bytes());
            }
            bytes.truncate(len as usize);
            write(&mut caller, at, &bytes)?;
            Ok::<u32, Error>(0)
        })
        .unwrap();
    // What the SDK and the standard library could call and this module never should.
    for import in module.imports() {
        if let wasmi::ExternType::Func(ty) = import.ty() {
            let name = import.name().to_owned();
            let defined = linker.func_new(import.module(), import.name(), ty.clone(), move |_, _, _| {
                Err(Error::new(format!("the module called {name}")))
            });
            // It is an error to define what is there already: those are the functions above.
            drop(defined);
        }
    }
    linker
}

#[allow(clippy::too_many_arguments, reason = "the ABI's")]
fn http_call(
    mut caller: Env<'_>,
    cluster: u32,
    cluster_len: u32,
    headers: u32,
    headers_len: u32,
    body: u32,
    body_len: u32,
    _trailers: u32,
    _trailers_len: u32,
    timeout_ms: u32,
    token: u32,
) -> Result<u32, Error> {
    let cluster = text(&caller, cluster, cluster_len)?;
    let headers = pairs(read(&caller, headers, headers_len)?);
    let body = read(&caller, body, body_len)?;
    let headers = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let call = Call { cluster: &cluster, headers, body: &body, timeout_ms: u64::from(timeout_ms) };
    match with_host(&mut caller, |host| host.dispatch(&call))? {
        Ok(number) => {
            write_u32(&mut caller, token, number)?;
            Ok(OK)
        }
        Err(DispatchError::NoCluster) => Ok(BAD_ARGUMENT),
        Err(DispatchError::Failed) => Ok(INTERNAL_FAILURE),
    }
}

/// A reply as the module gets it, from one as the port has it.
pub fn taken_apart(reply: &impl Reply) -> (HeaderMap, Vec<u8>) {
    (reply.headers(), reply.body(usize::MAX))
}
