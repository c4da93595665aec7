//! `edgesplit init`: writes a first experiment, a plugin configuration and an Envoy configuration, with schemas for editors.

use crate::envoy_config::{EnvoyConfig, Origin};
use crate::exit::EXIT_OK;
use crate::files::write_all;
use crate::local::proxy::{ADMIN, PROXY};
use crate::output;
use crate::schema::Document;
use std::path::PathBuf;

const EXPERIMENTS: &str = include_str!("init/experiments.json");
const PLUGIN: &str = include_str!("init/plugin.yaml");
const EXPERIMENTS_SCHEMA: &str = "experiments.schema.json";
const PLUGIN_SCHEMA: &str = "plugin.schema.json";

/// The arguments of `edgesplit init`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The origin: the URL of your site, behind the proxy.
    #[arg(long, value_name = "URL", default_value = "http://localhost:3000", value_parser = Origin::parse)]
    origin: Origin,
    /// Replace files that exist.
    #[arg(long)]
    force: bool,
    /// The folder to write to.
    #[arg(default_value = ".")]
    folder: PathBuf,
}

pub(super) fn run(args: &Arguments) -> Result<u8, String> {
    let envoy = EnvoyConfig {
        proxy: PROXY,
        admin: ADMIN,
        origin: &args.origin,
        module: "edgesplit.wasm",
        plugin: PLUGIN,
        services: &[("experiments", 8002), ("collector", 8003)],
    };
    let envoy = format!(
        "# Envoy with edgesplit in front of {}.\n#\n# Put edgesplit.wasm beside this file, replace the addresses of the clusters \
         `experiments` and `collector`, and start it\n# with: envoy -c envoy.yaml\n\n{}",
        args.origin,
        envoy.yaml()?
    );
    // Editors read the schemas beside the files.
    let plugin = format!("# yaml-language-server: $schema=./{PLUGIN_SCHEMA}\n{PLUGIN}");
    let [experiments_schema, plugin_schema] =
        [Document::Experiments, Document::Plugin].map(|document| format!("{:#}\n", document.schema()));
    let files = [
        ("experiments.json", EXPERIMENTS),
        ("plugin.yaml", &plugin),
        ("envoy.yaml", &envoy),
        (EXPERIMENTS_SCHEMA, &experiments_schema),
        (PLUGIN_SCHEMA, &plugin_schema),
    ];
    let existing: Vec<String> = (files.iter().map(|(name, _)| args.folder.join(name)))
        .filter(|file| file.exists())
        .map(|file| file.display().to_string())
        .collect();
    if !existing.is_empty() && !args.force {
        return Err(format!("{} would be replaced: use --force, or another folder", existing.join(", ")));
    }
    std::fs::create_dir_all(&args.folder).map_err(|error| format!("{}: {error}", args.folder.display()))?;
    for (name, text) in files {
        write_all(&args.folder.join(name), text.as_bytes())?;
    }
    let path =
        |name: &str| args.folder.join(name).strip_prefix(".").map_or_else(|_| args.folder.join(name), PathBuf::from);
    let [experiments, plugin, envoy, experiments_schema, plugin_schema] =
        files.map(|(name, _)| path(name).display().to_string());
    output::print(&format!(
        "\
wrote {experiments}: an experiment on the page /, for half of the visitors
wrote {plugin}: how visitors are identified, and where events go
wrote {envoy}: an Envoy with both, in front of {origin}
wrote {experiments_schema} and {plugin_schema}: for editors, which complete and check both files

Next, check the files, and try them in front of your site:

edgesplit validate --strict --plugin {plugin} {experiments}
edgesplit run --origin {origin} --config {experiments} --plugin {plugin}
",
        origin = args.origin
    ))?;
    Ok(EXIT_OK)
}
