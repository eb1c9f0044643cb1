# Two commands on a fresh machine: `make train` and `make test`. Both set up .venv on first use.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: help setup train test test-all lint lock clean

help:
	@echo "make train     set up on first use, then Faster R-CNN on two devices, on shelf photos rendered here"
	@echo "make test      the default test suite (minutes, no GPU, no network)"
	@echo "make test-all  the slow tests too"
	@echo "make lint      style"
	@echo "make clean     remove caches (not .venv, not logs)"

setup: $(READY)

$(READY): pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or newer is needed; $$($(PYTHON) --version) was found. Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c requirements.lock -e '.[dev]'
	@touch $(READY)

train: $(READY)
	$(BIN)/python train.py experiment=faster_rcnn_shelf_quick trainer.devices=2

# Files in parallel, one thread each; tests/conftest.py says how many.
test: $(READY)
	$(BIN)/python -m pytest -n auto --dist loadgroup

test-all: $(READY)
	$(BIN)/python -m pytest -m 'slow or not slow'

lint: $(READY)
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

lock: $(READY)
	@{ sed -n '/^#/p' requirements.lock; $(BIN)/python -m pip freeze --exclude-editable; } > requirements.lock.new
	@mv requirements.lock.new requirements.lock

clean:
	rm -rf .cache .pytest_cache .ruff_cache
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
