PYTHON ?= python3
BIN := .venv/bin
CLIENTS := tests/javascript
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check

.PHONY: help setup dev test check bench
.DEFAULT_GOAL := help

help: ## List what can be made
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' Makefile

setup: .venv/ready ## Install everything into .venv, if anything has changed

dev: .venv/ready ## Run a server on http://localhost:8123 with examples/weather, and its engines
	@exec $(BIN)/durathread dev --config examples/weather/langgraph.json

test: .venv/ready $(CLIENTS)/node_modules/ready ## Run the tests (ARGS="-k name" runs some)
	@exec $(BIN)/python -m pytest $(ARGS)

check: .venv/ready ## Lint, check the format, the types and the layers
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

bench: .venv/ready ## Measure a running server (benchmarks/README.md)
	@exec $(BIN)/python benchmarks/run.py $(ARGS)

.venv/ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo 'durathread needs Python 3.11 or later. Name one: make PYTHON=python3.12'; exit 1; }
	@echo 'Installing into .venv: about a minute, the first time.'
	@$(PYTHON) -m venv .venv
	@$(PIP) install -r requirements.lock
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

$(CLIENTS)/node_modules/ready: $(CLIENTS)/package.json
	@node -e 'process.exit(parseInt(process.versions.node) < 20)' 2>/dev/null || \
		{ echo 'The JavaScript clients are tested with Node 20 or later: put node and npm on the path.'; exit 1; }
	@cd $(CLIENTS) && npm install --no-package-lock --no-audit --no-fund --loglevel=error
	@touch $@
