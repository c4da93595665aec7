#!/usr/bin/env python3
"""Puts what `make build` and `make image` made into a folder: versioned, with a bill of materials and checksums.

    release.py MODULE COMMAND IMAGE OUT

The bill of materials (CycloneDX 1.5) lists the crates of the module and of the command, out of Cargo's own metadata:
what is compiled in for their targets, with versions, licences and the checksums of Cargo.lock. Nothing in any file
depends on the time or the machine, but for the command, which is native.
"""

import hashlib
import io
import json
import pathlib
import platform
import subprocess
import sys
import tarfile
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent
WASM = "wasm32-wasip1"


def cargo(*arguments):
    command = ["cargo", *arguments]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout


def host():
    lines = subprocess.run(["rustc", "-vV"], check=True, capture_output=True, text=True).stdout.splitlines()
    return next(line.split(": ")[1] for line in lines if line.startswith("host: "))


def compiled_in(target):
    """Names and versions of the crates that end up in the artefact for a target."""
    lines = cargo(
        "tree", "--locked", "--edges", "normal", "--prefix", "none", "--format", "{p}", "--target", target
    ).splitlines()
    words = (line.split() for line in lines)
    return {(name, version.lstrip("v")) for name, version, *_ in words if name != "edgesplit"}


def bill_of_materials(version, targets):
    lock = tomllib.loads((ROOT / "Cargo.lock").read_text())["package"]
    checksums = {(one["name"], one["version"]): one.get("checksum") for one in lock}
    licences = {}
    for target in targets.values():
        metadata = cargo("metadata", "--locked", "--format-version", "1", "--filter-platform", target)
        licences |= {(one["name"], one["version"]): one["license"] for one in json.loads(metadata)["packages"]}
    components, where = {}, {}
    for artefact, target in targets.items():
        for key in compiled_in(target):
            where.setdefault(key, []).append(artefact)
            component = {
                "type": "library",
                "bom-ref": f"pkg:cargo/{key[0]}@{key[1]}",
                "name": key[0],
                "version": key[1],
                "purl": f"pkg:cargo/{key[0]}@{key[1]}",
                "licenses": [{"expression": (licences[key] or "NOASSERTION").replace("/", " OR ")}],
            }
            if checksums.get(key):
                component["hashes"] = [{"alg": "SHA-256", "content": checksums[key]}]
            components[key] = component
    for key, component in components.items():
        component["properties"] = [{"name": "edgesplit:in", "value": name} for name in sorted(where[key])]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": f"pkg:cargo/edgesplit@{version}",
                "name": "edgesplit",
                "version": version,
                "licenses": [{"license": {"id": "Apache-2.0"}}],
            }
        },
        "components": [components[key] for key in sorted(components)],
    }


def packed(folder):
    """The image layout as a tar: entries in order, of nobody, without a time."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                entry = tarfile.TarInfo(str(path.relative_to(folder)))
                entry.size, entry.mode = path.stat().st_size, 0o644
                archive.addfile(entry, io.BytesIO(path.read_bytes()))
    return data.getvalue()


def main():
    version = tomllib.loads((ROOT / "Cargo.toml").read_text())["package"]["version"]
    system = f"{platform.system().lower()}-{platform.machine()}"
    module_file, command_file, image, out = (pathlib.Path(argument) for argument in sys.argv[1:])
    out.mkdir(exist_ok=True)
    for old in out.iterdir():
        old.unlink()
    module, command = f"edgesplit-{version}.wasm", f"edgesplit-{version}-{system}"
    files = {
        module: module_file.read_bytes(),
        command: command_file.read_bytes(),
        f"edgesplit-{version}-image.tar": packed(image),
        f"edgesplit-{version}.cdx.json": json.dumps(
            bill_of_materials(version, {module: WASM, command: host()}), indent=1
        ).encode()
        + b"\n",
    }
    sums = "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in sorted(files.items()))
    files["SHA256SUMS"] = sums.encode()
    for name, data in files.items():
        (out / name).write_bytes(data)
    (out / command).chmod(0o755)
    print(f"{out}/")
    print(sums, end="")


if __name__ == "__main__":
    if len(sys.argv) != 5:
        sys.exit("release.py MODULE COMMAND IMAGE OUT")
    main()
