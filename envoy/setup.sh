#!/usr/bin/env bash
# Installs what is missing to build and test edgesplit: Rust's wasm target, and an Envoy in .setup/.
# With an argument, installs what some tests need and are skipped without: `caches` (Varnish and nginx), `browser`
# (Chromium), `prometheus`, `clickhouse` (and jq), `node` (and npm), `valgrind`.
set -euo pipefail
cd "$(dirname "$0")/.."

target=wasm32-wasip1
envoy_version=1.40.0

say() { echo "setup: $*" >&2; }
fail() { say "$*"; exit 1; }
has() { command -v "$1" >/dev/null 2>&1; }

install_target() {
  has rustc || fail "no Rust toolchain: install one from https://rustup.rs, then run this again"
  # The target's standard library may come from rustup or from a distribution's package.
  if [ -d "$(rustc --print sysroot)/lib/rustlib/$target/lib" ]; then
    return
  fi
  has rustup || fail "the Rust toolchain has no target $target and there is no rustup to add it:" \
    "install rustup, or your distribution's package of that target"
  say "adding the Rust target $target"
  rustup target add "$target" || fail "rustup could not add $target: check the network"
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
  if [ ! -x ".setup/envoy-$envoy_version/envoy" ]; then
    if has func-e; then
      say "Envoy: the one that func-e runs"
      return
    fi
    has python3 || fail "no Envoy, and no python3 to install one with: install Envoy $envoy_version yourself" \
      "and name it with ENVOY=/path/to/envoy"
    python3 envoy/install.py "$envoy_version"
  fi
  ln -sfn "envoy-$envoy_version/envoy" .setup/envoy
  say "Envoy: .setup/envoy ($envoy_version)"
}

# Debian's packages, for tests that are skipped without them: install_packages WHAT PACKAGE...
install_packages() {
  local what=$1
  shift
  if [ $# -eq 0 ]; then
    say "$what: installed"
    return
  fi
  has apt-get || fail "no apt-get here: install $* yourself; the tests with $what are skipped until then"
  [ "$(id -u)" = 0 ] || fail "only root may install: sudo apt-get install $*; the tests with $what are skipped until then"
  say "installing $*"
  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$@" \
    >/dev/null || fail "apt-get could not install $*: check the network"
}

install_caches() {
  local missing=()
  # An ordinary user's PATH may lack the folder of services.
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

install_node() {
  local missing=()
  has node || missing+=(nodejs)
  has npm || missing+=(npm)
  # For the SDK of PostHog.
  python3 -c "import ensurepip, venv" 2>/dev/null || missing+=(python3-venv)
  install_packages "node, npm and python3-venv" "${missing[@]}"
}

install_valgrind() {
  local missing=()
  has valgrind || missing+=(valgrind)
  install_packages valgrind "${missing[@]}"
}

case "${1:-}" in
valgrind) install_valgrind ;;
node) install_node ;;
caches) install_caches ;;
browser) install_browser ;;
prometheus) install_prometheus ;;
clickhouse) install_clickhouse ;;
*)
  install_target
  install_envoy
  ;;
esac
