# `make help` lists what there is. Everything may be repeated: what is done already is not done again.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-print-directory

CARGO ?= cargo
# Where cargo builds; other places than ./target are respected.
TARGET := $(or $(CARGO_TARGET_DIR),target)
# Making images and running VMs needs root; building does not, and should not.
AS_ROOT := $(if $(filter 0,$(shell id -u)),,sudo)

# Tools are built for their own speed of compilation: they run for seconds. They go where cargo puts all tools.
INSTALL_TOOL := env -u CARGO_TARGET_DIR CARGO_PROFILE_DEV_DEBUG=0 $(CARGO) install --locked --debug

##@ To see it work

.PHONY: demo
demo: packages ## Two pull requests on a forge of this machine, each in a fresh microVM
	$(CARGO) build --locked --release --bin dayfly --example demo
	$(AS_ROOT) $(TARGET)/release/examples/demo --dayfly $(TARGET)/release/dayfly

.PHONY: demo-gitlab
demo-gitlab: packages ## Two jobs of a GitLab on this machine, each in a fresh microVM
	$(CARGO) build --locked --release --bin dayfly --example demo
	$(AS_ROOT) $(TARGET)/release/examples/demo --dayfly $(TARGET)/release/dayfly --gitlab

.PHONY: bench
bench: packages ## What this host delivers: VMs, deliveries, logs, each beside something to compare with
	$(CARGO) build --locked --release --bin dayfly
	$(AS_ROOT) $(TARGET)/release/dayfly bench create -n 50 --baseline --state-dir .demo/state
	$(AS_ROOT) $(TARGET)/release/dayfly bench fork --state-dir .demo/state
	$(AS_ROOT) $(TARGET)/release/dayfly bench pool --state-dir .demo/state
	$(AS_ROOT) $(TARGET)/release/dayfly bench density --state-dir .demo/state
	$(AS_ROOT) $(TARGET)/release/dayfly bench cold-boot --state-dir .demo/state
	$(AS_ROOT) $(TARGET)/release/dayfly bench webhook --state-dir .demo/state
	$(AS_ROOT) $(TARGET)/release/dayfly bench log --state-dir .demo/state
	$(TARGET)/release/dayfly bench plan

.PHONY: images
images: packages ## All images that come with Dayfly, each with a job in it, Docker's daemon included
	$(CARGO) build --locked --release --bin dayfly
	$(AS_ROOT) scripts/smoke-images $(abspath $(TARGET))/release/dayfly $(abspath .demo/state)

##@ To work on it

.PHONY: test
test: nextest ## All tests, those with real VMs included
	$(CARGO) test --locked --doc --quiet
	DAYFLY_REQUIRE_VMS=$(if $(AS_ROOT),0,1) $(CARGO) nextest run --locked

.PHONY: leaks
leaks: nextest ## Whether anything is left of a thousand VMs without guests, and of fifty real ones (half an hour)
	DAYFLY_REQUIRE_VMS=$(if $(AS_ROOT),0,1) DAYFLY_LEAK_VMS=1000 DAYFLY_LEAK_REAL_VMS=50 \
		$(CARGO) nextest run --locked --profile leaks --no-capture -E 'test(/nothing_is_left_of/)'

.PHONY: gitlab-load
gitlab-load: nextest ## Five hundred jobs of a GitLab while everything goes wrong at random
	DAYFLY_GITLAB_JOBS=500 $(CARGO) nextest run --locked --profile leaks --no-capture -E 'test(/every_trace_is_exact/)'

.PHONY: lint
lint: deny ## Format, clippy, documentation, licences, bans and sources
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps --lib --document-private-items
	$(CARGO) deny --locked --log-level error check licenses bans sources

.PHONY: fuzz
fuzz: packages ## Random input to everything that reads a stranger's, a minute each
	fuzz/run $(or $(SECONDS),60)

.PHONY: advisories
advisories: deny ## Known vulnerabilities of dependencies (fetches the advisory database)
	$(CARGO) deny --locked check advisories

.PHONY: clean
clean: ## Remove what was built, and the demo's images
	$(CARGO) clean
	$(AS_ROOT) rm -rf .demo

.PHONY: help
help: ## This list
	@awk 'BEGIN { FS = ":.*## " } /^##@ / { print "\n" substr($$0, 5) } /^[a-z]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# What the others need.

.PHONY: packages cargo nextest deny
# A compiler for C is among them, which the tools need too.
packages: cargo
	@scripts/install-packages

cargo:
	@command -v $(CARGO) >/dev/null || { \
		echo 'error: `cargo` is not installed' >&2; \
		echo '  hint: Rust comes from https://rustup.rs; Dayfly needs $(shell sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml) or newer' >&2; exit 69; }

nextest: packages
	@command -v cargo-nextest >/dev/null || $(INSTALL_TOOL) cargo-nextest

deny: packages
	@command -v cargo-deny >/dev/null || $(INSTALL_TOOL) cargo-deny
