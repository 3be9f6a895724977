# Two commands do all the set-up themselves: `make demo` and `make test`.
.PHONY: setup demo test check soak bench clean
MAKEFLAGS += --no-print-directory
python := .venv/bin/python
rooms := migrations loader dedup udfs cpu_backend gpu_backend serving

demo: setup
	@.venv/bin/pageformer demo

setup:
	@./setup.sh

test: setup
	@$(python) -m pytest -m "not soak"

# The whole gate: style, types, and every test (test_imports holds the direction of imports).
check: setup build/types
	$(python) -m ruff check .
	$(python) -m mypy build/types/pageformer
	$(python) -m pytest -m "not soak"

soak: setup
	@$(python) -m pytest -m soak

bench: setup build/bench/installed
	@$(python) -m bench

# The peers and their libraries stand in an environment of their own.
build/bench/installed: bench/requirements.txt
	@$(python) -m venv build/bench
	@build/bench/bin/pip install --quiet --requirement bench/requirements.txt
	@touch $@

# Type checkers do not know setuptools' package-dir: show them the rooms as one package of links.
build/types: setup
	@rm -rf build/types && mkdir -p build/types/pageformer
	@ln -s $(CURDIR)/pageformer/* $(addprefix $(CURDIR)/,$(wildcard $(rooms))) build/types/pageformer/

# What these commands made: the demo's data, the environment, build output. System packages stay.
clean:
	@if [ -x .venv/bin/pageformer ]; then .venv/bin/pageformer demo --remove; fi
	@rm -rf .venv build dist *.egg-info cpu_backend/*.so .mypy_cache .pytest_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -prune -exec rm -rf {} +
