#![no_main]

#[path = "../inputs/effect_policy.rs"]
mod effect_policy;

libfuzzer_sys::fuzz_target!(|data: &[u8]| effect_policy::run(data));
