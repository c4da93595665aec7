#![no_main]

#[path = "../inputs/native.rs"]
mod native;

libfuzzer_sys::fuzz_target!(|data: &[u8]| native::run(data));
