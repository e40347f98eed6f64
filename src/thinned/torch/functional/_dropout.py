"""`dropout` drops single elements, or what a noise shape groups; the mask alone is had here too."""

from __future__ import annotations

from typing import Any, Literal, Unpack, overload

import torch
from torch import Tensor

from thinned._arguments import (
    DROP_ALL,
    IDENTITY,
    REQUIRED,
    check_key,
    check_mode,
    check_training,
    effect,
)
from thinned._position import Shape, as_shape, positions
from thinned.contract import Key, check_probability, threshold
from thinned.torch import (
    _cuda,
    _eager,
    _export,
    _in_place,
    _key,
    _mesh,
    _native,
    _nested,
    _onnx,
    _operator,
    _rate,
)
from thinned.torch._batching import OWN, Sizes, noise_of
from thinned.torch._key_tensor import key_to_tensor
from thinned.torch._overrides import overridable
from thinned.torch._placement import Place, Source, sizes_of
from thinned.torch.functional._signatures import Rate


@overload
def dropout(
    input: Tensor,
    p: Rate,
    training: bool,
    inplace: bool = False,
    *,
    noise_shape: tuple[int | None, ...] | None = None,
    mode: Literal["inverted", "classic"] = "inverted",
    **source: Unpack[Source],
) -> Tensor: ...
@overload
def dropout(
    input: Tensor,
    p: Rate = 0.5,
    *,
    training: bool,
    inplace: bool = False,
    noise_shape: tuple[int | None, ...] | None = None,
    mode: Literal["inverted", "classic"] = "inverted",
    **source: Unpack[Source],
) -> Tensor: ...
@overridable
def dropout(
    input: Tensor,
    p: float | Tensor = 0.5,
    training: bool = REQUIRED,
    inplace: bool = False,
    *,
    key: Key | Tensor | None = None,
    generator: torch.Generator | None = None,
    noise_shape: tuple[int | None, ...] | None = None,
    mode: Literal["inverted", "classic"] = "inverted",
    global_shape: Shape | None = None,
    start: Shape | None = None,
    step: Shape | None = None,
) -> Tensor:
    """Equivalent to `torch.nn.functional.dropout`, by the mask of a key.

    The gradient uses the same mask, recomputed: nothing of the input's size is saved for it.

    Args:
        input: tensor of any shape and strides; float32, float64, float16 or bfloat16.
        p: drop probability in [0, 1]; or a floating tensor of no dimension, or with one for each of input's,
            its size or 1: a probability for each sample, say. Compiled code serves all values of a tensor.
        training: True drops, False evaluates. Required: a function cannot see `model.eval()`.
        inplace: write to `input` itself.
        key: the mask's key, or an int64 tensor of its seed and stream; no global state is touched. Without
            one, 128 bits are drawn from `generator`.
        generator: where a key is drawn from; torch's default CPU generator if not given, so that
            `torch.manual_seed`, `fork_rng` and activation checkpointing work, and tensors on all devices get
            the same mask from the same seed.
        noise_shape: one entry a dimension: 1 shares the decision along it; None or input's size does not.
        mode: "inverted" multiplies what is kept by 1/(1−p) and evaluates to input itself; "classic" leaves
            what is kept and evaluates to input · (1−p).
        global_shape: shape of the whole tensor, where input is a shard of it.
        start: index of input's first element in the whole tensor; zeros if not given.
        step: how far apart neighbours of input are in the whole tensor, along each dimension, as in
            `whole[start::step]`; ones if not given.

    Returns:
        `input` itself in place or where nothing changes (p = 0, inverted evaluation), else a new tensor of
        its shape, dtype and layout. What is dropped is +0.0 exactly, and so is its gradient.

    Raises:
        TypeError: `training is missing: pass training=self.training …`; `input must be float32, …, got …`;
            `p must be a real number, got …`; `pass key or generator, not both`.
        ValueError: `p must be in [0, 1], got …`; `p of shape … does not fit …`; `p has no gradient …`;
            `noise_shape … does not fit x of shape …`; `inplace=True needs …`.
        RuntimeError: without a key: `vmap: called random operation while in randomness error mode …`;
            `dropout of a DTensor needs a key that all ranks share …`.

    Source:
        CONTRACT.md, sections 3 and 4; Srivastava et al., "Dropout", JMLR 2014.

    Example:
        >>> import torch, thinned
        >>> dropout(torch.ones(2, 5), 0.5, training=True, key=thinned.Key(0))
        tensor([[2., 0., 2., 2., 2.],
                [2., 2., 2., 2., 2.]])
    """
    training = check_training(training)
    inverted = check_mode(mode)
    here = isinstance(input, Tensor) and _eager.applies(input) and input.dtype in _native.DTYPES
    if not here and isinstance(input, Tensor) and _nested.is_unusual(input):
        given = {"noise_shape": noise_shape, "global_shape": global_shape, "start": start, "step": step}
        source = {"key": key, "generator": generator, "mode": mode}
        return _unusual(input, p, training, inplace, source, given)
    if not here:
        _native.check_dtype(input)
    drop = _rate.threshold(p, input)
    key = _key.check_source(key, generator)
    base, strides = positions(sizes_of(input), noise_shape, global_shape, start, step)
    if drop is not None:
        act, factor = effect(drop, training, inverted)
        if (act, factor) == IDENTITY and (p == 0 or not training):
            return input
    elif not training and inverted:
        return input
    if inplace:
        _in_place.check(input)
    if drop is None and not training:
        return _in_place.into(input, _rate.expectation(input, p), inplace)
    if drop is not None:
        if here:
            words = (0, 0) if act in (0, DROP_ALL) else _key.as_words(key, generator)
            return _eager.dropout(input, (*words, act, factor, base, strides), inplace)
        if act == 0:
            return input.mul_(factor) if inplace else input * factor
        if act == DROP_ALL and not _mesh.is_dtensor(input):
            everything = torch.ones((), dtype=torch.bool, device=input.device)
            return input.masked_fill_(everything, 0) if inplace else input.masked_fill(everything, 0)
    if _onnx.exporting():
        own = _onnx.dropout(input, p, noise_shape, inverted, key, generator, global_shape)
        return _in_place.into(input, own, inplace)
    _mesh.check_source(input, key, generator)
    place = {"global_shape": global_shape, "start": start, "step": step}
    bits, rate = _key.as_tensor(key, generator), _rate.as_tensor(p, drop)
    shapes = (
        None if noise_shape is None else _sizes(noise_shape),
        *(None if entries is None else as_shape(name, entries) for name, entries in place.items()),
    )
    if inplace and _cuda.writes(input):
        return _in_place_by_kernel(input, bits, rate, inverted, *shapes)
    result = _operator.dropout(input, bits, rate, inverted, *shapes)
    if not inverted and (flag := _export.evaluates()) is not None:
        result = torch.where(flag, _rate.expectation(result, p), result)
    return _in_place.into(input, result, inplace)


def _unusual(
    input: Tensor, p: Any, training: bool, inplace: bool, source: dict[str, Any], given: dict[str, Any]
) -> Tensor:
    """Evaluation passes anything through; beyond that, nested tensors are dropped by their values."""
    if not isinstance(p, Tensor):
        check_probability(p)
    elif p.dim():
        given = {"p of one dimension for each of its": p, **given}
    if not training and source["mode"] == "inverted":
        _native.check_dtype(input, training=False)
        return input
    if not input.is_nested:
        _native.check_dtype(input)
    return _nested.dropout(input, lambda values: dropout(values, p, training, **source), inplace, **given)


def keep_mask(
    shape: Shape, p: float, *, key: Key, global_shape: Shape | None = None, start: Shape | None = None
) -> Tensor:
    """The mask itself as a bool CPU tensor: True where kept. See `thinned.keep_mask`.

    Example:
        >>> import thinned
        >>> keep_mask(5, 0.5, key=thinned.Key(0))
        tensor([ True, False,  True,  True,  True])
    """
    drop = threshold(p)
    sizes = as_shape("shape", shape)
    positions(sizes, None, global_shape, start)
    whole = None if global_shape is None else as_shape("global_shape", global_shape)
    first = None if start is None else as_shape("start", start)
    bits = key_to_tensor(check_key(key))
    return _operator.keep_mask(sizes, bits, _rate.exactly(p, drop), whole, first)


def _sizes(noise_shape: tuple[int | None, ...]) -> list[int]:
    return [1 if n == 1 else OWN for n in noise_shape]


Noise = tuple[int | None, ...]


def batched_keep_mask(
    input: Tensor, p: float | Tensor, key: Key | Tensor, noise: Noise | None, place: Place
) -> Tensor:
    """True where dropout of the input keeps, of the noise's shape.

    By way of ones, since `keep_mask` has no examples of a vmap to tell apart.
    """
    sizes = tuple(input.shape)
    if noise is not None:
        sizes = tuple(size if n is None else n for n, size in zip(noise, sizes, strict=True))
    if isinstance(p, Tensor):
        sizes = torch.broadcast_shapes(sizes, p.shape)
    ones = _mesh.ones(input, sizes)
    return dropout(ones, p, True, key=key, noise_shape=noise, **place) != 0


def kept(
    input: Tensor,
    p: float | Tensor,
    key: Key | Tensor | None,
    noise: Noise | None,
    place: Place,
    generator: torch.Generator | None = None,
) -> Tensor:
    """The input where it is kept, and 0 where dropped: classic dropout, but for what it evaluates to."""
    if _export.exporting():
        bits = _key.as_tensor(_key.check_source(key, generator), generator)
        return torch.where(batched_keep_mask(input, p, bits, noise, place), input, 0)
    return dropout(input, p, True, key=key, generator=generator, noise_shape=noise, mode="classic", **place)


def _in_place_by_kernel(
    input: Tensor, key: Tensor, p: Tensor, inverted: bool, noise: Sizes, *place: Any
) -> Tensor:
    """Drop in place on such a device, with a gradient if one is wanted; the rest as the operator has it."""
    from thinned.torch._triton import _launch

    def again(grad: Tensor, key: Tensor, p: Tensor) -> Tensor:
        return _operator.dropout(grad, key, p, inverted, noise, *place)

    base, strides = positions(tuple(input.shape), noise_of(noise), *place)
    target = _in_place.announce(input, again, key, p)
    return _launch.dropout(target, target, key, p, inverted, base, strides)
