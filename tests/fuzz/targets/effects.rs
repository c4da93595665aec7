#![no_main]

#[path = "../inputs/effects.rs"]
mod effects;

libfuzzer_sys::fuzz_target!(|data: &[u8]| effects::run(data));
