# Each target is a line or two; `make help` lists them.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: help packages demo test test-fast lint type docs bench mutants molecule clean

help: ## List the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

$(READY): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("fleet-audit needs Python 3.11 or newer; set PYTHON=") if sys.version_info < (3, 11) else None'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,notify,remediate,sbom,serve,testinfra]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps 'compliance-trestle==5.2.0'  # it pins our paramiko
	touch $@

demo: $(READY) ## Audit this machine and a small recorded fleet, and say where the reports are
	PATH="$(CURDIR)/$(BIN):$$PATH" sh demo/run.sh

test: $(READY) packages ## The suite, with real SSH hosts where this runs as root on Debian or Ubuntu; THOROUGH=1 as CI runs it
	$(BIN)/python -m pytest -n 2 --dist loadgroup $(if $(THOROUGH),,-m "not thorough")

test-fast: $(READY) ## The inner loop: no SSH hosts, no browser
	$(BIN)/python -m pytest -n 2 -m 'not hosts and not chromium and not slow' -q

lint: $(READY) ## Style, format of documents, and who may import whom
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/python docs/generate.py --check

type: $(READY) ## The strict type checker
	$(BIN)/mypy

docs: $(READY) ## Write the generated pages anew
	$(BIN)/python docs/generate.py

molecule: $(READY) packages ## Every role's scenario on booted hosts
	MOLECULE=all $(BIN)/python -m pytest -q -n 2 --dist load tests/e2e/test_molecule.py tests/e2e/test_roles.py

mutants: $(READY) ## Whether the examples of checks notice altered SQL; writes the page of figures
	$(BIN)/python -m tests.mutants --write

packages:
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then sh tests/hosts/install-packages; \
	else echo "not root on Debian or Ubuntu: tests that need real SSH hosts are skipped"; fi

bench: $(READY) packages ## Measure speed and cost, as ratios; each benchmark ends with a line of JSON
	$(BIN)/python -m benchmarks

clean: ## Remove what the targets made
	rm -rf $(VENV) build dist .cache
