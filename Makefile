.DEFAULT_GOAL := help
.PHONY: help install test quick lint format types run benchmarks

help:  ## list the commands
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | column -t -s "$$(printf '\t')"

install:  ## install the package with everything that developing it needs
	pip install -e '.[dev]' && pre-commit install

test:  ## run all tests
	pytest

quick:  ## run the tests that take less than ten seconds each
	pytest -m 'not slow'

lint:  ## look for mistakes and unformatted code
	ruff check . && ruff format --check .

format:  ## mend what can be mended by itself
	ruff check --fix . && ruff format .

types:  ## check the types
	mypy

run:  ## the default run: train twice on digits, edit, compare
	python train.py

benchmarks:  ## measure speed and memory against the naive procedures
	python benchmarks/unroll.py && python benchmarks/drawdown.py
