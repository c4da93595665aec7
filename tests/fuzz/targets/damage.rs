#![no_main]

#[path = "../inputs/damage.rs"]
mod damage;

libfuzzer_sys::fuzz_target!(|data: &[u8]| damage::run(data));
