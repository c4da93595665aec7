//! What an Envoy of the harness is started with: options, and the bootstrap made of them.

use super::{Failure, fixture};
use crate::module_under_test::{built_module, is_native, use_native};
use edgesplit_cli::local::envoy::find_binary;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, LazyLock};

/// How the plugin configuration is given to Envoy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigForm {
    /// As its JSON text, in a `StringValue`.
    Text,
    /// As a `google.protobuf.Struct`, which Envoy hands over as encoded protobuf.
    Struct,
}

/// The filter under test.
#[derive(Debug, Clone)]
pub struct Plugin {
    pub module: PathBuf,
    /// The plugin's name, which its metrics carry.
    pub name: String,
    /// VMs of one id share their shared data.
    pub vm_id: String,
    pub configuration: Value,
    pub form: ConfigForm,
}

impl Plugin {
    /// The built module, as plugin `demo`. Panics if the configuration has a mistake.
    ///
    /// Dedupe windows start at multiples of their length since the epoch. Unless the configuration sets `dedupe`, they
    /// are as long as they can be: a test that counts exposures would fail if it ran across the start of a window.
    #[track_caller]
    pub fn new(mut configuration: Value) -> Plugin {
        fixture::check_plugin(&configuration);
        if let Some(events) = configuration.get_mut("events").and_then(Value::as_object_mut) {
            events.entry("dedupe").or_insert_with(|| json!({"window": "720h"}));
        }
        Plugin::unchecked(configuration)
    }

    /// The same with any configuration, for tests of invalid ones.
    pub fn unchecked(configuration: Value) -> Plugin {
        let (name, vm_id) = ("demo".to_owned(), "edgesplit".to_owned());
        Plugin { module: built_module(), name, vm_id, configuration, form: ConfigForm::Text }
    }
}

/// What kind of Envoy to start.
#[derive(Clone)]
pub struct EnvoyOptions {
    /// None: an Envoy that only proxies.
    pub plugin: Option<Plugin>,
    pub workers: usize,
    /// Ports of the loopback interface. A cluster without one does not exist.
    pub origin: u16,
    pub experiments: Option<u16>,
    pub collector: Option<u16>,
    pub connect_timeout: &'static str,
    /// How long the origin may take for an answer.
    pub route_timeout: &'static str,
    /// How long Envoy waits before it puts a fresh VM in the place of a crashed one: 100 ms or more, at 1 ms it divides by 0.
    pub reload_interval: &'static str,
    /// Tag names and regular expressions.
    pub stats_tags: Vec<(&'static str, &'static str)>,
    /// The last word on the bootstrap.
    pub adjust: Arc<dyn Fn(&mut Value) + Send + Sync>,
}

impl EnvoyOptions {
    /// An Envoy of two workers in front of the origin on this port.
    pub fn new(origin: u16) -> EnvoyOptions {
        EnvoyOptions {
            plugin: None,
            workers: 2,
            origin,
            experiments: None,
            collector: None,
            connect_timeout: "1s",
            route_timeout: "15s",
            reload_interval: "0.1s",
            stats_tags: vec![("experiment", r"(\.experiment\.([^.]+))"), ("variant", r"(\.variant\.([^.]+))")],
            adjust: Arc::new(|_| ()),
        }
    }

    pub fn plugin(mut self, plugin: Plugin) -> EnvoyOptions {
        self.plugin = Some(plugin);
        self
    }

    pub fn experiments(mut self, port: u16) -> EnvoyOptions {
        self.experiments = Some(port);
        self
    }

    pub fn collector(mut self, port: u16) -> EnvoyOptions {
        self.collector = Some(port);
        self
    }

    pub fn workers(mut self, workers: usize) -> EnvoyOptions {
        self.workers = workers;
        self
    }

    pub fn route_timeout(mut self, timeout: &'static str) -> EnvoyOptions {
        self.route_timeout = timeout;
        self
    }

    pub fn adjust(mut self, adjust: impl Fn(&mut Value) + Send + Sync + 'static) -> EnvoyOptions {
        self.adjust = Arc::new(adjust);
        self
    }

    /// The bootstrap. JSON, which Envoy reads as it does YAML.
    pub fn bootstrap(&self) -> Value {
        let clusters =
            [("origin", Some(self.origin)), ("experiments", self.experiments), ("collector", self.collector)];
        let clusters = clusters.iter().filter_map(|(name, port)| Some(self.cluster(name, (*port)?)));
        let tags = self.stats_tags.iter().map(|(name, regex)| json!({"tag_name": name, "regex": regex}));
        let mut bootstrap = json!({
            "admin": {"address": loopback(0)},
            "stats_config": {"stats_tags": tags.collect::<Vec<_>>()},
            "static_resources": {"listeners": [self.listener()], "clusters": clusters.collect::<Vec<_>>()},
        });
        (self.adjust)(&mut bootstrap);
        if is_native() {
            use_native(&mut bootstrap);
        }
        if let Some(allowed) = capabilities() {
            restrict(&mut bootstrap, &allowed);
        }
        bootstrap
    }

    fn listener(&self) -> Value {
        let router = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";
        let manager = "http_connection_manager.v3.HttpConnectionManager";
        let mut filters: Vec<Value> = self.plugin.iter().map(|plugin| self.wasm_filter(plugin)).collect();
        // Without Envoy's own headers the origin sees what the client sent and what the filter added.
        filters.push(json!({"name": "envoy.filters.http.router",
            "typed_config": {"@type": router, "suppress_envoy_headers": true}}));
        json!({
            "name": "ingress", "stat_prefix": "ingress", "address": loopback(0),
            // Spreads connections evenly over the workers: with as many connections as workers, each has one.
            "connection_balance_config": {"exact_balance": {}},
            "filter_chains": [{"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": {
                "@type": format!("type.googleapis.com/envoy.extensions.filters.network.{manager}"),
                "stat_prefix": "ingress",
                "codec_type": "AUTO",
                "generate_request_id": false,
                "stream_idle_timeout": "60s",
                // The default of 60 kB would refuse the tests' largest cookies before the filter sees them.
                "max_request_headers_kb": 96,
                "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [
                    {"match": {"prefix": "/"}, "route": {"cluster": "origin", "timeout": self.route_timeout}}]}]},
                "http_filters": filters,
            }}]}],
        })
    }

    fn wasm_filter(&self, plugin: &Plugin) -> Value {
        let configuration = match plugin.form {
            ConfigForm::Text => json!({"@type": "type.googleapis.com/google.protobuf.StringValue",
                "value": plugin.configuration.to_string()}),
            ConfigForm::Struct => json!({"@type": "type.googleapis.com/google.protobuf.Struct",
                "value": plugin.configuration}),
        };
        json!({"name": "envoy.filters.http.wasm", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
        "config": {
            "name": plugin.name,
            "vm_config": {"vm_id": plugin.vm_id, "runtime": "envoy.wasm.runtime.v8",
                "code": {"local": {"filename": plugin.module}}},
            "failure_policy": "FAIL_RELOAD",
            "reload_config": {"backoff": {"base_interval": self.reload_interval}},
            "configuration": configuration,
        }}})
    }

    fn cluster(&self, name: &str, port: u16) -> Value {
        let endpoint = json!({"endpoint": {"address": loopback(port)}});
        json!({"name": name, "type": "STATIC", "connect_timeout": self.connect_timeout,
            "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]}})
    }
}

fn loopback(port: u16) -> Value {
    json!({"socket_address": {"address": "127.0.0.1", "port_value": port}})
}

/// What filters may do at most: the list in the file that `EDGESPLIT_CAPABILITIES` names. `make matrix` runs all end-to-end tests
/// under one.
fn capabilities() -> Option<Value> {
    let file = std::env::var_os("EDGESPLIT_CAPABILITIES").filter(|file| !file.is_empty())?;
    let text = std::fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", Path::new(&file).display()));
    Some(serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{}: {error}", Path::new(&file).display())))
}

/// The same bootstrap with the module under test, and under that list, if there is one.
pub fn adapted(bootstrap: &str) -> Result<Option<String>, Failure> {
    let allowed = capabilities();
    if allowed.is_none() && !is_native() {
        return Ok(None);
    }
    let mut bootstrap = serde_saphyr::from_str(bootstrap).map_err(|error| format!("the bootstrap: {error}"))?;
    if let Some(allowed) = allowed {
        restrict(&mut bootstrap, &allowed);
    }
    if is_native() {
        use_native(&mut bootstrap);
    }
    Ok(Some(bootstrap.to_string()))
}

/// Restricts every `vm_config` without a list to this one.
pub fn restrict(part: &mut Value, allowed: &Value) {
    match part {
        Value::Object(members) => {
            if members.contains_key("vm_config") {
                let place = match members.get_mut("vm_config").and_then(Value::as_object_mut) {
                    // Older versions know the list beside `vm_config` only.
                    Some(vm_config) if *ENVOY_VERSION >= [1, 40] => vm_config,
                    _ => members,
                };
                place.entry("capability_restriction_config").or_insert_with(|| allowed.clone());
            }
            members.values_mut().for_each(|member| restrict(member, allowed));
        }
        Value::Array(elements) => elements.iter_mut().for_each(|element| restrict(element, allowed)),
        _ => {}
    }
}

/// The major and minor version of the Envoy under test.
pub static ENVOY_VERSION: LazyLock<[u32; 2]> = LazyLock::new(|| {
    let envoy = find_binary().unwrap_or_else(|error| panic!("{error}"));
    let output = Command::new(&envoy).arg("--version").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let version = text.split("version: ").nth(1).and_then(|text| text.split('/').nth(1));
    let version = version.unwrap_or_else(|| panic!("{}: no version in {text:?}", envoy.display()));
    let mut numbers = version.split('.').map_while(|part| part.parse::<u32>().ok());
    [numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default()]
});
