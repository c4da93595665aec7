#!/usr/bin/env bash
# Builds stand-ins for the base images of envoy/docker-compose.yaml from programs on this machine, for container engines that
# cannot pull images. Needs root, debootstrap, an Envoy (`make setup`), a Rust toolchain and Prometheus (`make prometheus`).
# Prints the variables that select the stand-ins. Their tags are edgesplit-stand-in-*, so no real image is replaced.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { echo "stand-ins: $*" >&2; }
fail() { say "$*"; exit 1; }
for tool in docker debootstrap prometheus promtool rustc; do
  PATH=$PATH:/usr/sbin command -v "$tool" >/dev/null || fail "$tool is not installed"
done
envoy=$(readlink -f "${ENVOY:-.setup/envoy}" || true)
[ -x "$envoy" ] || fail "no Envoy: run \`make setup\`"

have() { docker image inspect "edgesplit-stand-in-$1" >/dev/null 2>&1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

if ! have base || ! have rust; then
  say "a Debian, by debootstrap (a minute)"
  PATH=$PATH:/usr/sbin debootstrap --variant=minbase --include=ca-certificates,gcc,libc6-dev,make bookworm "$work/root" >/dev/null
  # The images trust the same certificates as this machine.
  cp -L /etc/ssl/certs/ca-certificates.crt "$work/root/etc/ssl/certs/ca-certificates.crt"
  tar -C "$work/root" -c . | docker import - edgesplit-stand-in-base >/dev/null
  say "the same with this machine's Rust"
  sysroot=$(rustc --print sysroot)
  mkdir -p "$work/rust"
  cp -a "$sysroot/bin" "$sysroot/lib" "$work/rust/"
  printf '#!/bin/sh\nexit 0\n' > "$work/rust/bin/rustup"
  chmod +x "$work/rust/bin/rustup"
  printf 'FROM edgesplit-stand-in-base\nCOPY rust /usr/local\n' > "$work/Dockerfile"
  mkdir "$work/context" && mv "$work/rust" "$work/context/"
  DOCKER_BUILDKIT=0 docker build --quiet --tag edgesplit-stand-in-rust --file "$work/Dockerfile" "$work/context" >/dev/null
fi
if ! have envoy; then
  say "an Envoy"
  mkdir -p "$work/envoy" && cp "$envoy" "$work/envoy/envoy"
  printf 'FROM edgesplit-stand-in-base\nCOPY envoy /usr/local/bin/envoy\n' > "$work/Dockerfile"
  DOCKER_BUILDKIT=0 docker build --quiet --tag edgesplit-stand-in-envoy --file "$work/Dockerfile" "$work/envoy" >/dev/null
fi
if ! have prometheus; then
  say "a Prometheus"
  mkdir -p "$work/prometheus" && cp "$(command -v prometheus)" "$(command -v promtool)" "$work/prometheus/"
  printf 'FROM edgesplit-stand-in-base\nCOPY prometheus promtool /usr/local/bin/\nENTRYPOINT ["prometheus"]\n' > "$work/Dockerfile"
  DOCKER_BUILDKIT=0 docker build --quiet --tag edgesplit-stand-in-prometheus --file "$work/Dockerfile" "$work/prometheus" >/dev/null
fi
echo RUST_IMAGE=edgesplit-stand-in-rust
echo BASE_IMAGE=edgesplit-stand-in-base
echo ENVOY_IMAGE=edgesplit-stand-in-envoy
echo PROMETHEUS_IMAGE=edgesplit-stand-in-prometheus
