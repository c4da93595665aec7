//! The files of a release: both modules, command, image, bill of materials and checksums.
//!
//! The bill of materials (CycloneDX 1.5) lists the crates that are compiled into the modules and into the command, with
//! versions, licences and the checksums of `Cargo.lock`, and the glibc that the native module needs. Apart from the native
//! module and the command, no file depends on the time or the machine.

use crate::elf::{self, Needs};
use crate::image::{sha256, tar_of};
use crate::module::{TARGET, cargo, host_target, output, root};
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// A crate that is compiled in: its name and version.
type Crate = (String, String);

/// The files that were built, and the folder of the image's layout.
pub(crate) struct Built<'a> {
    pub(crate) module: &'a Path,
    pub(crate) native: &'a Path,
    pub(crate) command: &'a Path,
    pub(crate) image: &'a Path,
}

/// The names of the compiled files in a release.
struct Names {
    module: String,
    native: String,
    command: String,
}

/// Writes a release to the folder `out`, and prints the checksums.
pub(crate) fn write(built: &Built<'_>, out: &Path) -> Result<()> {
    let version = env!("CARGO_PKG_VERSION");
    let system = format!("{}-{}", std::env::consts::OS, std::env::consts::ARCH);
    let names = Names {
        module: format!("edgesplit-{version}.wasm"),
        native: format!("libedgesplit-{version}-{system}.so"),
        command: format!("edgesplit-{version}-{system}"),
    };
    let needs = elf::needs(built.native)?;
    let bill = bill_of_materials(version, &names, &needs)?;
    let read = |file: &Path| std::fs::read(file).with_context(|| file.display().to_string());
    let mut files = BTreeMap::from([
        (names.module, read(built.module)?),
        (names.native.clone(), read(built.native)?),
        (names.command.clone(), read(built.command)?),
        (format!("edgesplit-{version}-image.tar"), packed(built.image)?),
        (format!("edgesplit-{version}.cdx.json"), format!("{bill:#}\n").into_bytes()),
    ]);
    let sums: String = files.iter().map(|(name, bytes)| format!("{}  {name}\n", sha256(bytes))).collect();
    files.insert("SHA256SUMS".to_owned(), sums.clone().into_bytes());

    if out.exists() {
        std::fs::remove_dir_all(out).with_context(|| out.display().to_string())?;
    }
    std::fs::create_dir_all(out).with_context(|| out.display().to_string())?;
    for (name, bytes) in files {
        std::fs::write(out.join(name), bytes)?;
    }
    make_executable(&out.join(names.command))?;
    print!("{}/\n{sums}", out.display());
    println!("{} needs glibc {} and {}", names.native, needs.glibc, needs.libraries.join(", "));
    Ok(())
}

#[cfg(unix)]
fn make_executable(file: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    Ok(std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o755))?)
}

#[cfg(not(unix))]
fn make_executable(_: &Path) -> Result<()> {
    Ok(())
}

/// The image layout as a tar, its entries in order of their names.
fn packed(folder: &Path) -> Result<Vec<u8>> {
    let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let mut open: Vec<PathBuf> = vec![folder.to_path_buf()];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            for entry in std::fs::read_dir(&path).with_context(|| path.display().to_string())? {
                open.push(entry?.path());
            }
        } else {
            files.insert(path.strip_prefix(folder)?.display().to_string(), std::fs::read(&path)?);
        }
    }
    let files: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
    tar_of(&files)
}

/// The crates that a package is built from for a target, each with its licence. The project's own are left out.
fn compiled_in(package: &str, target: &str) -> Result<BTreeMap<Crate, String>> {
    let options = ["tree", "--locked", "--edges", "normal", "--prefix", "none", "--format", "{p}|{l}"];
    let lines = output(cargo().args(options).args(["--package", package, "--target", target]))?;
    let crates = lines.lines().filter_map(|line| {
        let (krate, licence) = line.split_once('|')?;
        let mut words = krate.split(' ');
        let (name, version, path) = (words.next()?, words.next()?, words.next());
        // `(proc-macro)` may follow a version, or `(*)`; crates of the project have their folder there.
        let is_own = path.is_some_and(|path| path.starts_with("(/"));
        let version = version.trim_start_matches('v').to_owned();
        (!is_own).then(|| ((name.to_owned(), version), licence.trim_end_matches(" (*)").replace('/', " OR ")))
    });
    Ok(crates.collect())
}

/// The checksums of `Cargo.lock`.
fn checksums() -> Result<BTreeMap<Crate, String>> {
    let lock: toml::Table = std::fs::read_to_string(root().join("Cargo.lock"))?.parse()?;
    let packages = lock.get("package").and_then(toml::Value::as_array).context("no packages in Cargo.lock")?;
    let checksum = |package: &toml::Value| {
        let text = |name: &str| Some(package.get(name)?.as_str()?.to_owned());
        Some(((text("name")?, text("version")?), text("checksum")?))
    };
    Ok(packages.iter().filter_map(checksum).collect())
}

fn bill_of_materials(version: &str, names: &Names, needs: &Needs) -> Result<Value> {
    let host = host_target()?;
    let checksums = checksums()?;
    let mut crates: BTreeMap<Crate, (String, BTreeSet<&String>)> = BTreeMap::new();
    let artefacts = [
        (&names.module, "edgesplit", TARGET),
        (&names.native, "edgesplit", &host),
        (&names.command, "edgesplit-cli", &host),
    ];
    for (artefact, package, target) in artefacts {
        for (krate, licence) in compiled_in(package, target)? {
            crates.entry(krate).or_insert((licence, BTreeSet::new())).1.insert(artefact);
        }
    }
    let components = crates.into_iter().map(|((name, version), (licence, artefacts))| {
        let url = format!("pkg:cargo/{name}@{version}");
        let licence = if licence.is_empty() { "NOASSERTION" } else { &licence };
        let properties = artefacts.iter().map(|artefact| json!({"name": "edgesplit:in", "value": artefact}));
        let mut component = json!({
            "type": "library", "bom-ref": url, "name": name, "version": version, "purl": url,
            "licenses": [{"expression": licence}], "properties": properties.collect::<Vec<_>>(),
        });
        if let (Some(sum), Some(members)) = (checksums.get(&(name, version)), component.as_object_mut()) {
            members.insert("hashes".to_owned(), json!([{"alg": "SHA-256", "content": sum}]));
        }
        component
    });
    let components: Vec<Value> = components.collect();
    Ok(json!({
        "bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1,
        "metadata": {"component": {
            "type": "application", "bom-ref": format!("pkg:cargo/edgesplit@{version}"), "name": "edgesplit",
            "version": version, "licenses": [{"license": {"id": "Apache-2.0"}}],
            "properties": [{"name": format!("edgesplit:glibc:{}", names.native), "value": needs.glibc}],
        }},
        "components": components,
    }))
}
