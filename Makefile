# The fresh-machine commands: Python >= 3.11, make and a package index are all they need.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
BENCH  ?=
SOAK   ?=
TESTS  ?= tests
FUZZ   ?=
FUZZ_SECONDS ?= 60

.PHONY: help env demo lab test check format bench soak fuzz lock clean

help:            ## this list
	@grep -E '^[a-z]+: .*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## */  make \1\t/' | expand -t 18

env: $(VENV)/.run  ## a virtual environment with gloam in it

demo: env        ## the whole perimeter on this machine, step by step
	@$(BIN)/gloam demo

lab: env         ## a perimeter that stays up, with commands to try
	@$(BIN)/gloam lab

test: $(VENV)/.dev ## the whole test suite
	$(BIN)/python -m pytest -q -n 4 --dist loadfile --no-loadscope-reorder $(TESTS)

check: $(VENV)/.dev ## lint, format, types, import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.dev ## put the code into its one shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.run ## benchmarks beside HAProxy, stunnel and fwknopd
	$(BIN)/python -m bench $(BENCH)

soak: env        ## a thousand tunnels for two minutes, every byte compared
	$(BIN)/python -m lab.soak $(SOAK)

fuzz: $(VENV)/.fuzz ## coverage-guided fuzz tests, FUZZ_SECONDS each
	$(BIN)/python -m tests.fuzz --seconds $(FUZZ_SECONDS) $(FUZZ)

LOCK = $(BIN)/uv pip compile -q --upgrade --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header
lock: $(VENV)/.dev ## pin every dependency again, with hashes and no addresses
	echo uv | $(LOCK) - -o requirements-uv.lock
	$(LOCK) --group build pyproject.toml -o requirements.lock
	$(LOCK) --group build --group dev pyproject.toml -c requirements.lock -o requirements-dev.lock
	$(LOCK) --group fuzz -o requirements-fuzz.lock

clean:           ## forget the environment
	rm -rf $(VENV) .fuzz build *.egg-info

# Every hash is checked; --no-deps because a lock already holds the whole closure. uv installs in a second what takes pip
# fifteen; pip steps in where uv cannot reach the index pip was configured for.
OPTIONS = -q --no-deps
INSTALL = $(BIN)/uv pip install --compile-bytecode --python $(BIN)/python $(OPTIONS) $(1) 2>/dev/null || \
          $(BIN)/python -m pip install --disable-pip-version-check $(OPTIONS) $(1)

$(VENV)/bin/uv: requirements-uv.lock
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes --no-deps -r requirements-uv.lock
	@touch $@

$(VENV)/.run: $(VENV)/bin/uv requirements.lock pyproject.toml
	@$(call INSTALL,--require-hashes -r requirements.lock)
	@$(call INSTALL,--no-build-isolation -e .)
	@$(BIN)/python -m compileall -q certs spa wire console controller gateway client lab
	@touch $@

$(VENV)/.fuzz: $(VENV)/.dev requirements-fuzz.lock
	@$(call INSTALL,--require-hashes -r requirements-fuzz.lock)
	@touch $@

$(VENV)/.dev: $(VENV)/.run requirements-dev.lock
	@$(call INSTALL,--require-hashes -r requirements-dev.lock)
	@touch $@
