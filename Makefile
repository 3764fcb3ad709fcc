# Every target is one command that works without make, too. `make help` lists them.
.DEFAULT_GOAL := help
SHELL := /bin/bash
# Progress shows at once, in a pipe too.
export PYTHONUNBUFFERED := 1
PY := .venv/bin/python
TIERS ?= check unit integration e2e

.PHONY: help setup check format test test-unit test-integration test-e2e bench demo demo-down cluster-build cluster-up \
	cluster-down cluster-status generate lock fresh clean

help:  ## List the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  \033[1m%-18s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup:  ## Make the Python environment in .venv from the lock file (quick when nothing changed)
	@scripts/bootstrap.sh

demo: setup  ## Local Kubernetes, helm install, real jobs, shown to a person (needs root; leaves the cluster up)
	@$(PY) -m scripts.demo up

demo-down: setup  ## Remove everything `make demo` made
	@$(PY) -m scripts.demo down

test: setup  ## All checks and tests, end to end included (needs root; TIERS="check unit" for fewer)
	@TIERS="$(TIERS)" scripts/test.sh

check: setup  ## Format, lint, types, layers, shell, YAML, generated files
	@TIERS=check scripts/test.sh

test-unit: setup  ## Tests without servers
	@TIERS=unit scripts/test.sh

test-integration: setup  ## Real Redis and Valkey, a real control plane with simulated nodes
	@TIERS=integration scripts/test.sh

test-e2e: setup  ## A whole cluster with a real kubelet, installed by helm (needs root or HEAVYLIFT_E2E_KUBECONFIG)
	@TIERS=e2e scripts/test.sh

bench: setup  ## Measure against the cluster's and Redis' own limits: a short table and JSON (ARGS="--quick", "--only NAME")
	@$(PY) -m tests.benchmarks $(ARGS)

format: setup  ## Rewrite Python files in the project's format
	@.venv/bin/ruff check --fix-only --exit-zero . && .venv/bin/ruff format .

generate: setup  ## Write the CRDs and the rendered install from the models and the chart
	@$(PY) scripts/generate.py

NODES ?= kwok
NAME ?= dev
cluster-build: setup  ## Build the test cluster's binaries into the user's cache folder (once, about 10 minutes)
	@$(PY) -m tests.cluster build --nodes=$(NODES)

cluster-up: setup  ## Start a test cluster: NODES=kwok|real NAME=dev
	@$(PY) -m tests.cluster up --nodes=$(NODES) --name $(NAME)

cluster-down: setup  ## Stop it and remove what it left
	@$(PY) -m tests.cluster down --name $(NAME)

cluster-status: setup  ## Say what runs
	@$(PY) -m tests.cluster status

lock: setup  ## Resolve the dependencies anew into uv.lock
	@scripts/lock.sh

fresh:  ## Clone into an empty home, run `make demo` and `make test` there, cold and warm (root, network, an hour)
	@tests/fresh.sh

clean:  ## Remove the environment and caches inside the checkout
	@rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
