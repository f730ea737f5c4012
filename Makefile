# `make demo` and `make test` set up what they need in .venv; `make lint` too.
PYTHON ?= python3
PIP := .venv/bin/python -m pip --disable-pip-version-check
KERNELS := CMakeLists.txt pyproject.toml $(shell find src/fdsl/kernels -type f)

.PHONY: demo test lint clean

demo: .venv/train.stamp
	.venv/bin/fdsl demo

test: .venv/test.stamp
	.venv/bin/python -m pytest -n 2

lint: .venv/test.stamp .venv/lint.stamp
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/clang-format --dry-run --Werror $$(find src/fdsl/kernels tests -name '*.h' -o -name '*.cpp' -o -name '*.cu')

.venv/bin/python:
	@.ci/make-venv $(PYTHON) .venv

# Editable, so that Python changes need no reinstall; a change of a kernel reinstalls.
.venv/train.stamp .venv/test.stamp: .venv/%.stamp: .venv/bin/python $(KERNELS)
	$(PIP) install --quiet --progress-bar on --editable '.[$*]'
	@touch $@

.venv/lint.stamp: .venv/bin/python pyproject.toml
	$(PIP) install --quiet 'ruff>=0.9' 'mypy>=1.14' 'clang-format>=19'
	@touch $@

clean:
	rm -rf .venv build
