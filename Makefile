# Two commands do everything: `make run` and `make test`. scripts/setup finds a Python 3.11 to 3.14 and says what to
# type where there is none; `make run PYTHON=/path/to/python` names one. `make -s` leaves out what make says.
VENV := .venv
BIN := $(VENV)/bin
export PYTHON

.PHONY: run test check setup setup-dev clean

run: setup
	$(BIN)/emp run --config examples/mock.yaml

# Two cores take a file of tests each, eight or more take four: tests of real time must not stand in each other's way.
CORES := $(shell getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1)
WORKERS := $(shell [ $(CORES) -lt 2 ] && echo 0 || { [ $(CORES) -lt 8 ] && echo 2 || echo 4; })

# A few minutes of long drills are left out, which one line says: `make test LONG=1` runs them too, as .ci/run does.
LONG ?= 0

test: setup-dev
	LONG=$(LONG) OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

check: setup-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -W ignore scripts/house.py --check
	$(BIN)/python -W ignore scripts/settings.py --check

setup:
	@sh scripts/setup runtime

setup-dev:
	@sh scripts/setup dev

clean:
	rm -rf $(VENV) .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis
