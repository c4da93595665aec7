//! Puts the module into an OCI image that Istio, Envoy Gateway and registries take: `make image`.
//!
//! What comes out is an image layout (a folder) of the kind that Istio calls "compat": an ordinary image whose only layer is a
//! tar, compressed with gzip, with `plugin.wasm` at its root. Nothing in it depends on the time, the machine or the user, so
//! that one module gives one digest. A tool such as `skopeo copy oci:dist/image docker://…` pushes it.

use flate2::{Compression, GzBuilder};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

const CONFIG_TYPE: &str = "application/vnd.oci.image.config.v1+json";
const LAYER_TYPE: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [module, folder] = arguments.as_slice() else {
        eprintln!("image: expected the module and the folder to write to");
        return ExitCode::from(2);
    };
    match write_image(Path::new(module), Path::new(folder)) {
        Ok(digest) => {
            println!("{folder}: {digest}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("image: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Writes the image of `module` to `folder` anew; gives the manifest's digest.
fn write_image(module: &Path, folder: &Path) -> std::io::Result<String> {
    let named = |path: &Path| {
        let path = path.display().to_string();
        move |error: std::io::Error| std::io::Error::new(error.kind(), format!("{path}: {error}"))
    };
    let module_bytes = std::fs::read(module).map_err(named(module))?;
    let tar = tar_of("plugin.wasm", &module_bytes)?;
    let layer = gzip(&tar)?;

    if folder.exists() {
        std::fs::remove_dir_all(folder).map_err(named(folder))?;
    }
    let blobs = folder.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).map_err(named(&blobs))?;
    let put = |media_type: &str, bytes: &[u8], annotations: Value| -> std::io::Result<Value> {
        let digest = sha256(bytes);
        std::fs::write(blobs.join(&digest), bytes)?;
        let digest = format!("sha256:{digest}");
        Ok(json!({"mediaType": media_type, "digest": digest, "size": bytes.len(), "annotations": annotations}))
    };
    let version = env!("CARGO_PKG_VERSION");
    // The module's architecture is none that Go knows; registries and Istio want one they know.
    let config = json!({
        "architecture": "amd64", "os": "linux", "config": {},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", sha256(&tar))]},
    });
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST_TYPE,
        "config": put(CONFIG_TYPE, config.to_string().as_bytes(), json!({}))?,
        "layers": [put(LAYER_TYPE, &layer, json!({}))?],
        "annotations": {
            "org.opencontainers.image.title": "edgesplit",
            "org.opencontainers.image.description": env!("CARGO_PKG_DESCRIPTION"),
            "org.opencontainers.image.licenses": env!("CARGO_PKG_LICENSE"),
            "org.opencontainers.image.version": version,
        },
    });
    let manifest = manifest.to_string();
    let digest = format!("sha256:{}", sha256(manifest.as_bytes()));
    let tag = json!({"org.opencontainers.image.ref.name": version});
    let manifest = put(MANIFEST_TYPE, manifest.as_bytes(), tag)?;
    let index = json!({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [manifest]});
    std::fs::write(folder.join("index.json"), index.to_string())?;
    std::fs::write(folder.join("oci-layout"), json!({"imageLayoutVersion": "1.0.0"}).to_string())?;
    Ok(digest)
}

/// A tar with one file that belongs to nobody and was never made.
fn tar_of(name: &str, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut header = tar::Header::new_ustar();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_entry_type(tar::EntryType::Regular);
    let mut archive = tar::Builder::new(Vec::new());
    archive.append_data(&mut header, name, bytes)?;
    archive.into_inner()
}

fn gzip(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    // 255: an unknown system. Without it the header tells which one this is.
    let mut gzip = GzBuilder::new().mtime(0).operating_system(255).write(Vec::new(), Compression::best());
    gzip.write_all(bytes)?;
    gzip.finish()
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
