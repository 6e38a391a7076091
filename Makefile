# The two commands of a new user are `make demo` and `make test`; the others are for whoever changes things.
# Programs that need root (containers, network namespaces) are run through sudo when you are not root.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

CARGO ?= cargo
SEEDS ?= 2000
HOST := $(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p')
ROOT := $(if $(filter 0,$(shell id -u)),,sudo -E)
# Test executables run as root without building as root.
ifneq ($(ROOT),)
export CARGO_TARGET_$(shell echo '$(HOST)' | tr a-z- A-Z_)_RUNNER := $(ROOT)
endif
NEXTEST := $(shell command -v cargo-nextest >/dev/null 2>&1 && echo yes)
# Without nextest the plain runner is used: two threads, because container tests share the machine.
TESTS = $(if $(NEXTEST),$(CARGO) nextest run,RUST_TEST_THREADS=2 $(CARGO) test)
APP := target/static/$(HOST)/debug/demo-app

.PHONY: help setup app build demo test verify fix bench sim fuzz contract e2e

help: ## what there is
	@grep -hE '^[a-z0-9]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9]+):.*## (.*)/  make \1\t\2/' | expand -t 18

setup: ## install the Debian packages that are missing, check the Rust toolchain
	@scripts/setup.sh

# Linked statically, so that the demo's image needs nothing but this file. Its own target directory,
# because other flags would otherwise rebuild everything back and forth; an explicit target, because
# build scripts and procedural macros cannot be linked that way.
app:
	RUSTFLAGS="-C target-feature=+crt-static" $(CARGO) build --quiet -p holdfast-demo --bin demo-app \
		--target $(HOST) --target-dir target/static

build: app
	$(CARGO) build --workspace

demo: setup build ## deploy, break and repair everything on this machine; figures in target/demo/summary.json
	$(ROOT) target/debug/demo-run

test: setup build ## every test, on real processes, containers and network namespaces
	$(TESTS) --workspace

verify: setup build ## read-only: format, lints, dependencies, documentation, tests
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	scripts/deny.sh
	RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" $(CARGO) doc --workspace --no-deps --document-private-items --quiet
	$(TESTS) --workspace

fix: ## format, and apply what the lints can repair
	$(CARGO) clippy --workspace --all-targets --fix --allow-dirty --allow-staged
	$(CARGO) fmt --all

bench: setup ## measure; writes target/bench/*.json and prints a table
	scripts/bench.sh

sim: ## SEEDS=n rounds of each kind in the simulator (FROM=n: from that seed; KIND=disk or cluster; ONLY=n,n: these troubles of one)
	SEEDS=$(SEEDS) $(CARGO) run --quiet -p holdfast-sim

fuzz: ## SECONDS=n of each fuzz target (manifest, HTTP bodies, ClientHello, log reader, events)
	scripts/fuzz.sh $(or $(SECONDS),60)

contract: setup build ## hold a server against docs/openapi.json with schemathesis (SEED=n: the cases of that run)
	scripts/contract.sh

e2e: setup build ## only the tests that kill real processes
	$(if $(NEXTEST),$(CARGO) nextest run --workspace -E 'package(holdfast) & test(/(^|::)fm_/)',RUST_TEST_THREADS=1 $(CARGO) test -p holdfast --test failure_model --test cluster --test operators)
