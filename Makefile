# The front door. CI calls the same targets (.ci/run).

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

# What `make run` gives to `tollgate serve`, for example: make run ARGS="--config my.toml"
ARGS ?=

# What `make env` takes LibreChat's two JWT secrets from, for example: make env LIBRECHAT_ENV=../librechat/.env
LIBRECHAT_ENV ?=

.PHONY: help demo run test soak bench reference check fmt lint doc deny unused walls deploy env advisories build-deps test-deps check-tools

help: ## This list.
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

# The development profile: it is built in a third of the time of a release, and what a demo shows is not speed (the
# tokenizer is optimised in every profile).
demo: build-deps ## Show the whole job against a scripted LibreChat; needs nothing else.
	cargo run --locked --features demo -- demo

run: build-deps ## Serve for real, from the optimised build: make run ARGS="--config FILE".
	cargo run --locked --release -- serve $(ARGS)

env: ## Write .env for docker-compose.yml, with secrets of its own: make env LIBRECHAT_ENV=/path/to/librechat/.env
	@LIBRECHAT_ENV="$(LIBRECHAT_ENV)" scripts/make-env.sh

# Tests wait for others more than they compute: one more at once than there are cores.
test: build-deps test-deps ## Every test, with real Redis, PostgreSQL and Prometheus servers that the tests start themselves.
	RUST_TEST_THREADS="$${RUST_TEST_THREADS:-$$(($$(nproc) + 1))}" cargo test --locked --features demo

soak: build-deps test-deps ## The bad days at their full length: outages of a minute, fifty kills; about a quarter of an hour.
	TOLLGATE_SOAK=1 cargo test --locked --features demo --test it bad_days -- --test-threads 2

bench: build-deps test-deps ## Compare with no proxy and with a bare one, side by side.
	ulimit -n "$$(ulimit -Hn)"; cargo bench --locked --features demo --bench gateway --bench counting --bench sse --bench reserving --bench metrics --bench records

reference: build-deps ## Write docs/configuration.md anew from config/tollgate.toml.
	TOLLGATE_WRITE_REFERENCE=1 cargo test --locked --features demo --test it docs::the_reference_of_settings

check: fmt lint doc deny unused walls deploy ## Everything that can be said without running it.

fmt: check-tools
	cargo fmt --check

# Once as tests and the demo see it, once as the release image is built.
lint: build-deps check-tools
	cargo clippy --locked --all-targets --features demo -- -D warnings
	cargo clippy --locked -- -D warnings

doc: build-deps
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --features demo

# Advisories need a database from the network and change without us, so they run apart.
deny: check-tools
	cargo deny --locked check --hide-inclusion-graph licenses bans sources

advisories: check-tools ## Known vulnerabilities in dependencies; needs the network.
	cargo deny --locked check advisories

unused: check-tools
	cargo machete

walls:
	scripts/check-walls.sh

# Compose, the image's recipe, Kubernetes, systemd, Prometheus and Alertmanager, without an engine.
deploy: check-tools
	scripts/check-deploy.sh

build-deps:
	@scripts/install-build-deps.sh

test-deps:
	@scripts/install-test-deps.sh

check-tools: build-deps
	@scripts/install-check-tools.sh
