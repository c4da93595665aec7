//! The connections of one filter config to Envoy and to the process.

use super::abi::{Callbacks, Opaque};
use super::metrics::Registry;
use super::store::Store;
use edgesplit_filter::metrics::name_part;
use std::sync::LazyLock;

/// The values that all configs of the process share. They outlive configs, because the module is never unloaded.
static STORE: LazyLock<Store> = LazyLock::new(Store::default);

/// The connections of one filter config.
#[derive(Debug)]
pub(crate) struct Links {
    pub(crate) callbacks: &'static Callbacks,
    /// Envoy's own object for the config.
    pub(crate) config: Opaque,
    pub(crate) store: &'static Store,
    pub(crate) metrics: Registry,
    /// The beginning of the names of all metrics.
    pub(crate) metrics_prefix: String,
}

impl Links {
    /// Connects the plugin called `name`.
    pub(crate) fn new(callbacks: &'static Callbacks, config: Opaque, name: &str) -> Links {
        let metrics_prefix = format!("edgesplit.{}.", name_part(name));
        let metrics = Registry::new(callbacks, config, &metrics_prefix);
        Links { callbacks, config, store: &STORE, metrics, metrics_prefix }
    }
}
