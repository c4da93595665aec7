#![no_main]

#[path = "../inputs/visit.rs"]
mod visit;

libfuzzer_sys::fuzz_target!(|data: &[u8]| visit::run(data));
