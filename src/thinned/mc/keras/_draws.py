"""The sites of a pass draw here for many keys at once, in the order in which they are reached."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from thinned._arguments import DROP_ALL
from thinned.contract import check_probability, inverse_scale, keep_probability, threshold
from thinned.keras._dropout import _affine
from thinned.mc.keras._backend import active


class StochasticCall(NamedTuple):
    """A stochastic call.

    Attributes:
        name: the layer's.
        kind: what it does.
        p: drop probability, or the standard deviation of noise.
        shape: of what one example gives it; None where that has no examples, as a kernel.
    """

    name: str
    kind: str
    p: float
    shape: tuple[int, ...] | None


class Draws:
    """The numbering of a pass's sites, and their keys.

    A first pass finds the sites; those after it are held to them.
    """

    def __init__(self) -> None:
        self.look()

    def look(self) -> None:
        """Start a first pass: of one example, and by one key for all sites."""
        self.expected: list[StochasticCall] | None = None
        self.begin(active.keys(np.zeros((1, 1, 2), np.int64)), 1, 1)

    def begin(self, keys: Any, count: int, rows: int) -> None:
        """Start a pass: keys of the sites, so many for each, and so many rows of the batch for each key."""
        self.found: list[StochasticCall] = []
        self._keys, self._count, self._rows = keys, count, rows

    def end(self) -> None:
        """Finish it: every site was reached."""
        if self.expected is not None and len(self.found) != len(self.expected):
            raise RuntimeError(self._other(f"only {len(self.found)}"))

    def next(self, name: str, kind: str, p: float, shape: tuple[int, ...] | None) -> tuple[Any, Any]:
        """The keys of the next site, and the shape (keys, rows, …) of what they drop."""
        n = len(self.found)
        if shape is None and self._count != 1:
            raise RuntimeError(f"{kind} {name!r} has one mask for a batch: it takes one key at a time")
        if shape is not None and (not shape or shape[0] % (self._count * self._rows)):
            raise ValueError(self._mixed(name, shape))
        each = None if shape is None else (shape[0] // (self._count * self._rows), *shape[1:])
        self.found.append(StochasticCall(name, kind, p, each))
        if self.expected is None:
            keys = self._keys[0]
        elif n >= len(self.expected):
            raise RuntimeError(self._other("more"))
        else:
            if self.expected[n].shape != each:
                raise ValueError(self._mixed(name, shape))
            keys = self._keys[n]
        return keys, None if each is None else (self._count, self._rows, *each)

    def _other(self, got: str) -> str:
        many = len(self.expected or ())
        return (
            f"a first pass reached {many} sites, another one {got}: a model has to reach the same each time"
        )

    def _mixed(self, name: str, shape: Any) -> str:
        return (
            f"{name!r} drops a tensor of shape {shape} in a batch of {self._count * self._rows}, which are "
            "not the examples one after the other: the batch has to stay the first axis"
        )

    def dropout(self, name: str, x: Any, rate: Any, noise_shape: Any = None) -> Any:
        """X dropped, at the next site; x itself, and no site, at a rate of 0."""
        p = check_probability(rate, "rate")
        return self.dropped("dropout", name, x, p, noise_shape)[0] if p else x

    def dropped(
        self, kind: str, name: str, x: Any, p: float, noise_shape: Any, inverted: bool = True
    ) -> tuple[Any, Any]:
        """X dropped at the next site, and ones by the same masks, where that is classic dropout."""
        keys, view = self.next(name, kind, p, tuple(x.shape))
        noise = _noise(view, noise_shape)
        thin = [x] if inverted else [x, ops.ones_like(x)]
        out = [
            ops.reshape(active.dropout(ops.reshape(y, view), p, keys, noise, inverted), x.shape) for y in thin
        ]
        return out[0], None if inverted else out[1]

    def alpha(self, name: str, x: Any, rate: Any, noise_shape: Any) -> Any:
        """Draws as `thinned.keras.AlphaDropout` does."""
        p = check_probability(rate, "rate")
        if not p:
            return x
        drop = threshold(p)
        dtype, wide = _types(x)
        kept, keep = self.dropped("alpha dropout", name, ops.cast(x, wide), p, noise_shape, inverted=False)
        if drop in (0, DROP_ALL):
            return x if not drop else ops.zeros_like(x)
        scale, if_kept, if_dropped = _affine(1.0 - keep_probability(drop))
        added = ops.where(keep != 0, ops.cast(if_kept, wide), ops.cast(if_dropped, wide))
        return ops.cast((kept + added) * ops.cast(scale, wide), dtype)

    def gaussian(self, name: str, x: Any, rate: Any) -> Any:
        """Draws as `thinned.keras.GaussianDropout` does."""
        p = check_probability(rate, "rate")
        if not p:
            return x
        if p == 1:
            raise ValueError(f"{name!r}: Gaussian dropout needs rate < 1, got 1.0")
        z, (dtype, wide) = self._normal("Gaussian dropout", name, x, p), _types(x)
        sigma = math.sqrt(p / (1.0 - p))
        return ops.cast(ops.cast(x, wide) * (ops.cast(z, wide) * sigma + 1.0), dtype)

    def noise(self, name: str, x: Any, stddev: float) -> Any:
        """Add normal noise."""
        if not stddev:
            return x
        z, (dtype, wide) = self._normal("Gaussian noise", name, x, float(stddev)), _types(x)
        return ops.cast(ops.cast(x, wide) + ops.cast(z, wide) * float(stddev), dtype)

    def _normal(self, kind: str, name: str, x: Any, p: float) -> Any:
        keys, (count, rows, *each) = self.next(name, kind, p, tuple(x.shape))
        z = ops.reshape(active.normal(tuple(each), keys), (count, 1, *each))
        return ops.reshape(ops.broadcast_to(z, (count, rows, *each)), x.shape)

    def single(self, name: str, kind: str, p: float) -> Any:
        """The key of a mask that the whole batch has."""
        return active.single(self.next(name, kind, p, None)[0])

    def mask(self, name: str, like: Any, rate: float) -> Any:
        """Gives what a recurrent cell of Keras multiplies by at all times."""
        return self.dropout(name, ops.ones_like(like), rate)

    def exact_mask(self, name: str, like: Any, rate: float) -> ExactMask:
        """Gives what one of ours multiplies by: exact in every type."""
        wide = _types(like)[1]
        ones = ops.ones(like.shape, wide)
        return ExactMask(self.dropped("dropout", name, ones, rate, None, inverted=False)[0] != 0, rate)


class ExactMask:
    """A factor of inputs: kept → x · s, rounded once; dropped → 0, whatever x is."""

    def __init__(self, kept: Any, rate: float) -> None:
        self._kept, self._scale = kept, inverse_scale(threshold(rate))

    def __rmul__(self, x: Any) -> Any:
        dtype, wide = _types(x)
        value = ops.cast(ops.cast(x, wide) * ops.cast(self._scale, wide), dtype)
        return ops.where(self._kept, value, ops.zeros((), dtype))


def _types(x: Any) -> tuple[str, str]:
    """X's, and the one that its arithmetic has."""
    dtype = keras.backend.standardize_dtype(x.dtype)
    return dtype, "float64" if dtype == "float64" else "float32"


def _noise(view: tuple[int, ...], noise_shape: Any) -> tuple[int, ...]:
    """Makes noise of shape (rows, …): rows share a mask, and so do a noise shape's dimensions of 1."""
    _, rows, first, *rest = view
    if noise_shape is None:
        return (1, first, *rest)
    entries = tuple(noise_shape)
    if len(entries) != 1 + len(rest) or any(
        n not in (1, None, size) for n, size in zip(entries[1:], rest, strict=True)
    ):
        raise ValueError(
            f"noise_shape {entries} does not fit inputs of shape {(rows * view[0] * first, *rest)}: give one "
            "entry a dimension, 1 to share the decision along it, None or the size not to"
        )
    own = [1 if n == 1 else size for n, size in zip(entries[1:], rest, strict=True)]
    return (1, 1 if entries[0] == 1 else first, *own)
