# Two commands do all the set-up themselves: `make demo` and `make test`.
.PHONY: setup demo test check soak bench bench-peers sanitize clean
MAKEFLAGS += --no-print-directory
python := .venv/bin/python
rooms := migrations loader dedup udfs cpu_backend gpu_backend serving scaling

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

# Every precision beside every fast runtime; goes on where it was stopped.
bench-peers: setup build/bench/installed
	@$(python) -m bench.peers

# The kernels under AddressSanitizer and UBSan: property tests of every variant that this machine has.
sanitizers := -fsanitize=address,undefined -fno-sanitize-recover=undefined
kernel_sources = $(shell $(python) -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['tool']['setuptools']['ext-modules'][0]['sources'])")

sanitize: setup
	@rm -rf build/sanitize && mkdir -p build/sanitize/pageformer/cpu_backend
	@ln -s $(CURDIR)/pageformer/* $(addprefix $(CURDIR)/,$(filter-out cpu_backend,$(wildcard $(rooms)))) build/sanitize/pageformer/
	@cp cpu_backend/*.py build/sanitize/pageformer/cpu_backend/
	@gcc -std=gnu11 -O1 -g -shared -fPIC -pthread $(sanitizers) \
	    -I$$($(python) -c 'import sysconfig; print(sysconfig.get_path("include"))') $(kernel_sources) -lm \
	    -o build/sanitize/pageformer/cpu_backend/_kernels.so
	@LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libubsan.so)" \
	    ASAN_OPTIONS=detect_leaks=0 PYTHONPATH=build/sanitize .venv/bin/pytest \
	    tests/test_cpu_encoder.py tests/test_cpu_layers.py tests/test_cpu_panels.py tests/test_cpu_text.py \
	    tests/test_operators.py tests/test_plain_text.py tests/test_task_layers.py \
	    tests/test_task_run_pass.py $(PYTEST)

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
