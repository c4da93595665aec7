# What there is to do: `make help`.

CARGO_TARGET_DIR ?= target
WASM_TARGET := wasm32-wasip1
# What cargo is told everywhere: the locked versions, so that every machine builds the same.
LOCKED := --locked

.DEFAULT_GOAL := help
.PHONY: help lint node conformance setup caches browser prometheus clickhouse module build image release reproduce deny run test check sim sim-module sim-mutants matrix compose-test load artillery bench cold fuzz clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install what is missing: the wasm target, an Envoy (into .setup/)
	@envoy/setup.sh

caches: ## install Varnish and nginx, which the tests of the cache recipes use where they are (Debian, as root)
	@envoy/setup.sh caches

browser: ## install Chromium, with which the test of the dashboard looks at it where it is (Debian, as root)
	@envoy/setup.sh browser

prometheus: ## install Prometheus, with which the tests of the Grafana dashboard and the alerts ask it (Debian, as root)
	@envoy/setup.sh prometheus

node: ## install node, which the comparison with the vendors' SDKs and some benchmarks need (Debian, as root)
	@envoy/setup.sh node

clickhouse: ## install ClickHouse and jq, with which the tests of the ClickHouse example fill tables and ask them (Debian, as root)
	@envoy/setup.sh clickhouse

module: setup
	cargo xtask module

build: module ## build the filter and the command into dist/
	cargo build $(LOCKED) --release --package edgesplit-cli
	cp $(CARGO_TARGET_DIR)/release/edgesplit dist/edgesplit

image: build ## put the filter into an OCI image for Istio and Envoy Gateway (dist/image, an image layout)
	cargo xtask image dist/edgesplit.wasm dist/image

release: image ## the files of a release: module, command, image, bill of materials, checksums (dist/release)
	cargo xtask release dist/edgesplit.wasm dist/edgesplit dist/image dist/release

reproduce: setup ## build the module twice, in two folders, and compare
	cargo xtask reproduce

# The advisories last: what needs no network is checked without it.
deny: ## check licences, sources and advisories of all crates (deny.toml); advisories come from github.com
	@command -v cargo-deny >/dev/null || [ -x .setup/bin/cargo-deny ] || cargo install --locked --quiet --root .setup cargo-deny
	PATH="$(CURDIR)/.setup/bin:$$PATH" cargo deny check licenses bans sources
	@PATH="$(CURDIR)/.setup/bin:$$PATH" cargo deny check advisories || { echo "deny: an advisory, or no way to" \
	  "github.com/RustSec/advisory-db, which has them: see above. Licences, bans and sources are well" >&2; exit 1; }

run: build ## start everything on loopback: Envoy with the filter, an origin, the A/B service; ENVOY_RUNNER=func-e
	cargo run $(LOCKED) --quiet --example demo

# The module with test hooks crashes on request and counts its allocations. It stays out of dist/ except for the tests' own folder.
.PHONY: test-module
test-module: setup
	cargo xtask test-module

test: build test-module ## run all tests, in a real Envoy too
	@cargo xtask test

lint: setup ## check format, lints and docs
	cargo fmt --all --check
	cargo clippy $(LOCKED) --workspace --all-targets -- -D warnings
	cargo clippy $(LOCKED) --package edgesplit --lib --target $(WASM_TARGET) -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc $(LOCKED) --workspace --no-deps

check: lint test ## check format, lints, docs, and run all tests

sim: ## simulate faults: SEEDS=1000 from START=1 on, or SEED=4711 alone, told step by step
	SEEDS=$(or $(SEEDS),1000) START=$(START) SEED=$(SEED) MUTANT=$(MUTANT) \
	  cargo test $(LOCKED) --profile sim --test simulation

sim-module: build ## simulate faults in the built module: SEEDS=300 from START=1 on, or SEED=4711 alone
	MODULE=1 SEEDS=$(or $(SEEDS),300) START=$(START) SEED=$(SEED) \
	  cargo test $(LOCKED) --profile sim --test simulation

sim-mutants: ## plant bugs and see that the simulation finds each
	MUTANTS=1 cargo test $(LOCKED) --profile sim --test simulation

matrix: build test-module ## run the end-to-end tests on three minor versions of Envoy, and with few capabilities: VERSIONS="1.38.2 1.39.3 1.40.0"
	cargo xtask matrix $(VERSIONS)

compose-test: build ## run envoy/docker-compose.yaml in a real container engine, and check it (minutes: it builds images)
	cargo test $(LOCKED) --test compose -- --ignored --nocapture

load: build ## 3 minutes of traffic with the A/B service away for one: LOAD_RATE=1000 LOAD_SECONDS=180
	cargo test $(LOCKED) --profile sim --test load -- --ignored --nocapture

# Without the browser that comes with it, which this scenario has no use for.
examples/load/node_modules/.bin/artillery: examples/load/package.json
	@command -v npm >/dev/null || { echo "no npm: \`make load\` does without" >&2; exit 1; }
	cd examples/load && PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD=1 npm install --no-audit --no-fund --no-package-lock --silent

artillery: build examples/load/node_modules/.bin/artillery ## the same traffic by Artillery, with and without the filter: LOAD_RATE=1000 LOAD_SECONDS=180
	cargo test $(LOCKED) --profile sim --test artillery -- --ignored --nocapture

.PHONY: bench-modules
bench-modules: setup
	cargo xtask bench-modules

# An edge worker to compare with, where there is npm. Without it the benchmark says so.
benches/workerd/bundle.mjs: benches/workerd/package.json benches/workerd/worker.mjs benches/workerd/datafile.mjs
	@if command -v npm >/dev/null; then cd benches/workerd && npm install --no-audit --no-fund --silent && \
	  npx esbuild worker.mjs --bundle --format=esm --minify --platform=browser --log-level=warning --outfile=bundle.mjs; \
	else echo "no npm: the benchmark goes without workerd"; fi

bench: benches/workerd/bundle.mjs build test-module bench-modules ## what a request costs: counted, and timed in a real Envoy
	cargo test $(LOCKED) --profile sim --test cost -- --include-ignored --nocapture --test-threads 1
	cargo bench $(LOCKED) --profile sim --bench timed

cold: module bench-modules ## what a request costs the module in V8 with cold caches, beside the bare filter (needs node): MODULES="a.wasm b.wasm+events"
	@command -v node >/dev/null || { echo "no node: \`make bench\` does without" >&2; exit 1; }
	node --no-liftoff --no-wasm-lazy-compilation benches/cold.mjs dist/bench/bare.wasm dist/edgesplit.wasm dist/edgesplit.wasm+events $(MODULES)

TARGET ?= request
SECONDS ?= 60
# cargo-fuzz wants compiler flags that a stable toolchain only takes this way.
fuzz: ## fuzz TARGET (request visit plugin_config native vendors shared_data reply js_regex) for SECONDS
	@command -v cargo-fuzz >/dev/null || cargo install --locked --quiet --root .setup cargo-fuzz
	@mkdir -p tests/fuzz/found/$(TARGET)
	cd tests/fuzz && PATH="$(CURDIR)/.setup/bin:$$PATH" RUSTC_BOOTSTRAP=1 cargo fuzz run --fuzz-dir . \
	  $(TARGET) found/$(TARGET) corpus/$(TARGET) -- -max_total_time=$(SECONDS) -timeout=10 -rss_limit_mb=4096

clean: ## remove what was built and installed
	cargo clean
	rm -rf dist .setup
