//! An Envoy configuration with the filter in front of one origin: what `init` writes, and `run` starts.

mod origin;

pub(crate) use origin::{Origin, quoted};

/// The plugin's name in the configuration, which its metrics carry.
pub(crate) const PLUGIN: &str = "site";

const TEMPLATE: &str = include_str!("template.yaml");

/// The parts of the configuration that differ.
#[derive(Debug)]
pub(crate) struct EnvoyConfig<'a> {
    /// The ports; 0 is a free one.
    pub(crate) proxy: u16,
    pub(crate) admin: u16,
    pub(crate) origin: &'a Origin,
    /// The file of the module.
    pub(crate) module: &'a str,
    /// The plugin configuration, in YAML or JSON.
    pub(crate) plugin: &'a str,
    /// The ports of the services on the loopback interface, by the names of their clusters.
    pub(crate) services: &'a [(&'a str, u16)],
}

impl EnvoyConfig<'_> {
    /// The configuration in YAML.
    pub(crate) fn yaml(&self) -> Result<String, String> {
        let services = self.services.iter().map(|(name, port)| service(name, *port));
        let clusters: String = [self.origin.cluster()?].into_iter().chain(services).collect();
        let parts = [
            ("<admin>", self.admin.to_string()),
            ("<proxy>", self.proxy.to_string()),
            ("<route>", self.origin.route()),
            ("<module>", quoted(self.module)),
            ("<plugin>", indented(self.plugin, 20)),
            ("<clusters>\n", clusters),
        ];
        Ok(parts.iter().fold(TEMPLATE.to_owned(), |text, (name, value)| text.replacen(name, value, 1)))
    }
}

/// A cluster of a service on the loopback interface.
fn service(name: &str, port: u16) -> String {
    format!(
        "  - name: {name}
    type: STATIC
    connect_timeout: 1s
    load_assignment:
      cluster_name: {name}
      endpoints:
      - lb_endpoints:
        - endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}}}
"
    )
}

/// The lines of `text`, each on a new line with this many spaces before it.
fn indented(text: &str, spaces: usize) -> String {
    text.trim_end()
        .lines()
        .map(|line| format!("\n{:spaces$}{line}", ""))
        .map(|line| line.trim_end_matches(' ').to_owned())
        .collect()
}
