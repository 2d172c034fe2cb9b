# Tasks of this repository. `make` without a target lists them.

.DEFAULT_GOAL := help
SHELL := bash
CARGO := cargo

PREFIX ?= $(HOME)/.local

.PHONY: help setup run up install build test check bench bench-fleet bench-engine chaos sim fuzz generate clean

help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

setup: ## Fetch missing tools into .tools: nats-server, two small models, nats-py, sshd
	@scripts/setup test

# The two programs that a fleet consists of, and nothing else: tests and benchmarks need many more crates.
PROGRAMS := --package rbee-cli --package rbee-worker --bins

run: ## Build rbee, start a fleet, ask one question, show its events, stop it
	@scripts/setup run
	$(CARGO) build $(PROGRAMS)
	@scripts/demo

up: ## Build rbee and run a fleet with a small model until Ctrl-C
	@scripts/setup run
	$(CARGO) build $(PROGRAMS)
	@scripts/demo --stay

install: ## Build optimized programs and copy rbee and rbee-worker to PREFIX/bin (default ~/.local/bin)
	$(CARGO) build --release $(PROGRAMS)
	install -d "$(DESTDIR)$(PREFIX)/bin"
	install $${CARGO_TARGET_DIR:-target}/release/rbee $${CARGO_TARGET_DIR:-target}/release/rbee-worker "$(DESTDIR)$(PREFIX)/bin"

build: ## Build every program
	$(CARGO) build --workspace

# Builds the programs first: the tests start them from target/debug.
test: ## Run every test
	@scripts/setup test
	$(CARGO) build --workspace
	@if $(CARGO) nextest --version >/dev/null 2>&1; then \
	  echo "$(CARGO) nextest run --workspace" && $(CARGO) nextest run --workspace; \
	else \
	  echo "$(CARGO) test --workspace --all-targets" && $(CARGO) test --workspace --all-targets; \
	fi
	$(CARGO) test --workspace --doc --quiet

# cargo-deny needs the network for advisories only. Its other checks read every crate of Cargo.lock, those for other systems
# included: `cargo fetch` downloads the crates that a build did not need.
check: ## Check format, lints, licenses and sources
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	@if $(CARGO) deny --version >/dev/null 2>&1; then \
	  echo "$(CARGO) deny --offline check bans licenses sources" && $(CARGO) fetch --locked --quiet && \
	    $(CARGO) deny --offline check bans licenses sources; \
	else \
	  echo "cargo-deny is not installed: bans, licenses and sources are not checked"; \
	fi

bench: ## Measure a fleet on this machine
	@scripts/setup run
	$(CARGO) build --release --bins
	RBEE_TEST_NATS=child $(CARGO) run --release --package rbee-bench

# FLEET may contain options, such as FLEET="--hives 50 --windows 1 --flood 1000".
bench-fleet: ## Measure a queen with 500 simulated hives and 10,000 workers
	@scripts/setup run
	$(CARGO) build --release --bins
	RBEE_TEST_NATS=child $(CARGO) run --release --package rbee-bench --bin rbee-bench-fleet -- $(FLEET)

# ENGINE may contain options, such as ENGINE="--models smollm2 --only decode,start" or ENGINE="--endurance --minutes 2".
bench-engine: ## Compare speed, memory and answers of the engine with llama.cpp
	@scripts/setup bench
	$(CARGO) build --release --bins
	target/release/rbee-bench-engine $(ENGINE)

# CHAOS may contain options, such as CHAOS="--runs 3 --only worker-killed" or CHAOS="--random --jobs 1000 --seed 7".
chaos: ## Inject every fault twenty times and measure the recovery
	@scripts/setup test
	$(CARGO) build --release --bins
	RBEE_TEST_NATS=child $(CARGO) run --release --package rbee-bench --bin rbee-chaos -- $(CHAOS)

# SIM may contain options, such as SIM="--seeds 1000 --minutes 60" or SIM="--seed 17 --minutes 60", which replays one seed.
sim: ## Simulate a fleet with faults for 100 virtual hours, and check every rule at each step
	$(CARGO) run --release --package rbee-sim -- $(SIM)

# FUZZ may contain libFuzzer's options, such as FUZZ="-max_total_time=3600", or be `minimize`.
fuzz: ## Fuzz the reading of model files for five minutes
	@scripts/fuzz $(FUZZ)

generate: ## Generate JSON Schema, AsyncAPI and the example configuration
	$(CARGO) run --package rbee-cli -- schema --write schema/schemas
	$(CARGO) run --quiet --package rbee-cli -- config example >docs/rbee.toml

clean: ## Remove build outputs and fetched tools
	$(CARGO) clean
	rm -rf .tools
