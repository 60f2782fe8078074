PYTHON ?= python3
BIN := .venv/bin
CLIENTS := tests/javascript
CHAT := examples/chat
# What is run on the oldest packages that pyproject.toml allows, and on the newest there are.
LOWEST := tests/runs/test_double_texting.py tests/runs/test_lifecycle.py tests/companion tests/db/test_values.py tests/test_encode.py
CORE := $(LOWEST) tests/db tests/replay tests/graphs/test_factories.py
BOUND := -m pytest -n 2 --dist loadfile -p no:cacheprovider -W default
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check

.PHONY: help setup dev chat test test-lowest test-bounds test-browser test-cluster soak check bench
.DEFAULT_GOAL := help

help: ## List what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' Makefile

setup: .venv/ready ## Install what running needs into .venv, if anything has changed

dev: .venv/ready ## Run a server on http://localhost:8123 with examples/weather, and its engines
	@exec $(BIN)/durathread dev --config examples/weather/langgraph.json

chat: .venv/ready $(CHAT)/node_modules/ready ## Run a server with examples/chat, and its page on http://localhost:5173
	@$(BIN)/durathread dev --config $(CHAT)/langgraph.json & server=$$!; \
		trap 'kill $$server; wait $$server' EXIT; trap 'wait $$server; trap - EXIT; exit' INT; \
		cd $(CHAT) && npm run --silent dev

test: .venv/tested $(CLIENTS)/node_modules/ready ## Run the tests, two files at a time (ARGS="-k name" runs some)
	@exec $(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)

test-lowest: .venv-lowest-direct/ready ## Run some tests on the oldest packages that pyproject.toml allows
	@.venv-lowest-direct/bin/python $(BOUND) $(LOWEST)

test-bounds: .venv/tested .venv-lowest-direct/ready .venv-highest/ready ## Resolve beside others' packages; run a core on the oldest and newest packages
	@$(BIN)/python -m pytest tests/bounds
	@for bound in lowest-direct highest; do echo "A core of the tests, resolved $$bound:"; \
		.venv-$$bound/bin/python $(BOUND) $(CORE) || exit 1; done

test-browser: .venv/tested $(CHAT)/node_modules/ready ## Build the page of examples/chat and use it in Chromium (ARGS="-k name")
	@command -v chromium >/dev/null || command -v google-chrome >/dev/null || \
		{ test "$$(id -u)" = 0 && apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium; } || \
		{ echo 'Chromium is needed: apt-get install chromium'; exit 1; }
	@cd $(CHAT) && npm run --silent check && npm run --silent build -- --logLevel warn
	@exec $(BIN)/python -m pytest -n 2 --dist worksteal tests/browser $(ARGS)

test-cluster: .venv/tested ## Run what docker-compose.yml describes, process by process, and hurt it (ARGS="-k name")
	@exec $(BIN)/python -m tests.cluster $(ARGS)

soak: .venv/tested ## Hurt a server for a minute, and judge what it has kept (ARGS="--seed 7 --seconds 600")
	@exec $(BIN)/python -m tests.chaos $(ARGS)

check: .venv/tested ## Lint, check the format, the types and the layers
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

bench: .venv/tested ## Measure a running server (benchmarks/README.md)
	@exec $(BIN)/python benchmarks/run.py $(ARGS)

# A Python that is named is the one that is used: a .venv of another goes.
ifneq ($(origin PYTHON),file)
ifeq ($(wildcard .venv/lib/python$(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')/),)
.venv/ready: no-venv
endif
endif

.PHONY: no-venv
no-venv:
	@rm -rf .venv

.venv/ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo 'durathread needs Python 3.11 or later. Name one: make PYTHON=python3.12'; exit 1; }
	@echo 'Installing into .venv: about half a minute, the first time.'
	@$(PYTHON) -m venv .venv
	@$(PIP) install -c requirements.lock setuptools
	@$(PIP) install -c requirements.lock --no-build-isolation -e '.[embedded,encryption]'
	@touch $@

.venv/tested: .venv/ready
	@echo 'Installing what tests and checks need: about half a minute, the first time.'
	@$(PIP) install -r requirements.lock
	@touch $@

.venv-%/ready: pyproject.toml
	@echo 'Installing into .venv-$*.'
	@rm -rf .venv-$* && $(PYTHON) -m venv .venv-$*
	@.venv-$*/bin/python -m pip --quiet --disable-pip-version-check install uv
	@.venv-$*/bin/python -m uv pip install --quiet --python .venv-$*/bin/python --resolution $* -e '.[dev]'
	@touch $@

%/node_modules/ready: %/package.json
	@node -e 'process.exit(+(parseInt(process.versions.node) < 20))' 2>/dev/null || \
		{ echo 'Node 20 or later is needed for JavaScript: put node and npm on the path.'; exit 1; }
	@cd $* && npm install --no-package-lock --no-audit --no-fund --loglevel=error
	@touch $@
