#![no_main]

#[path = "../inputs/vendors.rs"]
mod vendors;

libfuzzer_sys::fuzz_target!(|data: &[u8]| vendors::run(data));
