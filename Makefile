# `make help` says what there is. Needs Python 3.11 or newer and make; everything else is set up in .venv,
# from the pinned requirements, when a target needs it.

ARGS ?=
PACKAGES := mediator contracts $(wildcard sample_app) tests .ci
IN_VENV := .venv/bin/python -m
PROJECTS := pyproject.toml contracts/pyproject.toml .ci/venv.py

.DEFAULT_GOAL := help
.PHONY: help setup sample test check format bench pins clean

help: ## show this list
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 16

setup: .venv/.dev ## set up .venv with all that development needs

sample: .venv/.runtime ## run the sample shop (ARGS="..." is handed on)
	@$(IN_VENV) sample_app $(ARGS)

test: .venv/.dev ## run the tests, parallel and in random order (ARGS="-k inbox" is handed on)
	@$(IN_VENV) pytest --numprocesses auto --dist loadgroup $(ARGS)

check: .venv/.dev ## all that CI checks: format, lint, types, import rules, contracts, tests
	@echo "--- format: ruff format"
	@$(IN_VENV) ruff format --check --quiet $(PACKAGES)
	@echo "--- lint: ruff check"
	@$(IN_VENV) ruff check --quiet $(PACKAGES)
	@echo "--- types: mypy"
	@$(IN_VENV) mypy $(filter-out .ci,$(PACKAGES))
	@$(IN_VENV) mypy .ci/venv.py
	@echo "--- import rules: import-linter"
	@.venv/bin/python -c "from importlinter.cli import lint_imports_command; lint_imports_command(['--no-logo'])"
	@echo "--- the sample's contracts: mediator contracts check"
	@$(IN_VENV) mediator.cli contracts check
	@echo "--- tests: pytest"
	@$(IN_VENV) pytest --numprocesses auto --dist loadgroup

format: .venv/.dev ## format the code and mend what ruff can mend
	@$(IN_VENV) ruff check --fix --quiet $(PACKAGES) || true
	@$(IN_VENV) ruff format $(PACKAGES)

bench: .venv/.dev ## run the benchmarks (ARGS="..." is handed on)
	@$(IN_VENV) tests.benchmarks $(ARGS)

pins: ## compile requirements/*.in to *.txt again, with the newest versions
	@rm -rf .cache/pins && "$(PYTHON)" -m venv .cache/pins && .cache/pins/bin/python -m pip install --quiet uv
	@cd requirements && for set in runtime dev; do \
	    ../.cache/pins/bin/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
	        --no-header --no-emit-index-url --no-emit-find-links --output-file $$set.txt $$set.in || exit 1; \
	done
	@! grep -nE '://|^ *--(index|extra-index|find-links|trusted-host)' requirements/*.txt

clean: ## remove .venv and all that tools left behind
	@rm -rf .venv .venv.lock .cache .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache build dist contracts/dist
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The newest Python that will do; PYTHON=... chooses another.
PYTHON ?= $(or $(shell for name in python3.13 python3.12 python3.11 python3 python; do \
    $$name -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && command -v $$name && break; \
    done),$(error Python 3.11 or newer is needed and none was found on PATH; name one with PYTHON=/path/to/python))

.venv/.runtime .venv/.dev: .venv/.%: requirements/%.txt $(PROJECTS)
	@"$(PYTHON)" .ci/venv.py $*

# Stamps say nothing when the interpreter that the environment links to is gone.
ifeq ($(wildcard .venv/bin/python),)
.PHONY: .venv/.runtime .venv/.dev
endif
