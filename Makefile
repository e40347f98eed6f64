# make demo   sets everything up, trains a few small networks and writes thinned-report.html
# make test   sets everything up, then lint, types and all tests
# Both need Python 3.11 or later and, for the native kernel, a C++17 compiler; nothing else.

PYTHON ?= $(firstword $(shell command -v python3.11 python3 python))
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt
BUILT := .venv/.built

.PHONY: demo test lint bench pictures fuzz native-test sanitize clean

demo: $(BUILT)
	$(BIN)/thinned demo

test: lint
	$(BIN)/python -m pytest --numprocesses 2 --dist worksteal

lint: $(BUILT)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(BUILT)
	$(BIN)/thinned bench --out benchmarks/results.json --out benchmarks/results.md

pictures: $(BUILT)
	$(BIN)/python docs/torch/pictures.py

# Python sources are installed in place: only what the build reads makes it run again.
$(BUILT): pyproject.toml constraints.txt CMakeLists.txt $(wildcard native/*)
	$(PYTHON) -m venv .venv
	$(PIP) scikit-build-core nanobind cmake ninja
	$(PIP) --no-build-isolation --editable '.[dev]'
	@touch $@

# A hundred thousand random cases against the contract, others each time; SEED=n for those of before.
fuzz: $(BUILT)
	$(BIN)/python tests/fuzz/run.py --cases 100000 $(if $(SEED),--seed $(SEED))

# The kernel without Python: its own test, plain and under the sanitizers.
native-test: $(BUILT)
	$(BIN)/cmake -S . -B build/selftest -DTHINNED_SELFTEST=ON
	$(BIN)/cmake --build build/selftest
	build/selftest/thinned_selftest

sanitize: $(BUILT)
	$(BIN)/cmake -S . -B build/sanitize -DTHINNED_SELFTEST=ON -DTHINNED_SANITIZE=address,undefined
	$(BIN)/cmake --build build/sanitize
	build/sanitize/thinned_selftest 60
	$(BIN)/cmake -S . -B build/threads -DTHINNED_SELFTEST=ON -DTHINNED_SANITIZE=thread
	$(BIN)/cmake --build build/threads
	build/threads/thinned_selftest 30

clean:
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis thinned-report.html
