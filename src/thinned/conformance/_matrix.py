"""The matrix runs each backend in its own process."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import Final, NamedTuple

from thinned._installed import missing
from thinned._process import answer
from thinned.conformance._case import DEVICES, MODES, SHARDS, Cell, NotRun, digest

# The devices of a mesh that JAX divides an array over; it reads this when it first looks for devices.
_FOUR_DEVICES = {"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}


class _Backend(NamedTuple):
    module: str
    packages: tuple[str, ...]
    environment: Mapping[str, str]
    function: str = "mask"


_BACKENDS: Final = {
    "NumPy": _Backend("_on_numpy", (), {}),
    "PyTorch": _Backend("_on_torch", ("torch",), {}),
    "PyTorch, DTensor": _Backend("_on_torch", ("torch",), {}, "mask_of_dtensor"),
    "PyTorch, Triton interpreted": _Backend(
        "_on_torch", ("torch", "triton"), {"TRITON_INTERPRET": "1"}, "mask_by_triton"
    ),
    "JAX": _Backend("_on_jax", ("jax",), _FOUR_DEVICES),
    "TensorFlow": _Backend("_on_tensorflow", ("tensorflow",), {}),
    **{
        f"Keras on {title}": _Backend("_on_keras", ("keras", package), {"KERAS_BACKEND": package})
        for title, package in {"PyTorch": "torch", "JAX": "jax", "TensorFlow": "tensorflow"}.items()
    },
}

BACKENDS: Final = tuple(_BACKENDS)


def matrix(
    backends: Iterable[str] = BACKENDS, report: Callable[[str], None] = lambda backend: None
) -> list[Cell]:
    """The digest of one mask on every backend.

    Args:
        backends: of `BACKENDS`.
        report: called with each backend's name when it is done.

    Returns:
        A cell for each backend, device, mode and number of shards; those that could not be run say why.

    Raises:
        KeyError: for a backend that is none.
        RuntimeError: what a backend's process said, where it failed.

    Source:
        CONTRACT.md, section 3: one mask on every backend.

    Example:
        >>> from thinned.conformance import EXPECTED
        >>> {cell.digest == EXPECTED for cell in matrix(["NumPy"]) if cell.digest}
        {True}
    """
    found = []
    for name in backends:
        found += _elsewhere(name)
        report(name)
    return found


def _elsewhere(name: str) -> list[Cell]:
    backend = _BACKENDS[name]
    if lacking := missing(backend.packages):
        return list(_not_run(name, lacking))
    cells = answer(__name__, f"the masks of {name}", name, **backend.environment)
    return [Cell(**cell) for cell in cells]


def _not_run(name: str, reason: str) -> Iterator[Cell]:
    for device in DEVICES:
        for mode in MODES:
            yield from (Cell(name, device, mode, shards, reason=reason) for shards in SHARDS)


def _cells(name: str) -> Iterator[Cell]:
    backend = _BACKENDS[name]
    make = getattr(importlib.import_module(f"thinned.conformance.{backend.module}"), backend.function)
    for device in DEVICES:
        for mode in MODES:
            for shards in SHARDS:
                try:
                    yield Cell(name, device, mode, shards, digest(make(device, mode == "compiled", shards)))
                except NotRun as reason:
                    yield Cell(name, device, mode, shards, reason=str(reason))


def main() -> None:
    """Gives what the process does."""
    print(json.dumps([asdict(cell) for cell in _cells(sys.argv[1])]))
