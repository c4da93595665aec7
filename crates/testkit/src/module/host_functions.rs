//! The host functions that the module imports, over the host of the running callback.

use super::state::{ModuleHost, State};
use edgesplit_filter::host::{Call, DispatchError, Headers, HostError, MetricKind, SetError};
use edgesplit_filter::http::headers::{HeaderBlock, HeaderMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use wasmi::{AsContext, AsContextMut, Caller, Engine, Error, Linker, Memory, Module};

/// Statuses of the ABI.
const OK: u32 = 0;
const NOT_FOUND: u32 = 1;
const BAD_ARGUMENT: u32 = 2;
const CAS_MISMATCH: u32 = 8;
const INTERNAL_FAILURE: u32 = 10;

const ENV: &str = "env";

type Env<'a> = Caller<'a, State>;

/// Runs `work` with the host. If the host unwinds, the module traps.
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

/// The module's bytes at `at`. A range outside its memory traps.
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

/// Headers in the ABI's encoding.
fn copied(headers: &HeaderMap<'_>) -> HeaderBlock {
    HeaderBlock::from_pairs(&headers.iter().collect::<Vec<_>>())
}

/// Pairs in the ABI's encoding, as texts.
fn pairs(block: Vec<u8>) -> Vec<(String, String)> {
    let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    HeaderBlock::new(block).map().iter().map(|(name, value)| (lossy(name), lossy(value))).collect()
}

/// All imports of the module.
pub fn linker(engine: &Engine, module: &Module) -> Linker<State> {
    let mut linker = Linker::new(engine);
    define_plugin_functions(&mut linker);
    define_header_functions(&mut linker);
    define_shared_data_functions(&mut linker);
    define_metric_functions(&mut linker);
    define_call_functions(&mut linker);
    // The SDK and the standard library import further functions, which this module must never call.
    for import in module.imports() {
        if let wasmi::ExternType::Func(ty) = import.ty() {
            let name = import.name().to_owned();
            let defined = linker.func_new(import.module(), import.name(), ty.clone(), move |_, _, _| {
                Err(Error::new(format!("the module called {name}")))
            });
            // An error for the functions above, which are defined already.
            drop(defined);
        }
    }
    linker
}

/// Functions for the log, the clock, the configuration and random bits.
fn define_plugin_functions(linker: &mut Linker<State>) {
    linker
        .func_wrap(ENV, "proxy_log", |mut caller: Env<'_>, level: u32, at: u32, len: u32| {
            let line = text(&caller, at, len)?;
            caller.data_mut().last_log.clone_from(&line);
            let levels = [log::Level::Trace, log::Level::Debug, log::Level::Info, log::Level::Warn];
            let level = levels.get(level as usize).copied().unwrap_or(log::Level::Error);
            with_host(&mut caller, |host| host.log(level, &line))?;
            Ok::<u32, Error>(OK)
        })
        .unwrap()
        .func_wrap(ENV, "proxy_get_current_time_nanoseconds", |mut caller: Env<'_>, at: u32| {
            let now_ms = with_host(&mut caller, |host| host.now_ms())?;
            write(&mut caller, at, &(now_ms as u64).wrapping_mul(1_000_000).to_le_bytes())?;
            Ok::<u32, Error>(OK)
        })
        .unwrap()
        .func_wrap(ENV, "proxy_set_tick_period_milliseconds", |mut caller: Env<'_>, period_ms: u32| {
            caller.data_mut().tick_period_ms = period_ms;
            OK
        })
        .unwrap()
        .func_wrap(
            ENV,
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
        .func_wrap(ENV, "proxy_get_property", |mut caller: Env<'_>, at: u32, len: u32, data: u32, size: u32| {
            if read(&caller, at, len)? != b"plugin_name" {
                return Ok::<u32, Error>(NOT_FOUND);
            }
            let plugin = caller.data().plugin.clone();
            give(&mut caller, plugin.as_bytes(), data, size)?;
            Ok(OK)
        })
        .unwrap()
        .func_wrap(ENV, "proxy_call_foreign_function", |_: u32, _: u32, _: u32, _: u32, _: u32, _: u32| OK)
        .unwrap()
        .func_wrap("wasi_snapshot_preview1", "random_get", |mut caller: Env<'_>, at: u32, len: u32| {
            let mut bytes = Vec::new();
            while bytes.len() < len as usize {
                bytes.extend(with_host(&mut caller, |host| host.random())?.to_le_bytes());
            }
            bytes.truncate(len as usize);
            write(&mut caller, at, &bytes)?;
            Ok::<u32, Error>(0)
        })
        .unwrap();
}

/// Functions for the headers of requests, responses and replies.
fn define_header_functions(linker: &mut Linker<State>) {
    linker
        .func_wrap(ENV, "proxy_get_header_map_pairs", |mut caller: Env<'_>, map: u32, data: u32, len: u32| {
            let headers = match which(map) {
                Some(which) => {
                    with_host(&mut caller, |host| copied(&host.headers(which, &mut HeaderBlock::default())))?
                }
                // A reset has no headers: the SDK's own host call would panic here.
                None if map == 6 => {
                    caller.data().reply.as_ref().map(|(headers, _)| headers.clone()).unwrap_or_default()
                }
                None => return Ok::<u32, Error>(BAD_ARGUMENT),
            };
            give(&mut caller, headers.bytes(), data, len)?;
            Ok(OK)
        })
        .unwrap()
        .func_wrap(
            ENV,
            "proxy_get_header_map_value",
            |mut caller: Env<'_>, map: u32, name: u32, name_len: u32, data: u32, len: u32| {
                // The module reads no other header alone.
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
                ENV,
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
        .func_wrap(ENV, "proxy_remove_header_map_value", |mut caller: Env<'_>, map: u32, name: u32, len: u32| {
            let Some(which) = which(map) else { return Ok::<u32, Error>(BAD_ARGUMENT) };
            let name = text(&caller, name, len)?;
            with_host(&mut caller, |host| host.remove_header(which, &name))?;
            Ok(OK)
        })
        .unwrap();
}

/// Functions for shared data.
fn define_shared_data_functions(linker: &mut Linker<State>) {
    linker
        .func_wrap(
            ENV,
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
            ENV,
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
        .unwrap();
}

/// Functions for metrics.
fn define_metric_functions(linker: &mut Linker<State>) {
    linker
        .func_wrap(ENV, "proxy_define_metric", |mut caller: Env<'_>, kind: u32, name: u32, len: u32, id: u32| {
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
        .func_wrap(ENV, "proxy_increment_metric", |mut caller: Env<'_>, id: u32, by: i64| {
            with_host(&mut caller, |host| host.increment(id, by))?;
            Ok::<u32, Error>(OK)
        })
        .unwrap()
        .func_wrap(ENV, "proxy_record_metric", |mut caller: Env<'_>, id: u32, value: u64| {
            with_host(&mut caller, |host| host.record(id, value))?;
            Ok::<u32, Error>(OK)
        })
        .unwrap();
}

/// Functions for local responses and HTTP calls.
fn define_call_functions(linker: &mut Linker<State>) {
    linker
        .func_wrap(
            ENV,
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
        .func_wrap(ENV, "proxy_http_call", http_call)
        .unwrap()
        .func_wrap(ENV, "proxy_set_effective_context", |_: u32| OK)
        .unwrap();
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
