# `make repro` and `make test` do all the set-up themselves. VENV=/elsewhere make … puts the environment elsewhere.
VENV ?= .venv
PYTHON ?= python3
BIN := $(abspath $(VENV))/bin
# DVC starts `python` by name: the environment's comes first.
export PATH := $(BIN):$(PATH)
READY := $(VENV)/.ready
.DEFAULT_GOAL := help

.PHONY: help setup
help:  ## what there is to make
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(READY)  ## the virtual environment with the locked dependencies

# With hashes, so what is installed is what was locked; bytecode now, or every stage's first import pays for it.
$(READY): requirements.lock
	@if command -v uv >/dev/null; then \
	  uv venv -q --allow-existing --python $(PYTHON) $(VENV) && \
	  VIRTUAL_ENV=$(abspath $(VENV)) uv pip sync -q --require-hashes --compile-bytecode requirements.lock; \
	else \
	  $(PYTHON) -m venv $(VENV) && \
	  $(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes --compile -r requirements.lock; \
	fi
	@touch $@
