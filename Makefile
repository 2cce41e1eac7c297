# `make repro` and `make test` do all the set-up themselves. VENV=/elsewhere make … puts the environment elsewhere.
VENV ?= .venv
PYTHON ?= python3
# A space in the project's own path does no harm; make takes one in a target for the start of another.
ifneq ($(words $(VENV)),1)
$(error VENV=$(VENV): must be a path without spaces)
endif
BIN := $(abspath $(VENV))/bin
# DVC starts `python` by name: the environment's comes first.
export PATH := $(BIN):$(PATH)
READY := $(VENV)/.ready
.DEFAULT_GOAL := help

.PHONY: help setup
help:  ## what there is to make
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(READY)  ## the virtual environment with the locked dependencies

# Clones may share an environment: its mark holds the lock that it was made from, and one made from this lock is ready.
ifneq ($(shell cmp -s requirements.lock $(READY) && echo same),same)
.PHONY: $(READY)
endif
# One of this clone's own is brought up to another lock; under other clones that is done by `make setup` alone. With
# hashes, so what is installed is what was locked; bytecode now, or every stage's first import pays for it.
$(READY): | requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo 'PYTHON=$(PYTHON): Python 3.11 or newer is needed, as in `PYTHON=python3.11 make setup`' >&2; exit 2; }
	@whose=others; case "$$(cd $(VENV) 2>/dev/null && pwd -P)" in "$$(pwd -P)"/*) whose=own;; esac; \
	if ! test -e $@; then \
	  echo "setting up $(VENV): some 6 GB of packages, once"; \
	elif test $$whose = own || test -n '$(filter setup,$(MAKECMDGOALS))'; then \
	  echo "bringing $(VENV), made from another requirements.lock, up to this one"; \
	else \
	  echo '$(VENV) was made from another requirements.lock, and other clones may need it: `make setup` brings it up' \
	    'to this one, another VENV leaves it as it is' >&2; exit 2; \
	fi
	@rm -f $@ $(VENV)/.reasoning-gym
	@if command -v uv >/dev/null; then \
	  uv venv -q --allow-existing --python $(PYTHON) $(VENV) && \
	  VIRTUAL_ENV='$(abspath $(VENV))' uv pip sync -q --require-hashes --compile-bytecode requirements.lock; \
	else \
	  $(PYTHON) -m venv $(VENV) && \
	  '$(BIN)/python' -m pip install -q --disable-pip-version-check --require-hashes --compile -r requirements.lock; \
	fi
	@cp requirements.lock $@

# An extra with a lock of its own: of what it takes some packages are compiled where they are installed. Without the
# versions it pins for itself, of packages that are locked already.
.PHONY: reasoning-gym
GYM := $(VENV)/.reasoning-gym
reasoning-gym: $(READY)  ## an extra: its tasks as a source of data; takes a C compiler
	@cmp -s reasoning-gym.lock $(GYM) || { \
	  echo "adding reasoning-gym to $(VENV): some 110 MB, once" && \
	  if command -v uv >/dev/null; then \
	    VIRTUAL_ENV='$(abspath $(VENV))' uv pip install -q --require-hashes --no-deps --compile-bytecode -r reasoning-gym.lock; \
	  else \
	    python -m pip install -q --disable-pip-version-check --require-hashes --no-deps --compile -r reasoning-gym.lock; \
	  fi && cp reasoning-gym.lock $(GYM); }
GYM_TESTED = $(MAKE) -s reasoning-gym || echo 'reasoning-gym could not be added: its tests are skipped'

PROFILES := $(sort $(wildcard profiles/*.yaml))
.PHONY: params plan pin profile repro report card verify runs test test-slow lint fix lock
params: $(READY)  ## check params.yaml and print what each trainer gets
	@python -m llmrl.params

plan: $(READY)  ## what `make repro` would run, and its memory, disk and hours, before it starts
	@python -m llmrl.plan

pin: $(READY)  ## write the newest commits of the Hub's repositories into params.yaml, where it has none
	@python -m llmrl.params.pin

# What was another profile is in profiles/; anything else in params.yaml that is not committed would be lost.
profile:  ## another experiment into params.yaml: make profile NAME=qwen2.5-0.5b
	@test -n '$(filter profiles/$(NAME).yaml,$(PROFILES))' || { echo 'profile: NAME=$(NAME) is none of $(basename $(notdir $(PROFILES)))' >&2; exit 2; }
	@git diff --quiet HEAD -- params.yaml || for file in $(PROFILES); do cmp -s $$file params.yaml && exit; done || \
	  { echo 'profile: params.yaml has edits that are not committed: `git commit params.yaml`, or `git checkout params.yaml` drops them' >&2; exit 2; }
	@cp 'profiles/$(NAME).yaml' params.yaml
	@git --no-pager diff --stat HEAD -- params.yaml

repro: $(READY)  ## check the settings, then run whatever is missing or changed
	@python -m llmrl.params >/dev/null
	@dvc repro
	@python -m llmrl.session.checkpoints  # that DVC's cache has made needless

report: $(READY)  ## report.html: what training did, on one page; REV=my-experiment, REV="HEAD~1 my-experiment" compares
	@python -m llmrl.report $(REV)

card: $(READY)  ## a model card for the Hub: make card OF=models/dpo OUT=folder
	@test -n '$(OUT)' || { echo 'card: OUT names the folder to write it into, as in `make card OUT=../card`' >&2; exit 2; }
	@python -m llmrl.report.card $(or $(OF),models/grpo) $(OUT)

verify: $(READY)  ## whether all is what the recorded inputs made; AGAIN=grpo makes that anew, beside, and compares
	@python -m llmrl.lineage.verify $(if $(AGAIN),--again $(AGAIN))

runs: $(READY)  ## the runs there were; OF=models/grpo: which of them, at which commit, made that
	@python -m llmrl.lineage.runs $(OF)

# Two processes of one thread: of two threads each, they would stand in each other's way.
TWO := OMP_NUM_THREADS=1 python -m pytest -q -n 2 --dist loadfile
test: $(READY)  ## the tests, in under ten minutes on two cores
	@$(GYM_TESTED)
	@$(TWO) -m "not slow and not gpu"

# Those that take both cores come last, one after the other. In the order of their names no long file is the last one.
test-slow: $(READY)  ## the tests that take minutes each, as CI runs them
	@$(GYM_TESTED)
	@$(TWO) --no-loadscope-reorder -m "slow and not gpu and not alone"
	@python -m pytest -q -m "slow and not gpu and alone"

lint: $(READY)  ## report what ruff and mypy find
	@ruff check . && ruff format --check . && mypy

fix: $(READY)  ## mend what ruff can
	@ruff check --fix . && ruff format .

# At versions beside which the vLLM that TRL takes can be installed, hence the two passes; needs uv.
LOCK := uv pip compile -q pyproject.toml --group dev --universal --python-version 3.11 --no-header --no-annotate
lock:  ## pin requirements.lock anew, with hashes
	@$(LOCK) --extra vllm -o .lock-with-vllm.txt
	@$(LOCK) --generate-hashes --no-emit-index-url --no-emit-find-links -c .lock-with-vllm.txt -o requirements.lock
	@rm .lock-with-vllm.txt
	@echo 'reasoning-gym>=0.1.25' | uv pip compile -q - --universal --python-version 3.11 --no-header --no-annotate \
	  --generate-hashes --no-emit-index-url --no-emit-find-links \
	  $$(sed -nE 's/^([A-Za-z0-9_.-]+)(\[.*\])?==.*/--no-emit-package \1/p' requirements.lock) -o reasoning-gym.lock
