//! Edgesplit: A/B tests inside Envoy and other proxies that load WebAssembly.
//!
//! One crate, three products: the filter (`edgesplit.wasm`), the `edgesplit` command, and this library, of which both are
//! made. Data flows one way:
//!
//! ```text
//!  config service                                                                      A/B service
//!       │ fetch, on a tick                                                                  ▲
//!       ▼                                                                                   │ acknowledged
//!  config_sync ──► native ──► engine::snapshot          events::buffer ──► events::outbox ──┤
//!  (one VM fetches,  (parse, validate,  (immutable)      (in the worker)    (shared data)   │ retried on a tick
//!   all pick it up)   compile)             │                   ▲                            ▼
//!                                          ▼                   │                        events::pipeline
//!  request ──► visit ──► engine::decide ──► filter::request ──► filter::response
//!              (who is it?)  (why which?)    (headers, cache key)  (exposure on delivery)
//! ```
//!
//! | module | what it is for |
//! |---|---|
//! | [`engine`] | the decision engine: pure, no host, no clock, no I/O |
//! | [`mod@format`] | the formats of configs: each compiles to a snapshot |
//! | [`native`] | the native experiment format: JSON to snapshot |
//! | [`growthbook`] | GrowthBook's SDK payload: JSON to features, and their decisions |
//! | [`optimizely`] | Optimizely's datafiles: JSON to decisions and events as its own SDKs make them |
//! | [`plugin_config`] | the plugin configuration: bytes to validated types |
//! | [`problem`] | what is wrong with a document, and where |
//! | [`http`] | header maps, cookies, URLs, `cache-control` |
//! | [`visit`] | what a request says of its visitor: id, consent, bot, attributes |
//! | [`filter`] | the request path, the response path, a worker's regular work |
//! | [`config_sync`] | fetching experiments and sharing them between VMs |
//! | [`events`] | exposures and goals, from the buffer to the acknowledgement |
//! | [`metrics`] | what is counted, and under which names |
//! | [`host`] | the port: all that the filter asks of the proxy it runs in |
//! | `sort`, `number`, `json` | sorting, and reading and writing numbers and values, in little code |
//! | `adapter` | the port over proxy-wasm; only on wasm |
//! | `schema` | words for the JSON Schemas that stand beside the parsers; only natively |
//! | `cli` | the command; only natively |

#[cfg(target_arch = "wasm32")]
mod adapter;
#[cfg(not(target_arch = "wasm32"))]
pub mod cli;
pub mod config_sync;
pub mod engine;
pub mod events;
pub mod filter;
pub mod format;
pub mod growthbook;
pub mod host;
pub mod http;
mod json;
pub mod metrics;
pub mod native;
mod number;
pub mod optimizely;
pub mod plugin_config;
pub mod problem;
#[cfg(not(target_arch = "wasm32"))]
mod schema;
mod sort;
pub mod visit;
