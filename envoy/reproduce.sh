#!/usr/bin/env bash
# Builds the module here and in a copy of the project in another folder, with another name for Cargo's home, and says whether both
# are the same, byte for byte.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { echo "reproduce: $*" >&2; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
home=${CARGO_HOME:-$HOME/.cargo}

copy=$work/a/copy
mkdir -p "$copy"
git ls-files -z --cached --others --exclude-standard | xargs -0 tar -c --ignore-failed-read -f - 2>/dev/null | tar -C "$copy" -xf -
# What Cargo has fetched need not be fetched again. That its home may be inside the project must not show either.
ln -s "$home" "$copy/cargo-home"

# build FOLDER SETTING...
build() {
  local folder=$1
  shift
  say "building in $folder"
  (cd "$folder" && env "$@" make --silent module) >"$work/log" 2>&1 || { tail -20 "$work/log" >&2; exit 1; }
  sha256sum "$folder/dist/edgesplit.wasm"
}
here=$(build "$PWD")
there=$(build "$copy" CARGO_HOME="$copy/cargo-home" CARGO_TARGET_DIR="$work/target" ENVOY=/bin/true)
printf '%s\n' "$here" "$there"
[ "${here%% *}" = "${there%% *}" ] || { say "two builds, two modules"; exit 1; }
say "two builds, one module"
