#![no_main]

#[path = "../inputs/shared_data.rs"]
mod shared_data;

libfuzzer_sys::fuzz_target!(|data: &[u8]| shared_data::run(data));
