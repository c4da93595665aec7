//! Whatever stands in the proxy's configuration: JSON, an encoded Struct, neither.
#![no_main]

use edgesplit::plugin_config::PluginConfig;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Err(problems) = PluginConfig::parse(data) {
        assert!(problems.errors() > 0, "refused without a reason");
    }
});
