#!/usr/bin/env bash
# Builds the module twice, from two copies of the project in two folders, each with its own name for Cargo's home, and says
# whether both are the same, byte for byte, as is whatever lies in dist/ of the same sources.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { echo "reproduce: $*" >&2; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
home=${CARGO_HOME:-$HOME/.cargo}

sums=()
for place in one another/place; do
  mkdir -p "$work/$place"
  git ls-files -z --cached --others --exclude-standard | xargs -0 tar -c --ignore-failed-read -f - 2>/dev/null | tar -C "$work/$place" -xf -
  # The same home of Cargo by another path: what it has fetched need not be fetched again.
  ln -s "$home" "$work/$place/cargo-home"
  say "building in $work/$place"
  (cd "$work/$place" && CARGO_HOME=$PWD/cargo-home CARGO_TARGET_DIR=$PWD/target ENVOY=/bin/true make --silent module) >"$work/log" 2>&1 ||
    { tail -20 "$work/log" >&2; exit 1; }
  sums+=("$(sha256sum <"$work/$place/dist/edgesplit.wasm" | cut -d' ' -f1)")
  echo "${sums[-1]}  $place"
done
[ "${sums[0]}" = "${sums[1]}" ] || { say "two builds, two modules"; exit 1; }
say "two builds, one module"
