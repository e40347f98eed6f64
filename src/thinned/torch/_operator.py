"""The operators `thinned::dropout`, `thinned::keep_mask` and `thinned::draw_key`.

They are what torch.compile, fake tensors, tensor subclasses and every device see. A key travels as an int64
tensor of two elements, so that a graph does not depend on its value. Nothing of the input is saved: the
backward pass recomputes the mask from the key.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from thinned._arguments import effect
from thinned._position import positions
from thinned.contract import Key, threshold
from thinned.torch import _native, _plain

_library = torch.library.Library("thinned", "DEF")

_library.define(
    "dropout(Tensor input, Tensor key, float p, bool inverted=True, SymInt[]? noise_shape=None, "
    "SymInt[]? global_shape=None, SymInt[]? start=None) -> Tensor"
)
_library.define(
    "keep_mask(SymInt[] shape, Tensor key, float p, SymInt[]? global_shape=None, SymInt[]? start=None)"
    " -> Tensor"
)
# It writes to a tensor that its caller makes. AOTAutograd takes two calls that only return one for the same
# expression and merges them, whatever their tags say: two layers would share a mask.
_library.define(
    "draw_key(Tensor(a!) bits, Generator? generator=None) -> ()", tags=(torch.Tag.nondeterministic_seeded,)
)

Sizes = Sequence[int] | None
_WORD = 2**64 - 1


def key_to_tensor(key: Key) -> Tensor:
    """An int64 tensor of two elements: seed and stream, as two's complement."""
    return torch.tensor([_signed(key.seed), _signed(key.stream)], dtype=torch.int64)


def words_of(key: Tensor) -> tuple[int, int]:
    """Seed and stream of such a tensor."""
    seed, stream = key.tolist()
    return seed & _WORD, stream & _WORD


def draw_key(generator: torch.Generator | None = None) -> Tensor:
    """128 fresh bits from the generator, torch's default CPU generator if none is given."""
    bits = torch.empty(2, dtype=torch.int64)
    torch.ops.thinned.draw_key(bits, generator)
    return bits


def draw_words(generator: torch.Generator | None = None) -> tuple[int, int]:
    """The seed and stream that `draw_key` would draw, without the dispatcher."""
    bits = torch.empty(2, dtype=torch.int64)
    _draw(bits, generator)
    return words_of(bits)


def _draw(bits: Tensor, generator: torch.Generator | None = None) -> None:
    if generator is None or generator.device.type == "cpu":
        bits.random_(-(2**63), None, generator=generator)
    else:
        bits.copy_(bits.to(generator.device).random_(-(2**63), None, generator=generator))


def _signed(word: int) -> int:
    return word - 2**64 if word >= 2**63 else word


def _dropout(
    input: Tensor,
    key: Tensor,
    p: float,
    inverted: bool = True,
    noise_shape: Sizes = None,
    global_shape: Sizes = None,
    start: Sizes = None,
) -> Tensor:
    drop, factor = effect(threshold(p), True, inverted)
    base, strides = positions(tuple(input.shape), noise_shape, global_shape, start)
    what = (*words_of(key), drop, factor, base, strides)
    if input.is_cpu:
        return _native.run(input, _native.fresh(input), what)
    return _plain.dropout(input, what)


def _keep_mask(
    shape: Sequence[int], key: Tensor, p: float, global_shape: Sizes = None, start: Sizes = None
) -> Tensor:
    base, strides = positions(tuple(shape), None, global_shape, start)
    out = torch.empty(tuple(shape), dtype=torch.bool)
    return _native.mask(out, Key(*words_of(key)), threshold(p), base, strides)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, key, *ctx.arguments = inputs
    ctx.save_for_backward(key)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    (key,) = ctx.saved_tensors
    return torch.ops.thinned.dropout(grad, key, *ctx.arguments), None, *(None for _ in ctx.arguments)


_library.impl("dropout", _dropout, "CompositeExplicitAutograd")
_library.impl("keep_mask", _keep_mask, "CPU")
_library.impl("draw_key", _draw, "CPU")
torch.library.register_fake(
    "thinned::dropout", lambda input, *_args, **_kwargs: torch.empty_like(input), lib=_library
)
torch.library.register_fake(
    "thinned::keep_mask",
    lambda shape, key, *_args, **_kwargs: torch.empty(shape, dtype=torch.bool, device=key.device),
    lib=_library,
)
torch.library.register_fake("thinned::draw_key", lambda bits, generator=None: None, lib=_library)
torch.library.register_autograd("thinned::dropout", _backward, setup_context=_setup_context, lib=_library)
