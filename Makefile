# The commands of this repository. `make demo` shows the whole line, `make test` proves it.

CARGO   ?= cargo
# All tests run one build: release code without LTO (Cargo.toml, [profile.ci]).
PROFILE := --profile ci --locked
# Where cargo builds; the tests of hsm look for the module of tests/kryoptic beside it.
TARGET  := $(or $(CARGO_TARGET_DIR),target)
# Tests wait for sockets, tokens and deadlines more than they compute: so many run at once.
export RUST_TEST_THREADS ?= $(shell expr 2 \* $$(nproc))
# How much `make test-long` does.
ROUNDS  ?= 50
CASES   ?= 2000
# Changed requests of `make fuzz` and `make test-long`.
REQUESTS ?= 100000
# What `make bench` does besides, or instead: docs/performance.md.
BENCH   ?=
# Seconds of the soak, on each engine.
SOAK_SECONDS ?= 3600

.PHONY: demo test test-rust test-js test-long fuzz bench bench-smoke lint fmt deny build-tests install-test-deps

demo: ## the whole line on this machine, on http://localhost:8090
	$(CARGO) run --release --locked -- dev

test: install-test-deps lint test-js test-rust bench-smoke ## everything that needs no network once installed, on a machine that has nothing but Rust and Debian

install-test-deps: ## what the tests need: a browser, foreign verifiers, fault injection, JavaScript tools
	tests/install-dependencies
	npm ci --no-audit --no-fund --prefix client-js
	npm ci --no-audit --no-fund --prefix tests/browser

# The token has a folder of its own, so that both are built at once.
build-tests: ## one build of the binary, of every test and of the software token they use
	$(CARGO) build --release --locked --manifest-path tests/kryoptic/Cargo.toml --target-dir $(TARGET)/kryoptic & token=$$!; \
	$(CARGO) build $(PROFILE) --workspace --bins --tests; built=$$?; \
	wait $$token && exit $$built

test-rust: build-tests ## unit, architecture, end-to-end, fault, browser, fuzz, foreign and memory tests
	$(CARGO) test $(PROFILE) --workspace --no-fail-fast

test-js: ## what runs in the page and in the frame, on its own: types, lints, tests
	npm run --prefix client-js check
	npm run --prefix client-js lint
	npm test --prefix client-js

# Two at a time: these compute, and one of them looks at memory. What is red does not keep the rest from running.
test-long: export RUST_TEST_THREADS = 2
# What is promised within a time is held to that time, and not to one for a machine with other work.
test-long: export SIV_TEST_STRICT = 1
test-long: build-tests ## the slow half: every point of the fault sweeps, more rounds, more random cases (docs/test-long.md)
	tests/install-dependencies long
	red=0; \
	PROPTEST_CASES=$(CASES) $(CARGO) test $(PROFILE) --workspace --lib --no-fail-fast || red=1; \
	SOAK_SECONDS=$(SOAK_SECONDS) $(CARGO) test $(PROFILE) --workspace --test fault --test e2e --test tokens --no-fail-fast -- --ignored --nocapture || red=1; \
	SIV_TEST_ROUNDS=$(ROUNDS) PROPTEST_CASES=$(CASES) SIV_TEST_REQUESTS=$(REQUESTS) $(CARGO) test $(PROFILE) --workspace --test fault --test memory --test e2e --test foreign --test fuzz --no-fail-fast -- --nocapture || red=1; \
	exit $$red

fuzz: build-tests ## requests changed by chance, in great numbers, to a node that goes on (SIV_TEST_SEED names those of another day)
	SIV_TEST_REQUESTS=$(REQUESTS) $(CARGO) test $(PROFILE) --workspace --test fuzz -- --nocapture

bench: ## throughput, latency and costs on both databases, as ratios to work of the same kind in the same run, of the build that is shipped (BENCH="--write")
	$(CARGO) build --release --locked -p vault -p tests --bins
	$(TARGET)/release/bench $(BENCH)

bench-smoke: build-tests ## every path of the benchmark once on both databases; its figures mean nothing
	$(TARGET)/ci/bench --quick

lint: ## rustfmt and clippy; fails where the toolchain lacks them
	@$(CARGO) fmt --version >/dev/null 2>&1 || { echo "rustfmt is missing: rustup component add rustfmt (Debian: apt-get install rustfmt)" >&2; exit 1; }
	@$(CARGO) clippy --version >/dev/null 2>&1 || { echo "clippy is missing: rustup component add clippy (Debian: apt-get install rust-clippy)" >&2; exit 1; }
	$(CARGO) fmt --all --check
	$(CARGO) clippy $(PROFILE) --workspace --all-targets -- -D warnings

fmt:
	$(CARGO) fmt --all

deny: ## licences, advisories, banned crates (deny.toml); needs cargo-deny and, for the advisories, the network
	@$(CARGO) deny --version >/dev/null 2>&1 || { echo "cargo-deny is missing: cargo install --locked cargo-deny" >&2; exit 1; }
	$(CARGO) deny --workspace check
