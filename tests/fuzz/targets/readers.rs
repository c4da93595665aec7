#![no_main]

#[path = "../inputs/readers.rs"]
mod readers;

libfuzzer_sys::fuzz_target!(|data: &[u8]| readers::run(data));
