#![no_main]

#[path = "../inputs/plugin_config.rs"]
mod plugin_config;

libfuzzer_sys::fuzz_target!(|data: &[u8]| plugin_config::run(data));
