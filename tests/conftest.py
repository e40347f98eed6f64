"""What all tests share."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator

import pytest
from hypothesis import settings

from thinned import _kernel

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
XLA = ["--xla_force_host_platform_device_count=8", "--xla_cpu_parallel_codegen_split_count=1"]
os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *XLA]).strip()
# TensorFlow's notes on what it was built with.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

# Examples are drawn afresh in every run but reproducible from the printed blob; no example is timed.
settings.register_profile("thinned", deadline=None, print_blob=True, max_examples=60)
settings.load_profile("thinned")


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


@pytest.fixture(params=["float32", "float64", "float16", "bfloat16"])
def dtype_name(request: pytest.FixtureRequest) -> str:
    """The four element types."""
    return str(request.param)
