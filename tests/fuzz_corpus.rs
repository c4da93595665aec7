//! Every input that fuzzing kept, through the code that is fuzzed. `make fuzz` finds more.
#![allow(missing_docs)]
// Helpers of tests fail as tests do: by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "fuzz/inputs/damage.rs"]
mod damage;
#[path = "fuzz/inputs/effect_policy.rs"]
mod effect_policy;
#[path = "fuzz/inputs/effects.rs"]
mod effects;
#[path = "fuzz/inputs/gzip.rs"]
mod gzip;
#[path = "fuzz/inputs/js_regex.rs"]
mod js_regex_input;
#[path = "fuzz/inputs/native.rs"]
mod native;
#[path = "fuzz/inputs/plugin_config.rs"]
mod plugin_config;
#[path = "fuzz/inputs/readers.rs"]
mod readers;
#[path = "fuzz/inputs/reply.rs"]
mod reply;
#[path = "fuzz/inputs/request.rs"]
mod request;
#[path = "fuzz/inputs/shared_data.rs"]
mod shared_data;
#[path = "fuzz/inputs/vendors.rs"]
mod vendors;
#[path = "fuzz/inputs/visit.rs"]
mod visit;

use std::path::Path;

/// Runs the corpus of one target.
fn run_all(target: &str, run: fn(&[u8])) {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz");
    let mut inputs = 0;
    for entry in std::fs::read_dir(fuzz.join("corpus").join(target)).unwrap() {
        run(&std::fs::read(entry.unwrap().path()).unwrap());
        inputs += 1;
    }
    assert!(inputs > 0, "{target} has no corpus");
}

#[test]
fn requests() {
    run_all("request", request::run);
}

#[test]
fn plugin_configurations() {
    run_all("plugin_config", plugin_config::run);
}

#[test]
fn experiments() {
    run_all("native", native::run);
}

#[test]
fn bytes_in_shared_data() {
    run_all("shared_data", shared_data::run);
}

#[test]
fn patterns() {
    run_all("js_regex", js_regex_input::run);
}

#[test]
fn replies() {
    run_all("reply", reply::run);
}

#[test]
fn vendors_payloads() {
    run_all("vendors", vendors::run);
}

#[test]
fn damaged_payloads() {
    run_all("damage", damage::run);
}

#[test]
fn visits() {
    run_all("visit", visit::run);
}

#[test]
fn effects_of_variants() {
    run_all("effects", effects::run);
}

#[test]
fn policies_for_effects() {
    run_all("effect_policy", effect_policy::run);
}

#[test]
fn compressed_configs() {
    run_all("gzip", gzip::run);
}

#[test]
fn configs_read_in_steps() {
    run_all("readers", readers::run);
}
