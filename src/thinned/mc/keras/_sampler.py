"""A first pass finds the model's sites here; chunks of samples follow."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import ops, tree

from thinned.contract import UInt64s
from thinned.mc import _chunks, _keys
from thinned.mc.keras import _patching, _program
from thinned.mc.keras._backend import active
from thinned.mc.keras._draws import Draws, StochasticCall

# Of the bytes of all layers' outputs, as if none were freed: what is computed within a layer comes on top.
_WITHIN = 2
_ELEMENT = 4  # bytes of what a site gives


class Sampler:
    """A model's two parts, compiled, and what a first pass over one input has found.

    Args:
        model: a Keras model.
        x: one input.
        shared: whether a sample has one network for all inputs.
    """

    def __init__(self, model: Any, x: Any, shared: bool) -> None:
        self.model, self.shared, self._structure = model, shared, x
        if not model.built:
            with active.quiet():
                model(x, training=False)
        self._draws = Draws()
        self.program, self._bytes = self._look(x)
        self._draws.expected = self.sites = list(self._draws.found)
        self._front = active.compiled(self._in_front)
        self._backs: dict[_chunks.Size, Callable[..., Any]] = {}

    def _look(self, x: Any) -> tuple[Any, tuple[int, int]]:
        """The program, and the bytes of one input's front part and of one sample of it."""
        for program in (_program.program(self.model), _program.Whole(self.model)):
            self.program = program
            found: list[int] = []
            active.look(self._first_pass, found, x)
            early, *sizes = found
            if not early:  # else something draws that is no layer of a known kind
                break
        return program, (sizes[0], sizes[1])

    def _first_pass(self, found: list[int], x: Any) -> None:
        """Runs both parts; returns how many sites the first one had, and the bytes."""
        self._draws.look()
        with _patching.watched(self.model) as seen:
            parts = self._in_front([], x)
            before, early = sum(seen), len(self._draws.found)
            out = self._at_back([], parts)
        if not ops.is_tensor(out):
            raise TypeError(f"model must give one tensor, got {tree.map_structure(type, out)}")
        sizes = [int(np.prod(site.shape)) for site in self._draws.found if site.shape]
        between = sum(_patching.size(part) for part in parts if part is not None)
        after = sum(seen) - before + _ELEMENT * sum(sizes)
        of_sample = _WITHIN * after + between + max(sizes, default=0) * active.BYTES + _patching.size(out)
        found.extend((early, _WITHIN * before + between, of_sample))

    def fit(self, size: _chunks.Size, memory: int) -> _chunks.Size:
        """A chunk that the memory allows, and that the sites do."""
        kinds = {site.kind for site in self.sites if site.shape is None}
        if kinds:  # one key at a time: for the batch, or where rows differ by their place in it for one row
            size = _chunks.Size(1, size.rows if self.shared and kinds == {"DropConnect"} else 1)
        while True:
            used = size.rows * (self._bytes[0] + size.samples * self._bytes[1])
            smaller = size.fitting(used, memory)
            if smaller == size:
                return size
            size = smaller

    def block(self, x: Any, size: _chunks.Size, seed: int) -> Callable[[UInt64s], npt.NDArray[Any]]:
        """A function that draws samples of these inputs."""
        parts: list[Any] = []
        values = active.values(self.model.variables)
        x = tree.map_structure(ops.convert_to_tensor, x)

        def run(streams: UInt64s) -> npt.NDArray[Any]:
            numbers = np.arange(len(self.sites)).reshape(-1, 1)
            keys = active.keys(_keys.pairs(seed, _keys.fold(seed, streams.reshape(1, -1), numbers)))
            with active.quiet():
                if not parts:
                    parts.extend(self._front(values, x))
                out = self._back(size)(values, parts, keys)
            whole = np.asarray(ops.convert_to_numpy(out))
            return whole.reshape(size.samples, size.rows, *whole.shape[1:])

        return run

    def _back(self, size: _chunks.Size) -> Callable[..., Any]:
        if size not in self._backs:
            count, rows = (size.samples, size.rows) if self.shared else (size.samples * size.rows, 1)

            def back(values: Any, parts: list[Any], keys: Any) -> Any:
                self._draws.begin(keys, count, rows)
                tiled = [None if part is None else _tiled(part, size.samples) for part in parts]
                return self._at_back(values, tiled)

            self._backs[size] = active.compiled(back)
        return self._backs[size]

    def _in_front(self, values: Any, x: Any) -> Any:
        with self._taken(values):
            return self.program.front(x)

    def _at_back(self, values: Any, parts: list[Any]) -> Any:
        with self._taken(values):
            out = self.program.back(parts, self._structure)
            self._draws.end()
            return out

    @contextmanager
    def _taken(self, values: Any) -> Iterator[None]:
        """The model's layers taken over, on these values of its variables, none of which change."""
        variables = self.model.variables if values else []
        state = list(zip(variables, values, strict=True))
        with keras.StatelessScope(state_mapping=state), _patching.patched(self.model, self._draws):
            yield


def _tiled(part: Any, times: int) -> Any:
    """Repeats along the batch, with the mask that Keras may have put on it."""
    copies = ops.broadcast_to(part[None], (times, *part.shape))
    return ops.reshape(copies, (-1, *part.shape[1:]))


def silence(model: Any, sites: list[StochasticCall]) -> str:
    """Tells why all samples are equal."""
    if sites:
        listed = ", ".join(f"{n}: {site.kind} {site.name!r}, {site.p:.6g}" for n, site in enumerate(sites))
        return (
            f"all samples are equal, although {len(sites)} sites drew ({listed}): the output does not depend "
            "on what they drop, or they drop too little for these samples"
        )
    known = [layer for layer in _patching.layers(model) if _patching.stochastic(layer)]
    others = [
        layer
        for layer in _patching.layers(model)
        if layer not in known and hasattr(layer, "seed_generator") and not getattr(layer, "rate", 0)
    ]
    reasons = [
        f"{layer.name!r} was not called: the model asks for training=True first" for layer in known
    ] + [
        f"{layer.name!r} ({type(layer).__name__}) draws in a way of its own, and stayed in evaluation"
        for layer in others
    ]
    return "all samples are equal: " + (
        "; ".join(reasons) or "the model has no stochastic layer of a rate above 0"
    )
