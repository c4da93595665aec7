//! The files of a release: their contents, and that the same module gives the same files.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

fn output(command: &mut Command) -> String {
    let output = command.current_dir(project("")).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The newest glibc that the native module may need: Envoy's own image has it (Ubuntu 22.04).
const GLIBC_MINOR_MAX: u32 = 35;

/// Writes a release to a folder of this name, and returns its files.
fn release(name: &str) -> BTreeMap<String, Vec<u8>> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&folder).unwrap();
    let (image, out) = (folder.join("image"), folder.join("release"));
    let xtask = || Command::new(env!("CARGO_BIN_EXE_xtask"));
    output(xtask().args(["image", "dist/edgesplit.wasm"]).arg(&image));
    output(
        xtask().args(["release", "dist/edgesplit.wasm", "dist/libedgesplit.so", "dist/edgesplit"]).args([&image, &out]),
    );
    let files = std::fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().path());
    files
        .map(|file| (file.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(&file).unwrap()))
        .collect()
}

/// Envoy's images have no compiler's libraries.
#[test]
fn native_module_needs_the_c_library_alone() {
    let listing = output(Command::new("readelf").args(["--wide", "--dynamic", "dist/libedgesplit.so"]));
    let needed = listing.lines().filter(|line| line.contains("(NEEDED)"));
    let others: Vec<&str> =
        needed.filter(|line| !["libc.so", "libm.so", "ld-linux"].iter().any(|name| line.contains(name))).collect();
    assert!(others.is_empty(), "{others:?}");
}

#[test]
fn release_lists_checksums_and_compiled_crates() {
    let files = release("release-once");
    let version = env!("CARGO_PKG_VERSION");
    let sums = String::from_utf8(files["SHA256SUMS"].clone()).unwrap();
    let mut named = BTreeSet::new();
    for line in sums.lines() {
        let (sum, name) = line.split_once("  ").unwrap();
        let found: String = Sha256::digest(&files[name]).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(sum, found, "{name}");
        named.insert(name);
    }
    assert_eq!(named.len() + 1, files.len(), "every file except the list itself");
    let module = format!("edgesplit-{version}.wasm");
    assert_eq!(files[&module], std::fs::read(project("dist/edgesplit.wasm")).unwrap());
    assert!(named.contains(&*format!("edgesplit-{version}-image.tar")));

    let bom: Value = serde_json::from_slice(&files[&format!("edgesplit-{version}.cdx.json")]).unwrap();
    assert_eq!((&bom["bomFormat"], &bom["specVersion"]), (&Value::from("CycloneDX"), &Value::from("1.5")));
    let native = format!("libedgesplit-{version}-{}-{}.so", std::env::consts::OS, std::env::consts::ARCH);
    assert_eq!(files[&native], std::fs::read(project("dist/libedgesplit.so")).unwrap());
    let glibc = &bom["metadata"]["component"]["properties"][0];
    assert_eq!(glibc["name"], format!("edgesplit:glibc:{native}"));
    let minor = glibc["value"].as_str().unwrap().strip_prefix("2.").unwrap().parse::<u32>().unwrap();
    assert!(minor <= GLIBC_MINOR_MAX, "the native module needs glibc 2.{minor}");

    let in_module = |component: &&Value| {
        component["properties"].as_array().unwrap().iter().any(|property| property["value"] == module.as_str())
    };
    let components = bom["components"].as_array().unwrap();
    let names = |components: Vec<&Value>| -> BTreeSet<String> {
        components.into_iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect()
    };
    let (all, module) = (names(components.iter().collect()), names(components.iter().filter(in_module).collect()));
    for name in ["proxy-wasm", "serde_json", "murmur3", "base64"] {
        assert!(module.contains(name), "{name} is compiled into the module");
    }
    let in_native = |component: &&Value| {
        component["properties"].as_array().unwrap().iter().any(|property| property["value"] == native.as_str())
    };
    let native_crates = names(components.iter().filter(in_native).collect());
    assert!(native_crates.contains("serde_json") && !native_crates.contains("proxy-wasm"), "{native_crates:?}");
    for name in ["clap", "ureq", "indicatif"] {
        assert!(all.contains(name) && !module.contains(name), "{name} is compiled into the command alone");
    }
    for name in ["wasmi", "jsonschema", "edgesplit", "edgesplit-engine"] {
        assert!(!all.contains(name), "{name} is in neither");
    }
    for component in components {
        let sum = component["hashes"][0]["content"].as_str().unwrap_or_default();
        assert!(sum.len() == 64 && component["licenses"][0]["expression"] != "NOASSERTION", "{component}");
    }

    let again = release("release-twice");
    assert!(files == again, "the same module gives the same release");
}
