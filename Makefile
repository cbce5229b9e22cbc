# make help lists the targets. `demo`, `test` and `test-kube` work from a clean clone, and need root for network namespaces.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.PHONY: help demo test test-kube lint bench bench-gate perf-smoke loom asan miri fuzz-smoke build deny

SUDO := $(if $(filter 0,$(shell id -u)),,sudo -E env "PATH=$$PATH")
FUZZ_SECONDS ?= 20
STRESS_SECONDS ?= 60

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

demo: ## two availability zones in namespaces, Margay between them, and what happened
	@.ci/deps demo
	cargo build --release
	$(SUDO) target/release/margay lab demo

build: ## the three programs, for the tests
	cargo build --workspace --bins

test: ## everything: unit, property, loom, AddressSanitizer, fuzz smoke, end to end in namespaces (root)
	@.ci/deps test
	$(MAKE) build
	MARGAY_STRESS_SECONDS=$(STRESS_SECONDS) $(SUDO) cargo test --workspace
	$(MAKE) loom
	$(MAKE) asan
	$(MAKE) fuzz-smoke

test-kube: ## the tests against a real API server, which is built the first time (root; some minutes then)
	@.ci/deps kube
	$(MAKE) build
	servers=$$(testbed/kube/build); $(SUDO) env MARGAY_KUBE="$$servers" \
		cargo test -p margay-testbed --test 'kube_*' -- --ignored

loom: ## the flow table's atomic protocols, interleaved with up to three preemptions
	RUSTFLAGS="--cfg loom" cargo test --release -p margay-flowtable --target-dir target/loom --test loom

asan: ## the tests of the tables and of the packet function under AddressSanitizer
	RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=address --cfg asan" cargo test --target x86_64-unknown-linux-gnu \
		--target-dir target/asan -p margay-flowtable --lib --tests
	RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=address --cfg asan" cargo test --target x86_64-unknown-linux-gnu \
		--target-dir target/asan -p margay-fastpath --lib pipeline

miri: ## the tests of the tables under miri, where the toolchain has it
	@cargo miri --version >/dev/null 2>&1 || { \
		echo "this toolchain has no miri: rustup toolchain install nightly --component miri rust-src, then" \
			"make miri RUSTUP_TOOLCHAIN=nightly" >&2; exit 1; }
	cargo miri test -p margay-flowtable

fuzz-smoke: ## each fuzz target for FUZZ_SECONDS
	fuzz/smoke $(FUZZ_SECONDS)

lint: deny ## rustfmt, clippy with warnings denied, cargo-deny as far as it runs offline
	@.ci/deps lint
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings

deny:
	@command -v cargo-deny >/dev/null || cargo install --locked --quiet cargo-deny
	cargo deny --log-level error check bans licenses sources

bench: ## criterion benches of the packet function and the tables
	cargo bench -p margay-perf

bench-gate: ## instructions a packet against those of record; ACCEPT=1 records them anew
	@.ci/deps gate
	cargo build --release -p margay-perf
	target/release/margay-perf gate $(if $(ACCEPT),--accept)

perf-smoke: ## what holds on a noisy machine: instructions a packet, allocations, Margay beside a bare forwarder (root)
	@.ci/deps smoke
	cargo build --release -p margay-perf -p margay-control
	target/release/margay-perf gate
	$(SUDO) target/release/margay-perf smoke
