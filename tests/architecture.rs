//! The architecture's boundaries: dependencies between crates, dependencies between the files of a crate, the one place
//! that speaks to the host, and the length of files.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod imports;

use edgesplit_testkit::project::{relative, rust_files};
use edgesplit_testkit::root;
use serde_json::Value;
use std::process::Command;

/// The dependencies that each crate may have on other crates of the workspace, apart from those of its tests.
const ALLOWED: [(&str, &[&str]); 8] = [
    ("js-regex", &[]),
    ("edgesplit-engine", &["js-regex"]),
    ("edgesplit-formats", &["edgesplit-engine", "js-regex"]),
    ("edgesplit-filter", &["edgesplit-engine", "edgesplit-formats"]),
    ("edgesplit-cli", &["edgesplit-engine", "edgesplit-filter", "edgesplit-formats"]),
    ("edgesplit", &["edgesplit-engine", "edgesplit-filter"]),
    // Never shipped.
    ("edgesplit-testkit", &["edgesplit-cli", "edgesplit-engine", "edgesplit-filter", "edgesplit-formats"]),
    ("xtask", &[]),
];

const FILE_LINES_MAX: usize = 400;

/// Files that are still longer. To be emptied, never extended.
const KNOWN_LONG: &[&str] = &["crates/filter/src/plugin_config/tests.rs"];

/// The packages of the workspace, as cargo describes them.
fn packages() -> Vec<Value> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--no-deps", "--locked", "--format-version", "1"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice::<Value>(&output.stdout).unwrap()["packages"].as_array().unwrap().clone()
}

#[test]
fn crate_dependencies_point_one_way() {
    let mut wrong = Vec::new();
    for package in packages() {
        let name = package["name"].as_str().unwrap();
        let Some((_, allowed)) = ALLOWED.iter().find(|(known, _)| *known == name) else {
            wrong.push(format!("{name} is a new crate: list its allowed dependencies here"));
            continue;
        };
        let dependencies = package["dependencies"].as_array().unwrap().iter();
        for dependency in dependencies.filter(|dependency| dependency["kind"] != "dev") {
            let target = dependency["name"].as_str().unwrap();
            if dependency["path"].is_string() && !allowed.contains(&target) {
                wrong.push(format!("{name} may not depend on {target}"));
            }
            if target == "proxy-wasm" && name != "edgesplit" {
                wrong.push(format!("{name} may not depend on proxy-wasm: only the plugin speaks to the host"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn only_the_plugin_speaks_to_the_host() {
    // It lends the host of the built module to an interpreter, which takes owned values only.
    const EXEMPT: [&str; 1] = ["crates/testkit/src/module/state.rs"];
    let mut wrong = Vec::new();
    for file in rust_files(&["crates", "xtask", "tests", "examples"]) {
        let name = relative(&file);
        if EXEMPT.contains(&name.as_str()) || name == "tests/architecture.rs" {
            continue;
        }
        let text = std::fs::read_to_string(&file).unwrap();
        for (number, line) in (1..).zip(text.lines()) {
            let code = line.split("//").next().unwrap_or_default();
            let is_unsafe = ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern", "unsafe("]
                .iter()
                .any(|keyword| code.contains(keyword));
            if is_unsafe || code.contains("proxy_wasm") {
                wrong.push(format!("{name}:{number}: {}", line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "only src/ may contain `unsafe` or name the SDK:\n{}", wrong.join("\n"));
}

#[test]
fn files_form_no_import_cycles() {
    let mut cycles = Vec::new();
    for package in packages() {
        for target in package["targets"].as_array().unwrap() {
            let kind = target["kind"][0].as_str().unwrap();
            if matches!(kind, "lib" | "cdylib" | "bin") {
                let entry = target["src_path"].as_str().unwrap();
                cycles.extend(imports::cycles(entry.as_ref()));
            }
        }
    }
    let cycles: Vec<String> = cycles.iter().map(|cycle| cycle.imports.join("\n")).collect();
    assert!(
        cycles.is_empty(),
        "files import each other: move the types that they share to another file\n\n{}",
        cycles.join("\n\n")
    );
}

#[test]
fn import_cycles_are_found_through_reexports() {
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("import-cycles");
    let files = [
        ("lib.rs", "mod a;\nmod b;\nmod c;\npub use a::A;\n"),
        ("a.rs", "use crate::b::B;\npub struct A(B);\n#[cfg(test)] mod tests { use crate::c; }"),
        ("b.rs", "use super::A;\npub struct B(Option<Box<A>>);\n"),
        ("c.rs", "fn c(_: crate::A) {}\n"),
    ];
    std::fs::create_dir_all(&folder).unwrap();
    for (name, text) in files {
        std::fs::write(folder.join(name), text).unwrap();
    }
    let cycles = imports::cycles(&folder.join("lib.rs"));
    let names = |cycle: &imports::Cycle| -> Vec<String> {
        cycle.files.iter().map(|file| file.rsplit('/').next().unwrap().to_owned()).collect()
    };
    assert_eq!(cycles.iter().map(names).collect::<Vec<_>>(), [["a.rs", "b.rs"]]);
}

#[test]
fn files_stay_short() {
    let long: Vec<String> = rust_files(&["src", "crates", "xtask"])
        .iter()
        .filter_map(|file| {
            let lines = std::fs::read_to_string(file).unwrap().lines().count();
            (lines > FILE_LINES_MAX && !KNOWN_LONG.contains(&relative(file).as_str()))
                .then(|| format!("{}: {lines} lines", relative(file)))
        })
        .collect();
    assert!(long.is_empty(), "over {FILE_LINES_MAX} lines:\n{}", long.join("\n"));
}

#[test]
fn tests_of_the_security_table_exist() {
    let files = rust_files(&["src", "crates", "tests"]);
    let sources: String = files.iter().map(|file| std::fs::read_to_string(file).unwrap()).collect();
    let is_file = |name: &str| files.iter().any(|file| file.file_stem().is_some_and(|stem| stem == name));
    let table = std::fs::read_to_string(root().join("docs/security.md")).unwrap();
    let mut missing = Vec::new();
    for row in table.lines().filter(|line| line.starts_with("| ")).skip(1) {
        let tests = row.rsplit('|').nth(1).unwrap();
        // `file::{test, test}` names several.
        let quoted = tests.split('`').skip(1).step_by(2);
        let names =
            quoted.flat_map(|text| text.split(&[':', '{', '}', ',', ' '][..]).filter(|name| name.contains('_')));
        for name in names.filter(|name| !name.contains('/')) {
            let items = [format!("fn {name}("), format!("mod {name};")];
            if !is_file(name) && !items.iter().any(|item| sources.contains(item)) {
                missing.push(name.to_owned());
            }
        }
    }
    assert!(missing.is_empty(), "docs/security.md names tests that do not exist: {missing:?}");
}
