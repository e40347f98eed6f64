"""The operator `thinned::numbers` gives random numbers by a key, where no mask is multiplied.

Its positions are those of a mask of the shape, or of a part of one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from thinned import contract
from thinned._position import positions, row_major
from thinned.contract import Key
from thinned.torch import _cuda, _inductor, _key, _native, _onnx, _plain, _rate
from thinned.torch._batching import OWN, Sizes, noise_of
from thinned.torch._key_tensor import words_of
from thinned.torch._placement import Place, as_lists, sizes_of

_STEPS = 2.0**-24  # float32 holds so many in [0, 1)

_library = torch.library.Library("thinned", "FRAGMENT")
_library.define(
    "numbers(Tensor key, SymInt[] shape, str kind, Tensor beside, SymInt[]? noise_shape=None, "
    "SymInt[]? global_shape=None, SymInt[]? start=None, SymInt[]? step=None) -> Tensor"
)


def uniform(like: Tensor, key: Key | Tensor) -> Tensor:
    """Uniform numbers in [0, 1), of the shape and dtype of a tensor: the first 24 bits of each position."""
    return numbers(like, key, "uniform").to(like.dtype)


def normal(like: Tensor, key: Key | Tensor) -> Tensor:
    """Normal deviates, of the shape and dtype of a tensor."""
    return numbers(like, key, "normal").to(like.dtype)


def numbers(
    like: Tensor,
    key: Key | Tensor,
    kind: str,
    noise_shape: Sequence[int | None] | None = None,
    place: Place | None = None,
) -> Tensor:
    """Numbers for each position of a tensor's mask, of a shape that broadcasts to the tensor's.

    Args:
        like: whose shape and device they have.
        key: of the numbers.
        kind: "word", the mask's own 32-bit number u of each position as int64; "uniform", its first 24 bits
            in [0, 1), float64; "middle", (u + ½) / 2^32, float64; "normal", float32.
        noise_shape: as in `dropout`.
        place: where the tensor stands in a larger one.
    """
    _onnx.refuse("this layer's random numbers")
    noise = None if noise_shape is None else [1 if n == 1 else OWN for n in noise_shape]
    where = (None, None, None) if not place else as_lists(place, like.shape)
    shape = sizes_of(like)
    # Of the device a tensor tells, since torch.jit.trace records none as an argument.
    beside = torch.empty(0, device=like.device)
    drawn: Tensor = torch.ops.thinned.numbers(_key.as_tensor(key), shape, kind, beside, noise, *where)
    return drawn


def _run(
    key: Tensor,
    shape: Sequence[int],
    kind: str,
    beside: Tensor,
    noise_shape: Sizes = None,
    global_shape: Sizes = None,
    start: Sizes = None,
    step: Sizes = None,
) -> Tensor:
    """An operator, since a trace of all its steps has 800 nodes."""
    one, device = _one(shape, noise_shape), beside.device
    sizes = (*key.shape[:-1], *one)
    base, strides = positions(tuple(shape), noise_of(noise_shape), global_shape, start, step)
    steps = row_major(tuple(shape)) if strides is None else strides
    if _cuda.serves(beside):
        from thinned.torch._triton import _launch

        return _launch.numbers(
            torch.empty(sizes, dtype=_DTYPES.get(kind, torch.float64), device=device), key, base, steps, kind
        )
    if kind == "normal" and key.dim() == 1 and device.type == "cpu":
        return _native.normal(sizes, words_of(key), base, steps)
    words = key.to(device).unbind(-1)
    seed, stream = (word.reshape((*word.shape, *(1,) * len(shape))) for word in words)
    if kind == "normal":
        return _plain.normal(sizes, (seed, stream), base, steps, device).expand(sizes).clone()
    if all(size < 2 or a == b for size, a, b in zip(one, steps, row_major(one), strict=True)):
        word: Tensor = _plain.run(base, math.prod(one), (words[0], words[1]), device).reshape(sizes)
    else:
        position = _plain.positions(sizes, base, steps, device)
        word = _plain.word(position, (seed, stream)).expand(sizes).clone()
    if kind == "word":
        return word
    return (word >> 8).double() * _STEPS if kind == "uniform" else (word.double() + 0.5) / 2.0**32


def _one(shape: Sequence[int], noise_shape: Sizes) -> tuple[int, ...]:
    """The shape of the numbers: 1 where they are shared."""
    if noise_shape is None:
        return tuple(shape)
    return tuple(1 if n == 1 else size for n, size in zip(noise_shape, shape, strict=True))


def _batched(info: Any, in_dims: Any, key: Tensor, *rest: Any) -> tuple[Tensor, int]:
    return torch.ops.thinned.numbers(key.movedim(in_dims[0], 0), *rest), 0


_DTYPES = {"normal": torch.float32, "word": torch.int64}


def _shape(
    key: Tensor, shape: Sequence[int], kind: str, beside: Tensor, noise_shape: Sizes = None, *_: Sizes
) -> Tensor:
    _inductor.tell()
    dtype = _DTYPES.get(kind, torch.float64)
    return torch.empty((*key.shape[:-1], *_one(shape, noise_shape)), dtype=dtype, device=beside.device)


torch.library.register_fake("thinned::numbers", _shape, lib=_library)
_library.impl("numbers", _run, "CompositeExplicitAutograd")
torch.library.register_vmap("thinned::numbers", _batched, lib=_library)
_key.vmap_with_keys(_library, "numbers", 0)


def word_at(position: Tensor, key: Key | Tensor) -> Tensor:
    """The mask's 32-bit number u at positions that are given, int64 of any shape."""
    word: Tensor = torch.ops.thinned.words_at(position, _key.as_tensor(key))
    return word


def _words_at(position: Tensor, key: Tensor) -> Tensor:
    seed, stream = (
        w.reshape(*w.shape, *(1,) * (position.dim() - w.dim())) for w in key.to(position.device).unbind(-1)
    )
    words: Tensor = _plain.word(position, (seed, stream))
    return words


def _words_at_batched(info: Any, in_dims: Any, position: Tensor, key: Tensor) -> tuple[Tensor, int]:
    """Dimensions of the key in front of its last are the positions' first ones, as everywhere."""
    size, (at, at_key) = info.batch_size, in_dims
    position = position.expand(size, *position.shape) if at is None else position.movedim(at, 0)
    key = key.expand(size, *key.shape) if at_key is None else key.movedim(at_key, 0)
    return torch.ops.thinned.words_at(position, key), 0


def _words_at_shape(position: Tensor, key: Tensor) -> Tensor:
    _inductor.tell()
    return torch.empty_like(position)


_library.define("words_at(Tensor position, Tensor key) -> Tensor")
torch.library.register_fake("thinned::words_at", _words_at_shape, lib=_library)
_library.impl("words_at", _words_at, "CompositeExplicitAutograd")
torch.library.register_vmap("thinned::words_at", _words_at_batched, lib=_library)
_key.vmap_with_keys(_library, "words_at")


def drop_threshold(p: Any, device: torch.device) -> Tensor:
    """D of a rate, for a comparison with u: a tensor, so that a graph depends on no value."""
    return torch.round(_plain.double(_rate.exactly(p)) * (contract.WORD + 1.0)).long().to(device)
