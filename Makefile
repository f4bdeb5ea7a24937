# Every target sets itself up: a fresh machine needs python3 (3.11 or newer) and make, nothing else.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
MKDOCS := NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict -q

.DEFAULT_GOAL := help
.PHONY: help install demo check test lint types docs notebooks bench fuzz crash abuse lock clean

help:  ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1|\2/' | column -t -s '|'

install: $(READY)  ## build .venv with every extra, from the locked dependencies

# uv when it is there or can be had, pip otherwise; both refuse a file whose hash is not in the lock.
$(READY): pyproject.toml requirements.lock setup.py penpot_telemetry/wire/kernel.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "penpot_telemetry needs Python 3.11 or newer, this is " + sys.version.split()[0] + ": make PYTHON=/path/to/python3.11 ...")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) ..."
	@uv=$$(command -v uv || { $(BIN)/python -m pip install -q --disable-pip-version-check uv >/dev/null 2>&1 && echo $(BIN)/uv; }); \
	if [ -n "$$uv" ] && "$$uv" --version >/dev/null 2>&1; then \
	  export VIRTUAL_ENV=$(CURDIR)/$(VENV); \
	  "$$uv" pip install -q --require-hashes -r requirements.lock && "$$uv" pip install -q --no-deps -e . ; \
	else \
	  $(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements.lock && \
	  $(BIN)/python -m pip install -q --disable-pip-version-check --no-deps -e . ; \
	fi
	@touch $(READY)

demo: $(READY)  ## the whole flow on the embedded database, in under a minute
	@$(BIN)/python -m penpot_telemetry.run --demo

check: lint types  ## lint, types and unit tests, in under a minute
	@$(BIN)/pytest -n 2 --dist loadfile -m "not slow" tests/unit

test: lint types  ## everything: also the other tests, the documents and the notebooks
	@$(MKDOCS)
	@$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder --doctest-modules tests penpot_telemetry receiver
	@$(BIN)/pytest -n 2 --dist loadfile --nbval --nbval-cell-timeout 300 notebooks

docs: $(READY)  ## the documents as a site in build/site, links checked
	@$(BIN)/python -m docs.generate
	@$(MKDOCS)

notebooks: $(READY)  ## run the notebooks and keep what they print
	@$(BIN)/python notebooks/execute.py

lint: $(READY)  ## ruff on modules and notebooks, import-linter on the layers
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/lint-imports --no-logo --no-cache

types: $(READY)  ## mypy, strict
	@$(BIN)/mypy

bench: $(READY)  ## every figure beside its floor or the JVM, in turns
	@$(BIN)/python -m benchmarks

fuzz: $(READY)  ## throw damaged bytes at the readers for a minute
	@$(BIN)/python tests/property/fuzz_wire.py --seconds 60

crash: $(READY)  ## kill sender and receiver at every point, N schedules: make crash N=1000
	@$(BIN)/python -m tests.crash --n $(or $(N),100) --seed $(or $(SEED),1) --jobs 2

abuse: $(READY)  ## abuse the running receiver, SCALE times the short form: make abuse SCALE=20
	@$(BIN)/python -m tests.abuse --scale $(or $(SCALE),20)

lock: $(READY)  ## renew requirements.lock (hashes, no addresses); the newest versions: make lock UPGRADE=1
	@$(BIN)/uv pip compile -q --universal --generate-hashes --no-annotate --no-header --all-extras --group dev --python-version 3.11 $(if $(UPGRADE),--upgrade) pyproject.toml -o requirements.lock

clean:  ## remove .venv and what the demo left
	@rm -rf $(VENV) demo-data build *.egg-info .mypy_cache .ruff_cache .hypothesis
