//! The OCI image of the module, byte by byte, as Istio and registries read it.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice)]

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Writes the image of these bytes to a folder of this name. Returns the folder and the program's output.
fn image(name: &str, module: &[u8]) -> (PathBuf, String) {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("module.wasm");
    std::fs::write(&file, module).unwrap();
    let mut xtask = Command::new(env!("CARGO_BIN_EXE_xtask"));
    let output = xtask.arg("image").args([&file, &folder.join("image")]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    (folder.join("image"), String::from_utf8(output.stdout).unwrap())
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn json_of(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

/// The blob that a descriptor names, after a check of its digest and size.
fn blob(folder: &Path, descriptor: &Value, media_type: &str) -> Vec<u8> {
    assert_eq!(descriptor["mediaType"], media_type);
    let digest = descriptor["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
    let bytes = std::fs::read(folder.join("blobs/sha256").join(digest)).unwrap();
    assert_eq!((sha256(&bytes).as_str(), descriptor["size"].as_u64()), (digest, Some(bytes.len() as u64)));
    bytes
}

/// A header of a tar: the fields of ustar, in octal.
fn tar_header(name: &str, size: usize) -> Vec<u8> {
    let mut header = vec![0; 512];
    let mut put = |at: usize, text: &[u8]| header[at..at + text.len()].copy_from_slice(text);
    put(0, name.as_bytes());
    put(100, b"0000644\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{size:011o}\0").as_bytes());
    put(136, b"00000000000\0");
    put(148, b"        ");
    put(156, b"0");
    put(257, b"ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:07o}\0").as_bytes());
    header
}

#[test]
fn image_has_one_layer_with_the_module() {
    let module: Vec<u8> = b"\0asm\x01\0\0\0".iter().copied().chain((0..100_000_u32).map(|n| (n % 251) as u8)).collect();
    let (folder, printed) = image("image-bytes", &module);

    assert_eq!(std::fs::read(folder.join("oci-layout")).unwrap(), br#"{"imageLayoutVersion":"1.0.0"}"#);
    let index = json_of(&std::fs::read(folder.join("index.json")).unwrap());
    assert_eq!(
        (&index["schemaVersion"], &index["mediaType"], index["manifests"].as_array().unwrap().len()),
        (&json!(2), &json!("application/vnd.oci.image.index.v1+json"), 1)
    );
    let described = &index["manifests"][0];
    assert_eq!(described["annotations"]["org.opencontainers.image.ref.name"], env!("CARGO_PKG_VERSION"));
    assert!(printed.trim_end().ends_with(described["digest"].as_str().unwrap()), "{printed}");

    let manifest = json_of(&blob(&folder, described, "application/vnd.oci.image.manifest.v1+json"));
    assert_eq!((&manifest["schemaVersion"], manifest["layers"].as_array().unwrap().len()), (&json!(2), 1));
    let config = json_of(&blob(&folder, &manifest["config"], "application/vnd.oci.image.config.v1+json"));
    let layer = blob(&folder, &manifest["layers"][0], "application/vnd.oci.image.layer.v1.tar+gzip");
    // Deflated at its best, without a name, a time or a system.
    assert_eq!(layer[..10], [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 2, 255]);
    let mut tar = Vec::new();
    flate2::read::GzDecoder::new(layer.as_slice()).read_to_end(&mut tar).unwrap();
    assert_eq!(config["rootfs"], json!({"type": "layers", "diff_ids": [format!("sha256:{}", sha256(&tar))]}));

    let (header, rest) = tar.split_at(512);
    assert_eq!(header, tar_header("plugin.wasm", module.len()));
    let (content, rest) = rest.split_at(module.len());
    assert_eq!(content, module);
    let padding = module.len().next_multiple_of(512) - module.len();
    assert_eq!(rest, vec![0; padding + 1024], "the end of a tar");
    let blobs = std::fs::read_dir(folder.join("blobs/sha256")).unwrap().count();
    assert_eq!(blobs, 3, "manifest, config and layer");
}

#[test]
fn image_digest_depends_on_the_module_alone() {
    let module =
        std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../dist/edgesplit.wasm")).expect("`make build`");
    let digest = |name, module: &[u8]| image(name, module).1.rsplit(' ').next().unwrap().to_owned();
    let first = digest("image-once", &module);
    assert_eq!(first, digest("image-twice", &module));
    // An earlier image is replaced.
    assert_eq!(first, digest("image-once", &module));
    assert_ne!(first, digest("image-other", &module[..module.len() - 1]));
}
