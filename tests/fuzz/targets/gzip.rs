#![no_main]

#[path = "../inputs/gzip.rs"]
mod gzip;

libfuzzer_sys::fuzz_target!(|data: &[u8]| gzip::run(data));
