//! An OCI image of the module, for Istio, Envoy Gateway and registries.
//!
//! The result is an image layout (a folder) in the variant that Istio calls "compat": an ordinary image whose only layer is
//! a tar, compressed with gzip, with `plugin.wasm` at its root. Nothing in it depends on the time, the machine or the user:
//! the same module gives the same digest. Tools such as `skopeo copy oci:dist/image docker://…` push it.

use anyhow::{Context, Result};
use flate2::{Compression, GzBuilder};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::io::Write;
use std::path::Path;

const DESCRIPTION: &str = "A/B tests inside Envoy: a proxy-wasm filter that assigns variants, keeps caches correct and accounts for every exposure";

const CONFIG_TYPE: &str = "application/vnd.oci.image.config.v1+json";
const LAYER_TYPE: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";

/// Writes the image of `module` to `folder`, in place of an earlier one, and prints the manifest's digest.
pub(crate) fn write(module: &Path, folder: &Path) -> Result<()> {
    let module_bytes = std::fs::read(module).with_context(|| module.display().to_string())?;
    let tar = tar_of(&[("plugin.wasm", &module_bytes)])?;
    let layer = gzip(&tar)?;

    if folder.exists() {
        std::fs::remove_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    let blobs = folder.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).with_context(|| blobs.display().to_string())?;
    let put = |media_type: &str, bytes: &[u8], annotations: Value| -> Result<Value> {
        let digest = sha256(bytes);
        std::fs::write(blobs.join(&digest), bytes)?;
        let digest = format!("sha256:{digest}");
        Ok(json!({"mediaType": media_type, "digest": digest, "size": bytes.len(), "annotations": annotations}))
    };
    let version = env!("CARGO_PKG_VERSION");
    // Registries and Istio only accept architectures that Go knows, and the module's is not one of them.
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
            "org.opencontainers.image.description": DESCRIPTION,
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
    println!("{}: {digest}", folder.display());
    Ok(())
}

/// A tar with one file, without an owner or a time.
pub(crate) fn tar_of(files: &[(&str, &[u8])]) -> Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_entry_type(tar::EntryType::Regular);
        archive.append_data(&mut header, name, *bytes)?;
    }
    Ok(archive.into_inner()?)
}

fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    // 255: an unknown system. By default the header names the one that this is built on.
    let mut gzip = GzBuilder::new().mtime(0).operating_system(255).write(Vec::new(), Compression::best());
    gzip.write_all(bytes)?;
    Ok(gzip.finish()?)
}

/// A digest in hexadecimal digits.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
