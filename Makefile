# Two commands: `make demo` and `make test`. Each makes .venv first; a second run is quick.
PYTHON ?= python3
BIN := .venv/bin
TEST := $(BIN)/python -m pytest -n 2 --dist worksteal
# Half of the time of an installation is gone with uv. Of pip's settings it is told the index alone; where that does not
# do, pip installs. Compiling 16,000 files ahead takes a minute; Python compiles what it imports.
PIP := $(BIN)/python -m pip --disable-pip-version-check install -q --no-compile
INDEX = $${UV_DEFAULT_INDEX:-$${PIP_INDEX_URL:-$$($(BIN)/python -m pip config get global.index-url 2>/dev/null)}}
INSTALL = $(PIP) -c constraints.txt uv && UV_DEFAULT_INDEX="$(INDEX)" $(BIN)/uv pip install -q --python $(BIN)/python -c constraints.txt \
	-e '.[$1]' || $(PIP) -c constraints.txt -e '.[$1]'

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
	$(call INSTALL,train)
	touch $@

.venv/test.done: pyproject.toml constraints.txt | .venv/bin/python
	$(call INSTALL,test)
	touch $@ .venv/train.done
