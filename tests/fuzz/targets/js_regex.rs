#![no_main]

#[path = "../inputs/js_regex.rs"]
mod js_regex_input;

libfuzzer_sys::fuzz_target!(|data: &[u8]| js_regex_input::run(data));
