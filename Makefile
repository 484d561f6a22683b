# Two commands do everything: `make run` and `make test`. scripts/setup finds a Python 3.11 to 3.14 and says what to
# type where there is none; `make run PYTHON=/path/to/python` names one. `make -s` leaves out what make says.
VENV := .venv
BIN := $(VENV)/bin
export PYTHON

.PHONY: run test check setup setup-dev clean

run: setup
	$(BIN)/emp run --config examples/mock.yaml

test: setup-dev
	$(BIN)/python -m pytest

check: setup-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -W ignore scripts/house.py --check

setup:
	@sh scripts/setup runtime

setup-dev:
	@sh scripts/setup dev

clean:
	rm -rf $(VENV) .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis
