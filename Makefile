.DEFAULT_GOAL := help
.PHONY: help install test quick coverage mutation device lint format types run docs dist oldest newest benchmarks

help:  ## list the commands
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | column -t -s "$$(printf '\t')"

install:  ## install the package with everything that developing it needs
	pip install -e '.[dev]' && pre-commit install

test:  ## run all tests
	pytest

quick:  ## run the tests that take less than ten seconds each
	pytest -m 'not slow'

coverage:  ## run all tests, and print which lines of the package they do not reach
	pytest --cov

mutation:  ## put small mistakes into edits and rewrites, and count those that tests notice; 45 minutes
	pip install -q -e '.[dev]' && python -m tests.mutation

device:  ## run every command, in miniature, on a CUDA device that computes on the CPU
	python -m tests.fake_cuda.miniatures

lint:  ## look for mistakes and unformatted code
	ruff check . && ruff format --check .

format:  ## mend what can be mended by itself
	ruff check --fix . && ruff format .

types:  ## check the types
	mypy

run:  ## the default run: train twice on digits, edit, compare
	python train.py

docs:  ## build the site of docs/ into runs/site
	pip install -q -e '.[docs]' && NO_MKDOCS_2_WARNING=1 mkdocs build --strict

dist:  ## build the wheel and the archive of the sources into dist/, and check them
	pip install -q -e '.[release,test]' && python -m build --no-isolation && twine check --strict dist/*

oldest:  ## run the tests with the oldest versions that pyproject.toml allows
	python -m venv runs/oldest && runs/oldest/bin/pip install -q uv
	runs/oldest/bin/uv pip install -q --python runs/oldest --resolution lowest-direct -e '.[test]'
	runs/oldest/bin/python -m pytest -W default --ignore=tests/test_style.py  # whose tools are to be the newest

newest:  ## run the tests with the newest versions that can be had
	python -m venv runs/newest && runs/newest/bin/pip install -q -U --upgrade-strategy eager -e '.[test]'
	runs/newest/bin/python -m pytest

benchmarks:  ## measure speed and memory against the naive procedures; half an hour
	for row in exact fastest sampled extra-layer; do python benchmarks/drawdown.py $$row; done
	python benchmarks/training_step.py && python benchmarks/training_step.py --memory
	python benchmarks/unroll.py && python benchmarks/growth.py && python benchmarks/roofline.py
	python benchmarks/rewriting.py && python benchmarks/device.py
