# make demo       sets up what it needs, trains a few small networks and writes thinned-report.html
# make docs       builds the documentation site, build/docs/site
# make test       sets everything up, then lint, types and the quick tier of the tests
# make test-all   the same with every test; the last line says how long it took
# make test FRAMEWORK=torch    sets up that framework alone, then its tests, the contract's and the kernel's
# All need Python 3.11 or later and, for the native kernel, a C++17 compiler; nothing else. uv, where it is found,
# does what pip does otherwise.

PYTHON ?= $(firstword $(shell command -v python3.11 python3 python))
WORKERS ?= 2
BIN := .venv/bin
BUILT := .venv/.built
DEMO := .venv/.demo
# Compiled modules are written, whatever the environment says: a run has twenty processes, of which each would compile
# our sources, rewrite the tests' assertions, and in a new environment compile the frameworks too.
export PYTHONDONTWRITEBYTECODE :=
# Files go to workers whole, in the order of tests/support/order.py.
PYTEST := $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder

ifneq ($(shell command -v uv),)
VENV := uv venv --quiet --allow-existing --python $(PYTHON) .venv
PIP := uv pip install --python $(BIN)/python --quiet --constraint constraints.txt
# pip's folder of packages.
ifdef PIP_FIND_LINKS
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)
endif
else
VENV := $(PYTHON) -m venv .venv
# Of twenty thousand modules a run imports a few thousand: each is compiled then, as uv has it too.
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --no-compile --constraint constraints.txt
endif

# Each front end's extras and folders of tests, for `make test FRAMEWORK=…`.
EXTRAS_numpy := check
EXTRAS_torch := check,torch
EXTRAS_jax := check,jax
EXTRAS_flax := check,flax
EXTRAS_equinox := check,equinox
EXTRAS_tensorflow := check,keras
EXTRAS_keras := check,keras,torch
ALSO_tensorflow := tensorflow-cpu
FOLDERS_numpy :=
FOLDERS_torch := torch distributed
FOLDERS_jax := jax
FOLDERS_flax := jax flax
FOLDERS_equinox := jax equinox
FOLDERS_tensorflow := tensorflow
FOLDERS_keras := keras
FOLDERS := $(addprefix tests/,contract kernel numpy $(FOLDERS_$(FRAMEWORK)))

.PHONY: demo docs test test-all ruff lint compat install-table stranger cross-wheels sabotage fuzz bench gpu pictures native-test sanitize clean

demo: $(DEMO)
	$(BIN)/thinned demo

ifdef FRAMEWORK
ifndef EXTRAS_$(FRAMEWORK)
$(error FRAMEWORK must be numpy, torch, jax, flax, equinox, tensorflow or keras, got $(FRAMEWORK))
endif
test: .venv/.$(FRAMEWORK)
	$(PYTEST) -m "not full" $(FOLDERS)
else
test: ruff
	$(call beside_types,$(PYTEST) -m "not full")
endif

test-all: ruff
	$(call beside_types,$(PYTEST) --durations 20)

# The tests, and mypy beside them: the first time, without its cache, it reads all the frameworks' types. What it says
# comes last; either of the two fails the target.
define beside_types
@mkdir -p .mypy_cache; $(BIN)/mypy >.mypy_cache/said 2>&1 & types=$$!; \
echo '$(1)'; $(1); tests=$$?; \
wait $$types; types=$$?; echo "mypy: $$(cat .mypy_cache/said)"; \
[ $$tests -eq 0 ] && [ $$types -eq 0 ]
endef

ruff: $(BUILT)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

lint: ruff
	$(BIN)/mypy

# Breaks the code in some sixty places, one after another: each has to turn a test of the quick tier red.
sabotage: $(BUILT)
	$(BIN)/python tests/sabotage/run.py

# An environment for the oldest and the newest version of each framework, one after another: half an hour, gigabytes
# of downloads. It writes docs/compatibility.md; WORDS chooses rows, as in make compat WORDS="jax newest".
compat:
	$(PYTHON) tests/compat/run.py $(WORDS)

# A fresh environment for each extra: time, size, packages, and whether its documented command works, in docs/install.md.
install-table:
	$(PYTHON) tests/compat/extras.py $(WORDS)

bench: $(BUILT)
	$(BIN)/thinned bench --out benchmarks/results.json --out benchmarks/results.md

# Everything that a machine with a GPU has to show, in eight minutes; DRY=1 shows on any machine that it runs.
gpu: .venv/.torch
	$(BIN)/python benchmarks/gpu/run.py $(if $(DRY),--dry --into build/gpu)

# The documentation site, build/docs/site: a warning or a link that leads nowhere fails the target. It has an
# environment of its own and imports no framework.
docs: .venv-docs/.built
	.venv-docs/bin/python docs/_site/build.py
	.venv-docs/bin/python docs/_site/check.py

.venv-docs/.built: pyproject.toml constraints.txt
	$(subst .venv,.venv-docs,$(VENV))
	$(subst .venv/,.venv-docs/,$(PIP)) $$($(PYTHON) -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["docs"])')
	@touch $@

# A stranger's path in a fresh folder from a wheel: the pages' examples, a run that is killed and resumed, and scripts
# of each framework. Some minutes, gigabytes of downloads.
stranger:
	$(PYTHON) tests/stranger/run.py $(WHEEL)

# Wheels for musl, aarch64, macOS, Windows and an old glibc, made on this machine by the compiler of the package ziglang,
# and examined; their tests run where qemu-user or wine does. An hour the first time; WORDS chooses, as in WORDS=macos.
cross-wheels: .venv-cross/.built
	PYTHONPATH=tests/compat .venv-cross/bin/python tools/wheels/cross.py $(WORDS)

.venv-cross/.built: pyproject.toml
	$(subst .venv,.venv-cross,$(VENV))
	$(subst .venv/,.venv-cross/,$(PIP)) pip wheel cmake ninja scikit-build-core nanobind hatch-fancy-pypi-readme ziglang lief
	@touch $@

pictures: $(BUILT)
	$(BIN)/python docs/torch/pictures.py

# Python sources are installed in place: only what the build reads makes it run again. What a lighter environment
# has, the whole one has too.
SOURCES := pyproject.toml constraints.txt CMakeLists.txt $(wildcard native/*)

# The kernel is compiled while packages are brought: the first takes both processors a minute, the second waits for the
# disk and the network. The last line finds it made.
define install
$(VENV)
$(PIP) scikit-build-core nanobind hatch-fancy-pypi-readme cmake ninja
$(PYTHON) .ci/requirements.py $(1) >.venv/.asked
$(BIN)/python -c 'import scikit_build_core.build as b; b.build_editable(".venv")' >.venv/.kernel 2>&1 & \
$(PIP) --requirement .venv/.asked $(2); packages=$$?; wait; exit $$packages
$(PIP) --no-build-isolation --no-deps --editable .
@touch $@
endef

$(BUILT): $(SOURCES)
	$(call install,dev)
	@touch $(DEMO)

$(DEMO): $(SOURCES)
	$(call install,demo)

.venv/.%: $(SOURCES)
	$(call install,$(EXTRAS_$*),$(ALSO_$*))

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
	rm -rf .venv .venv-docs .venv-cross build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis thinned-report.html
