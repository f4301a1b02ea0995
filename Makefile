# The commands of this repository. `make demo` shows the whole line, `make test` proves it.

CARGO   ?= cargo
# All tests run one build: release code without LTO (Cargo.toml, [profile.ci]).
PROFILE := --profile ci --locked

.PHONY: demo test test-rust test-js test-long bench lint fmt deny build-tests install-test-deps

demo: ## the whole line on this machine, on http://localhost:8090
	$(CARGO) run --release --locked -- dev

test: install-test-deps lint test-js test-rust deny ## everything, on a machine that has nothing but Rust and Debian

install-test-deps: ## what the tests need: a browser, foreign verifiers, fault injection, JavaScript tools
	tests/install-dependencies
	npm ci --no-audit --no-fund --prefix client-js
	npm ci --no-audit --no-fund --prefix tests/browser

build-tests: ## one build of the binary and of every test
	$(CARGO) build $(PROFILE) --workspace --bins --tests

test-rust: build-tests ## unit, architecture, end-to-end, fault, browser, foreign and memory tests
	$(CARGO) test $(PROFILE) --workspace --no-fail-fast

test-js: ## what runs in the page and in the frame, on its own
	npm run --prefix client-js check
	npm test --prefix client-js

test-long: build-tests ## the slow half: more rounds of the fault and load tests
	SIV_TEST_ROUNDS=50 $(CARGO) test $(PROFILE) -p tests --test fault --no-fail-fast

bench: ## throughput and latency, printed as ratios to work of the same kind on the same machine
	$(CARGO) build $(PROFILE) --workspace --bins
	$(CARGO) run $(PROFILE) -p tests --bin bench

lint: ## rustfmt and clippy, where the toolchain has them
	@if $(CARGO) fmt --version >/dev/null 2>&1; then $(CARGO) fmt --all --check; else echo "rustfmt is not installed: formatting not checked"; fi
	@if $(CARGO) clippy --version >/dev/null 2>&1; then $(CARGO) clippy $(PROFILE) --workspace --all-targets -- -D warnings; else echo "clippy is not installed: lints not checked"; fi

fmt:
	$(CARGO) fmt --all

deny: ## licences, advisories, banned crates (deny.toml); needs cargo-deny
	@if $(CARGO) deny --version >/dev/null 2>&1; then $(CARGO) deny --workspace check; else echo "cargo-deny is not installed: deny.toml not checked (cargo install --locked cargo-deny)"; fi
