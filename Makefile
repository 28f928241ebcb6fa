# make demo: the main job on a fresh clone.  make test: lint, types, tests.  Both need Python 3.11+ and make only.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --no-compile
ATTAR_DATA ?= $(abspath ../shared/data)
export ATTAR_DATA

.PHONY: demo test lint types unit bench clean

demo: $(VENV)/core
	@rm -rf demo
	$(BIN)/attar distill digits --method dm --ipc 1 --steps 200 --batch 64 --out demo/digits-dm
	$(BIN)/attar evaluate demo/digits-dm --seeds 3 --no-eight-bit
	$(BIN)/attar verify demo/digits-dm
	@echo "the picture: demo/digits-dm/preview.png    the page: demo/digits-dm/report.html"

test: lint types unit

lint: $(VENV)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/dev
	$(BIN)/pyright --pythonpath $(BIN)/python

unit: $(VENV)/dev
	OMP_NUM_THREADS=1 $(BIN)/pytest

# hours: each goes on where it was; rows and tables are then to be committed
bench: $(VENV)/bench
	$(BIN)/python benchmarks/speed.py
	$(BIN)/python benchmarks/memory.py
	$(BIN)/python benchmarks/scale.py
	$(BIN)/python benchmarks/stream.py
	$(BIN)/python benchmarks/choosing.py
	$(BIN)/python benchmarks/selection.py
	$(BIN)/python benchmarks/params.py
	$(BIN)/python benchmarks/matching.py
	$(BIN)/python benchmarks/compared.py
	$(BIN)/python benchmarks/active.py
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/detection.py
	$(BIN)/python benchmarks/fidelity.py
	$(BIN)/python benchmarks/tables.py
	$(BIN)/python benchmarks/pictures.py
	$(BIN)/python docs/pages.py

# torch first and pinned: a range would bring another build; then the package's own needs
$(VENV)/core: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(PIP) torch==2.13.0
	$(PIP) --editable .
	@touch $@

# groups are known to newer versions of pip only
$(VENV)/dev: $(VENV)/core
	$(PIP) --upgrade pip
	$(PIP) --group dev
	@touch $@

$(VENV)/bench: $(VENV)/dev
	$(PIP) --group bench
	@touch $@

clean:
	rm -rf $(VENV) demo
