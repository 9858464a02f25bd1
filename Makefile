# Two commands: `make demo` and `make test`. Each makes .venv first; a second run is quick.
PYTHON ?= python3
BIN := .venv/bin
TEST := $(BIN)/python -m pytest -n 2 --dist worksteal
# Compiling all 16,000 files at once takes a minute; Python compiles what it imports.
PIP := $(BIN)/python -m pip --disable-pip-version-check install -q --no-compile -c constraints.txt

.PHONY: demo test coverage lint clean

demo: .venv/train.done
	$(BIN)/m2cnn demo --out demo

test: .venv/test.done lint
	$(TEST)

# Apart: tracing every line makes the ONNX exporter, and with it the suite, half as slow again.
coverage: .venv/test.done
	$(TEST) --cov --cov-report=term:skip-covered --cov-fail-under=90

lint: .venv/test.done
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/ruff format --check src tests benchmarks

clean:
	rm -rf .venv demo

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/train.done: pyproject.toml constraints.txt | .venv/bin/python
	$(PIP) -e '.[train]'
	touch $@

.venv/test.done: pyproject.toml constraints.txt | .venv/bin/python
	$(PIP) -e '.[test]'
	touch $@ .venv/train.done
