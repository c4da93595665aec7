//! Plugin configurations: JSON, an encoded Struct, or neither.

use edgesplit_filter::plugin_config::PluginConfig;

/// Takes one input.
pub(crate) fn run(data: &[u8]) {
    if let Err(problems) = PluginConfig::parse(data) {
        assert!(problems.errors() > 0, "refused without a reason");
    }
}
