# Two commands: `make demo` shows the whole thing working, `make test` runs every test.
.DEFAULT_GOAL := help
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
EMULATORS := .venv-emulators
DEPLOY := .venv-deploy
SERVERS ?= embedded
# A module stays on one worker, which has servers of its own; the long modules are first in order.
WORKERS ?= -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder
# The newest Python on PATH that the lock supports.
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && echo $$p && break; done)

# One resolution for both, valid on every platform; uv writes no index address unless asked to.
UV_COMPILE := uv pip compile pyproject.toml --universal -p 3.11 --generate-hashes --no-header -q

.PHONY: help demo install test coverage cloud-check test-quick lint lock bench-pit bench-materialize bench-fresh bench-monitor bench-serve bench-commands clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: install ## Servers, data, training, an HTTP request, 14 days of replayed requests and their monitoring
	@$(BIN)/runner up
	@$(BIN)/python -m examples.shop
	@$(BIN)/runner train recipes/rf.yaml
	@$(BIN)/runner materialize recipes/rf.yaml
	@$(BIN)/python -m examples.shop.ask recipes/rf.yaml
	@$(BIN)/python -m examples.shop.replay recipes/rf.yaml
	@$(BIN)/runner collect
	@eval "$$($(BIN)/runner env)" && $(BIN)/dbt build --quiet --select stg_serving__predictions outcome_category_purchase
	@$(BIN)/runner monitor recipes/rf.yaml --since 14d
	@cat examples/shop/next.txt

install: $(VENV)/.installed ## Create .venv with everything a user needs

test: $(VENV)/.installed-dev $(EMULATORS)/.installed $(DEPLOY)/.installed ## Run every test; SERVERS=debian uses PostgreSQL 15 and Redis 7
	$(BIN)/python -m pytest --servers $(SERVERS) $(WORKERS) --durations 20 $(MEASURED) $(TESTS)

coverage: MEASURED := --cov --cov-report=
coverage: test ## Run every test, and print the lines that none runs: half as much CPU again
	$(BIN)/python -m coverage combine --quiet --append 2>/dev/null || true
	$(BIN)/python -m coverage report

cloud-check: $(VENV)/.installed-dev ## Check the servers of a real Google Cloud project
	$(BIN)/python -m pytest --cloud-check tests/cloud_check

test-quick: $(VENV)/.installed-dev ## Run the unit tests only: seconds
	$(BIN)/python -m pytest tests/unit

lint: $(VENV)/.installed-dev $(DEPLOY)/.installed ## ruff, mypy, ty, import-linter, SQLFluff against the live database
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(DEPLOY)/bin/ty check --quiet --python $(DEPLOY) runner/skeleton/deploy
	$(BIN)/lint-imports
	$(BIN)/runner up
	$(BIN)/sqlfluff lint dbt_project/models
	cd examples/movielens && ../../$(BIN)/runner up && ../../$(BIN)/sqlfluff lint models

lock: ## Renew the hashed locks from pyproject.toml (needs uv)
	$(UV_COMPILE) --group dev --all-extras -o requirements-dev.lock
	$(UV_COMPILE) -c requirements-dev.lock -o requirements.lock
	$(subst pyproject.toml,tests/emulators/requirements.in,$(UV_COMPILE)) -o requirements-emulators.lock
	$(subst pyproject.toml,deploy/requirements.in,$(UV_COMPILE)) -o deploy/requirements.txt

bench-pit: $(VENV)/.installed-dev ## Point-in-time join: ours against stock Feast
	$(BIN)/python -m benchmarks.point_in_time

bench-materialize: $(VENV)/.installed-dev ## Materialization: ours against stock Feast
	$(BIN)/python -m benchmarks.materialize

bench-fresh: $(VENV)/.installed-dev ## Freshness: from an event to the online value
	$(BIN)/python -m benchmarks.fresh

bench-monitor: $(VENV)/.installed-dev ## Monitoring: time and memory by logged rows
	$(BIN)/python -m benchmarks.monitor

bench-serve: $(VENV)/.installed-dev ## Serving: ours against the usual ways
	$(BIN)/python -m benchmarks.serving

bench-commands: $(VENV)/.installed-dev ## CPU time of the quick commands and of a training
	$(BIN)/python -m benchmarks.commands

clean: ## Remove what was built; data/ and mlruns/ stay
	rm -rf $(VENV) $(EMULATORS) $(DEPLOY) target logs build *.egg-info .mypy_cache .ruff_cache .pytest_cache .coverage*

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "error: no Python 3.11, 3.12 or 3.13 on PATH"; \
		echo "hint: install one, or name it: make PYTHON=/path/to/python3.12 demo"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "error: $(PYTHON) cannot create $(VENV)"; \
		echo "hint: on Debian and Ubuntu: apt-get install python3-venv"; exit 1; }

$(VENV)/.installed: requirements.lock pyproject.toml | $(VENV)/bin/python
	@echo "Installing from requirements.lock (a few minutes the first time) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.installed-dev: requirements-dev.lock $(VENV)/.installed
	@echo "Installing from requirements-dev.lock ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements-dev.lock
	@touch $@

$(EMULATORS)/.installed: requirements-emulators.lock
	@echo "Installing from requirements-emulators.lock ..."
	@$(PYTHON) -m venv $(EMULATORS)
	@$(EMULATORS)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements-emulators.lock
	@touch $@

$(DEPLOY)/.installed: deploy/requirements.txt
	@echo "Installing from deploy/requirements.txt ..."
	@$(PYTHON) -m venv $(DEPLOY)
	@$(DEPLOY)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r deploy/requirements.txt
	@touch $@
