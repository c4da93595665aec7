//! The text that `run` prints at its start: the addresses, and commands to try.

use super::watch::Watched;
use crate::envoy_config::Origin;
use crate::files::Input;
use crate::local::envoy::Ports;
use edgesplit_engine::printable::printable;
use serde_json::Value;

/// The introduction. `plugin_file` is the file of the user's plugin configuration, and `plugin` the one in force.
pub(super) fn introduction(
    origin: &Origin,
    plugin_file: Option<&Input>,
    plugin: &Value,
    watched: &Watched,
    ports: Ports,
    dashboard: &str,
) -> String {
    let (site, admin) = (format!("http://127.0.0.1:{}", ports.listener), format!("http://127.0.0.1:{}", ports.admin));
    let (config, path) = (watched.file(), path(watched));
    let plugin_argument = plugin_file.map_or_else(String::new, |file| format!(" --plugin {file}"));
    let missing =
        if origin.is_up() { String::new() } else { format!("\nNothing answers at {origin} yet: start your site.\n") };
    format!(
        "\
Envoy runs, with the filter, in front of {origin}.

  {site:24} your site, through the filter
  {dashboard:24} the dashboard: open it in a browser
  {admin:24} Envoy's admin interface
{missing}
Try in another terminal:

# A visitor with an id. The origin sees the variants in the header x-ab-assignments.
curl -i {id}{site}{path}
# The decisions for this visitor, step by step.
edgesplit explain --config {config}{plugin_argument} --id u1 --path {path}
# Edit {config}: the change is in force within a second, and the last good version stays if there is a mistake.

Ctrl-C ends everything.
",
        id = id(plugin),
    )
}

/// The option of curl that sends the visitor's id.
fn id(plugin: &Value) -> String {
    let source = plugin.pointer("/visitor/id/0");
    let name = |kind: &str| source.and_then(|source| source.get(kind)).and_then(Value::as_str);
    match (name("header"), name("cookie")) {
        (Some(header), _) => format!("-H '{}: u1' ", printable(header)),
        (None, Some(cookie)) => format!("-b '{}=u1' ", printable(cookie)),
        (None, None) => String::new(),
    }
}

/// A path of the first experiment, up to its first wildcard.
fn path(watched: &Watched) -> String {
    let config = watched.value();
    let path = config.pointer("/experiments/0/route/paths/0").and_then(Value::as_str);
    let path = path.and_then(|path| path.split('*').next()).filter(|path| path.starts_with('/')).unwrap_or("/");
    printable(path).into_owned()
}
