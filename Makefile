# Everything a developer needs; `make demo` and `make test` set up a fresh machine by themselves.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3
JOBS ?= 2
STAMP := $(VENV)/.installed

.PHONY: help demo test lint format bench vectors soak editors agents vsix lock clean

help: ## What there is to make
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(STAMP): pyproject.toml requirements.lock requirements-dev.lock
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(STAMP) ## Index a real code base, let an agent fix a fault under a policy, approve it, take it back
	$(BIN)/codeforge demo $(ARGS)

test: $(STAMP) ## All tests, through the real doors
	$(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder $(ARGS)

lint: $(STAMP) ## Format, lint, types, floors
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP) ## Format and fix what can be fixed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(STAMP) ## Figures: start-up, loop stalls, index, search, checkpoints, policy
	$(BIN)/python -m tests.bench

vectors: $(STAMP) ## Make the shipped word vectors anew, from pinned packages; the same bytes each time
	OPENBLAS_NUM_THREADS=1 $(BIN)/python scripts/build_vectors.py $(ARGS)
	$(BIN)/python scripts/build_rarity.py

soak: $(STAMP) ## The long proofs: every kill, 100,000 fuzz cases; writes reports/soak.md
	$(BIN)/python -m tests.soak --report reports/soak.md $(ARGS)

vsix: ## Build the VS Code extension into editors/vscode/codeforge.vsix
	cd editors/vscode && npm ci --ignore-scripts --no-audit --no-fund && npm run vsix

editors: $(STAMP) vsix ## The extension in a real VS Code workbench, by real clicks; screenshots in reports/vscode
	tests/editors/vscode/run.sh $(ARGS)

agents: $(STAMP) ## The MCP conformance suite, and real agents over pipe and HTTP (npm, 1.3 GB in reports/agents)
	tests/agents/run.sh $(ARGS)

lock: ## Write the lock files anew, with hashes
	$(BIN)/pip-compile --quiet --strip-extras --allow-unsafe --generate-hashes --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --output-file requirements.lock pyproject.toml
	$(BIN)/pip-compile --quiet --strip-extras --allow-unsafe --generate-hashes --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --extra dev --constraint requirements.lock --output-file requirements-dev.lock pyproject.toml

clean: ## Remove what was made
	rm -rf $(VENV) dist build .pytest_cache .mypy_cache .ruff_cache reports editors/vscode/node_modules editors/vscode/out
