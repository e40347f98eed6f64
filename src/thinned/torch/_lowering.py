"""The operator `thinned::kept` is a mask that Inductor computes inside a neighbouring kernel.

Taken apart into torch's operators, a mask would be ten rounds with two readers of each word, and Inductor
would write each reader's copy anew: it does not end. So the mask is lowered as a whole, to one loop.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from thinned.torch import _compat, _plain

_library = torch.library.Library("thinned", "FRAGMENT")
# Seed, stream and drop threshold are int64 and broadcast against the sizes; positions count from base by
# strides of the sizes' last dimensions.
_library.define(
    "kept(SymInt[] sizes, Tensor seed, Tensor stream, Tensor drop, SymInt base, SymInt[] strides) -> Tensor"
)

# What is of one element is computed by itself, and not for each element of the loop that reads it.
_library.define("once(Tensor small) -> Tensor")


def once(small: Tensor) -> Tensor:
    """Call `thinned::once`."""
    result: Tensor = torch.ops.thinned.once(small)
    return result


def kept(sizes: Sequence[int], *rest: Any) -> Tensor:
    """Call `thinned::kept`."""
    result: Tensor = torch.ops.thinned.kept(sizes, *rest)
    return result


def _kept(
    sizes: Sequence[int], seed: Tensor, stream: Tensor, drop: Tensor, base: int, strides: Sequence[int]
) -> Tensor:
    position = _plain.positions(tuple(sizes), base, tuple(strides), seed.device)
    mask: Tensor = _plain.keeps(position, (seed, stream), drop).expand(sizes).contiguous()
    return mask


def _shape(sizes: Sequence[int], seed: Tensor, *_: Any) -> Tensor:
    return torch.empty(sizes, dtype=torch.bool, device=seed.device)


@functools.cache
def make_lowering() -> None:
    """Tell Inductor how the operator is computed; it is imported here and not before."""
    inductor = _compat.inductor()

    def lowered(sizes: Any, seed: Any, stream: Any, drop: Any, base: Any, strides: Any) -> Any:
        for small in (seed, stream, drop):
            small.realize()  # once, and not for each element
        loaders = [inductor.expand(small, sizes).make_loader() for small in (seed, stream, drop)]
        words = functools.partial(_kept_at, inductor.ops)

        def one(index: Any) -> Any:
            inner = index[len(index) - len(strides) :]
            ahead = sum((at * step for at, step in zip(inner, strides, strict=True)), inductor.zero)
            position = inductor.ops.value_expr(ahead + base, torch.int64)
            return words(position, *(load(index) for load in loaders))

        return inductor.pointwise(seed.get_device(), torch.bool, one, list(sizes))

    def apart(small: Any) -> Any:
        small.realize()
        return small

    inductor.register(torch.ops.thinned.kept.default, lowered)
    inductor.register(torch.ops.thinned.once.default, apart)


class _Number:
    """An int64 of Inductor's loop with Python's operators; constants may be beside it."""

    def __init__(self, ops: Any, value: Any) -> None:
        self.ops, self.value = ops, value

    def _of(self, name: str, other: Any) -> _Number:
        other = other.value if isinstance(other, _Number) else self.ops.constant(other, torch.int64)
        return _Number(self.ops, getattr(self.ops, name)(self.value, other))

    def __add__(self, other: Any) -> _Number:
        return self._of("add", other)

    def __mul__(self, other: Any) -> _Number:
        return self._of("mul", other)

    def __and__(self, other: Any) -> _Number:
        return self._of("bitwise_and", other)

    def __or__(self, other: Any) -> _Number:
        return self._of("bitwise_or", other)

    def __xor__(self, other: Any) -> _Number:
        return self._of("bitwise_xor", other)

    def __rshift__(self, other: Any) -> _Number:
        return self._of("bitwise_right_shift", other)

    def __lshift__(self, other: Any) -> _Number:
        return self._of("bitwise_left_shift", other)

    def __lt__(self, other: Any) -> _Number:
        return self._of("lt", other)

    def __ge__(self, other: Any) -> _Number:
        return self._of("ge", other)

    def where(self, a: _Number, b: _Number) -> _Number:
        return _Number(self.ops, self.ops.where(self.value, a.value, b.value))


def _kept_at(ops: Any, position: Any, seed: Any, stream: Any, drop: Any) -> Any:
    at, *key, least = (_Number(ops, value) for value in (position, seed, stream, drop))
    return _plain.keeps(at, (key[0], key[1]), least, where=_Number.where).value


_library.impl("kept", _kept, "CompositeExplicitAutograd")
torch.library.register_fake("thinned::kept", _shape, lib=_library)
_library.impl("once", torch.clone, "CompositeExplicitAutograd")
torch.library.register_fake("thinned::once", torch.empty_like, lib=_library)
