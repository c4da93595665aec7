# The project's tasks. `make help` lists them; steps that cargo cannot express are in xtask/.

CARGO_TARGET_DIR ?= target
WASM_TARGET := wasm32-wasip1
PLAIN := $(CARGO_TARGET_DIR)/plain
SIMULATE := cargo test --locked --profile sim --test simulation
NODE_V8 := node --no-liftoff --no-wasm-lazy-compilation
# Settings of single targets. Others, such as SEED, reach the commands through the environment.
TARGET ?= request
SECONDS ?= 60
PAYLOADS ?= 2000

.DEFAULT_GOAL := help
.PHONY: $(shell sed -n 's/^\([a-z-]*\):.*/\1/p' $(firstword $(MAKEFILE_LIST)))

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install the wasm target, and an Envoy into .setup/
	@envoy/setup.sh

caches: ## install Varnish and nginx for the tests of the cache recipes (Debian, as root)
	@envoy/setup.sh caches

browser: ## install Chromium for the test of the dashboard's page (Debian, as root)
	@envoy/setup.sh browser

prometheus: ## install Prometheus for the tests of queries and alerts (Debian, as root)
	@envoy/setup.sh prometheus

clickhouse: ## install ClickHouse and jq for the tests of the ClickHouse example (Debian, as root)
	@envoy/setup.sh clickhouse

node: ## install node and npm for `make conformance`, `make cold` and `make artillery` (Debian, as root)
	@envoy/setup.sh node

valgrind: ## install valgrind for `make memcheck` (Debian, as root)
	@envoy/setup.sh valgrind

module: setup
	cargo xtask module

native-module: setup
	cargo xtask native-module

test-module: setup
	cargo xtask test-module

bench-modules: setup
	cargo xtask bench-modules

# A rename replaces the command while it runs. Link-time optimization, which the module needs, would take half of the time.
command: module
	CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 cargo build --locked --release --package edgesplit-cli --features module
	@cp $(CARGO_TARGET_DIR)/release/edgesplit dist/.edgesplit.new && mv -f dist/.edgesplit.new dist/edgesplit

build: module native-module command ## build the modules and the command into dist/

run: command $(if $(filter native,$(MODULE)),native-module) ## start Envoy with the filter and all services around it on loopback (MODULE=native, ENVOY_RUNNER=func-e)
	@dist/edgesplit demo --config examples/experiments.json $(if $(filter native,$(MODULE)),--module dist/libedgesplit.so)

test: build test-module ## run all tests, including those in a real Envoy
	@cargo xtask test

lint: setup ## check format, lints and docs
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	cargo clippy --locked --package edgesplit --lib --target $(WASM_TARGET) -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps

check: lint test ## run `lint` and `test`

plain-module: setup ## build the module with cargo alone, and run end-to-end tests with it
	cargo build --locked --release --target $(WASM_TARGET) --target-dir $(PLAIN)
	EDGESPLIT_MODULE=$(PLAIN)/$(WASM_TARGET)/release/edgesplit.wasm cargo test --locked --test e2e_decisions --test e2e_events --test e2e_request

conformance: build tests/conformance/node_modules tests/conformance/venv ## compare decisions with the vendors' SDKs (needs node): PAYLOADS=2000 SEED=1
	cargo build --locked --release --package edgesplit-formats --example reports
	node tests/conformance/compare.mjs dist/edgesplit $(CARGO_TARGET_DIR)/release/examples/reports $(PAYLOADS) $(or $(SEED),1)
	tests/conformance/venv/bin/python tests/conformance/compare_posthog.py dist/edgesplit $(PAYLOADS) $(or $(SEED),1)

tests/conformance/venv: tests/conformance/requirements.txt
	python3 -m venv --clear $@
	$@/bin/pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: --requirement $<
	touch $@

tests/conformance/node_modules: tests/conformance/package-lock.json
	npm ci --prefix tests/conformance --ignore-scripts --no-audit --no-fund --silent

sim: $(if $(filter native,$(MODULE)),native-module) $(if $(filter wasm,$(MODULE)),module) ## simulate faults: SEEDS=1000 from START=1, or SEED=4711 step by step, also of the built module (MODULE=wasm, MODULE=native)
	SEEDS=$(or $(SEEDS),1000) $(SIMULATE)

sim-mutants: native-module ## plant bugs, and check that the simulation finds each
	MUTANTS=1 $(SIMULATE)

memcheck: build ## check the native module's memory in a host of its own: a million requests, and SECONDS=600 under valgrind
	cargo test --locked --test native_host -- --include-ignored --nocapture --test-threads 1

matrix: build test-module ## run the end-to-end tests on several versions of Envoy: VERSIONS="1.38.2 1.39.3 1.40.0" MODULE=native
	cargo xtask matrix $(VERSIONS)

compose-test: build ## run and check envoy/docker-compose.yaml in a container engine (builds images, takes minutes)
	cargo test --locked --test compose -- --ignored --nocapture

load: build ## send traffic for minutes, with the A/B service down for a third of it: LOAD_RATE=1000 LOAD_SECONDS=180
	cargo test --locked --profile sim --test load -- --ignored --nocapture

artillery: build examples/load/node_modules ## send the same traffic with Artillery, with and without the filter (needs npm)
	cargo test --locked --profile sim --test artillery -- --ignored --nocapture

# Without the browser that it would download.
examples/load/node_modules: examples/load/package-lock.json
	PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD=1 npm ci --prefix examples/load --no-audit --no-fund --silent

screenshots: build test-module ## write the pictures of the dashboard to docs/ (needs Chromium)
	EDGESPLIT_SCREENSHOTS=docs cargo test --locked --test dashboard_fleet

bench: benches/workerd/bundle.mjs build test-module bench-modules ## measure the cost of a request: counts, and times in a real Envoy: HEATS=9 ROUNDS=13
	cargo test --locked --profile sim --test cost -- --include-ignored --nocapture --test-threads 1
	cargo bench --locked --profile sim --bench timed

benches/workerd/bundle.mjs: benches/workerd/package-lock.json benches/workerd/worker.mjs benches/workerd/datafile.mjs
	@npm ci --prefix benches/workerd --no-audit --no-fund --silent && npm run --prefix benches/workerd --silent bundle || echo "no npm: the benchmark runs without workerd"

cold: module bench-modules ## time a request in V8 with cold caches, next to the bare filter (needs node): MODULES="a.wasm b.wasm+events"
	$(NODE_V8) benches/cold.mjs dist/bench/bare.wasm dist/edgesplit.wasm dist/edgesplit.wasm+events $(MODULES)

steps: module ## time the callbacks of a new config in V8 (needs node): ONLY=GrowthBook RUNS=3
	$(NODE_V8) --expose-gc --single-threaded benches/steps.mjs dist/edgesplit.wasm

reproduce: setup ## build the module in two folders, and compare
	cargo xtask reproduce

image: build ## write an OCI image of the module for Istio and Envoy Gateway to dist/image
	cargo xtask image dist/edgesplit.wasm dist/image

release: image ## write the files of a release to dist/release: modules, command, image, bill of materials, checksums
	cargo xtask release dist/edgesplit.wasm dist/libedgesplit.so dist/edgesplit dist/image dist/release

deny: ## check licences, sources and advisories of all crates (advisories come from github.com)
	cargo xtask deny

fuzz: ## fuzz TARGET (request visit plugin_config native vendors damage readers gzip effects effect_policy shared_data reply js_regex) for SECONDS; vendors and damage take FORMAT=posthog
	cargo xtask fuzz $(TARGET) $(SECONDS)

clean: ## remove built and installed files
	cargo clean
	rm -rf dist .setup
