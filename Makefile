# What one does with this repository. `make` alone lists it.

.DEFAULT_GOAL := help
SHELL := bash
CARGO := cargo

.PHONY: help setup run up build test check bench bench-fleet bench-engine chaos fuzz generate clean

help: ## This list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

setup: ## Fetch what is missing, into .tools: nats-server, a small model, nats-py
	@scripts/setup test

run: ## Build, start everything, ask one question, show what happened, stop
	@scripts/setup run
	$(CARGO) build --workspace
	@scripts/demo

up: ## Build, start everything with a small model, and leave it running until Ctrl-C
	@scripts/setup run
	$(CARGO) build --workspace
	@scripts/demo --stay

build: ## Build every program
	$(CARGO) build --workspace

# The programs first: the tests start them as they stand in target/debug.
test: ## Run every test
	@scripts/setup test
	$(CARGO) build --workspace
	@if $(CARGO) nextest --version >/dev/null 2>&1; then \
	  echo "$(CARGO) nextest run --workspace" && $(CARGO) nextest run --workspace; \
	else \
	  echo "$(CARGO) test --workspace --all-targets" && $(CARGO) test --workspace --all-targets; \
	fi
	$(CARGO) test --workspace --doc --quiet

# cargo-deny needs the network for advisories only. The rest is checked from what Cargo.lock names, for which every crate in it
# has to be here, those for other systems too: `cargo fetch` brings what a build has left out.
check: ## Check format, lints, licences and sources
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	@if $(CARGO) deny --version >/dev/null 2>&1; then \
	  echo "$(CARGO) deny --offline check bans licenses sources" && $(CARGO) fetch --locked --quiet && \
	    $(CARGO) deny --offline check bans licenses sources; \
	else \
	  echo "cargo-deny is not installed: bans, licences and sources are not checked"; \
	fi

bench: ## Measure this machine
	@scripts/setup run
	$(CARGO) build --release --bins
	RBEE_TEST_NATS=child $(CARGO) run --release --package rbee-bench

# FLEET may hold options, such as FLEET="--hives 50 --windows 1 --flood 1000".
bench-fleet: ## Measure a queen with 500 hives and 10,000 workers, and under floods
	@scripts/setup run
	$(CARGO) build --release --bins
	RBEE_TEST_NATS=child $(CARGO) run --release --package rbee-bench --bin rbee-bench-fleet -- $(FLEET)

# ENGINE may hold options, such as ENGINE="--models smollm2 --only decode,start" or ENGINE="--endurance --minutes 2".
bench-engine: ## Measure the engine beside llama.cpp, and hold its answers against it
	@scripts/setup bench
	$(CARGO) build --release --bins
	target/release/rbee-bench-engine $(ENGINE)

chaos: ## Inject every fault twenty times and print what becomes of it
	@scripts/setup test
	$(CARGO) build --release --bins
	RBEE_TEST_NATS=child $(CARGO) run --release --package rbee-bench --bin rbee-chaos -- $(CHAOS)

# FUZZ may hold libFuzzer's options, such as FUZZ="-max_total_time=3600", or be `minimize`.
fuzz: ## Look for model files that do harm, for five minutes
	@scripts/fuzz $(FUZZ)

generate: ## Write JSON Schema, AsyncAPI and the example configuration anew
	$(CARGO) run --package rbee-cli -- schema --write schema/schemas
	$(CARGO) run --quiet --package rbee-cli -- config example >docs/rbee.toml

clean: ## Take away what was built and what setup fetched
	$(CARGO) clean
	rm -rf .tools
