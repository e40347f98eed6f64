"""What all tests share."""

from __future__ import annotations

import contextlib
import gc
import os
import sys
from collections.abc import Callable, Iterator
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any

import keras_process
import pytest
from hypothesis import settings
from once import Once, shared_folder
from order import slowest_first
from tiers import mark_what_a_design_leaves

from thinned import _kernel

# Garbage is looked for from the first test on, and not among what stands for the whole run: frameworks and
# thousands of tests. Of 110 s of a worker that took ten.
gc.disable()

FRAMEWORKS = ("equinox", "flax", "jax", "keras", "tensorflow", "torch", "triton")


class Finder(PathFinder):
    """Finds no folder of tests in place of a framework that is not installed: tests/torch is no torch.

    An entry None in `sys.modules` would be taken for a torch that is loaded: SciPy looks there.
    """

    @classmethod
    def find_spec(cls, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        found = super().find_spec(name, path, target)
        return None if name in FRAMEWORKS and found is not None and found.origin is None else found


sys.meta_path[:] = [Finder if each is PathFinder else each for each in sys.meta_path]

# Torch's threads sleep while they wait: spinning, they take the core of the other worker of pytest, and small
# networks took five times the processor's time. Read when torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Triton 3.7 ends the process where TensorFlow 2.21 is imported before it; torch's compiler imports it. A
# child that has Keras on TensorFlow, and compiles nothing by torch, comes here too late.
if "tensorflow" not in sys.modules:
    with contextlib.suppress(ImportError):
        import triton  # noqa: F401

# Eight devices for the tests of meshes; JAX reads this when it first looks for devices. Code in one piece,
# not in many to be compiled side by side.
# A worker's and a child's environment has them already. Said twice they would be other options, and a program
# that XLA keeps would be found by no other process.
XLA = ["--xla_force_host_platform_device_count=8", "--xla_cpu_parallel_codegen_split_count=1"]
FLAGS = os.environ.get("XLA_FLAGS", "").split()
os.environ["XLA_FLAGS"] = " ".join([*FLAGS, *(flag for flag in XLA if flag not in FLAGS)])
# Compiled code is kept from one process and one run to the next, XLA's and that of torch's compiler.
# Programs of XLA are found by their text, version and options, and call our kernel by name. A file that
# another process is still writing fails its checksum: JAX then warns, which pyproject.toml lets pass, and
# compiles.
CACHES = Path(__file__).parents[1] / ".pytest_cache"
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(CACHES / "jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(CACHES / "inductor"))
# Within this process: the pool that torch would start has nothing to do where each core has a worker.
os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")
# A processor that says what it has is believed: else a process imports torch, and tries it, for each set
# of instructions. With an empty cache one function then takes 20 s of a processor instead of 40.
os.environ.setdefault("TORCHINDUCTOR_VEC_ISA_OK", "1")
# TensorFlow's notes on what it was built with.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

# Examples are drawn afresh in every run but reproducible from the printed blob; no example is timed.
settings.register_profile("thinned", deadline=None, print_blob=True, max_examples=60)
settings.load_profile("thinned")


@pytest.hookimpl(tryfirst=True)  # before pytest's own hook, which deselects by marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tiers, and the order of files."""
    mark_what_a_design_leaves(items)
    slowest_first(items)


def pytest_collection_finish() -> None:
    """Whatever there is now stays."""
    gc.freeze()
    gc.enable()


@pytest.fixture(params=_kernel.paths())
def path(request: pytest.FixtureRequest) -> Iterator[str]:
    """Every code path that this machine has, the NumPy reference included."""
    before = _kernel.path()
    _kernel.select(request.param)
    yield request.param
    _kernel.select(before)


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    """One thread and two."""
    before = _kernel._threads
    _kernel.set_num_threads(request.param)
    yield request.param
    _kernel._threads = before


@pytest.fixture
def one_thread() -> Iterator[None]:
    """torch works with one thread."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=["float32", "float64", "float16", "bfloat16"])
def dtype_name(request: pytest.FixtureRequest) -> str:
    """The four element types."""
    return str(request.param)


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Once:
    """Results that all processes of this run share: each is computed by the first that asks."""
    return Once(shared_folder(tmp_path_factory))


@pytest.fixture(scope="session")
def on_keras(once: Once, request: pytest.FixtureRequest) -> Callable[[str], dict[str, Any]]:
    """By the name of a backend, what its process did with the suites of which tests were collected."""
    files = {item.path for item in request.session.items}
    suites = [s for s in keras_process.SUITES if Path(__file__).parent / s.test in files]
    marks = request.config.option.markexpr

    def examined(backend: str) -> dict[str, Any]:
        return once(f"keras-{backend}", lambda: keras_process.examined(backend, suites, marks))

    return examined
