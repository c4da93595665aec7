# What there is to do: `make help`.

CARGO_TARGET_DIR ?= target
WASM_TARGET := wasm32-wasip1
# What cargo is told everywhere: the locked versions, so that every machine builds the same.
LOCKED := --locked

.DEFAULT_GOAL := help
.PHONY: help setup build run test check clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install what is missing: the wasm target, an Envoy (into .setup/)
	@envoy/setup.sh

build: setup ## build the filter and the command into dist/
	cargo build $(LOCKED) --release --lib --target $(WASM_TARGET)
	cargo build $(LOCKED) --release --bin edgesplit
	@mkdir -p dist
	cp $(CARGO_TARGET_DIR)/$(WASM_TARGET)/release/edgesplit.wasm dist/edgesplit.wasm
	cp $(CARGO_TARGET_DIR)/release/edgesplit dist/edgesplit

run: build ## start everything on loopback: Envoy with the filter, an origin, the A/B service
	cargo run $(LOCKED) --release --example demo

test: build ## run all tests, in a real Envoy too
	cargo test $(LOCKED)

check: build ## format, lints, docs and all tests: what CI runs
	cargo fmt --check
	cargo clippy $(LOCKED) --all-targets -- -D warnings
	cargo clippy $(LOCKED) --lib --target $(WASM_TARGET) -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc $(LOCKED) --no-deps
	$(MAKE) test

clean: ## remove what was built and installed
	cargo clean
	rm -rf dist .setup
