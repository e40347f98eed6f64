"""Linear maps and convolutions of many samples, each of the units that it keeps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

from thinned import _kernel
from thinned._arguments import effect
from thinned.contract import threshold
from thinned.mc.torch import (
    _many,
    _vmapped,  # noqa: F401 (defines an operator)
)
from thinned.mc.torch._many import Many, Value
from thinned.torch import _eager, _native
from thinned.torch._thin._count import numbers
from thinned.torch._thin._submatrix import gathered, gathered_many

_aten = torch.ops.aten
LINEAR = {torch.ops.thinned_mc.linear.default, _aten.addmm.default, _aten.mm.default}
MAPS = {*LINEAR, _aten.convolution.default}
# Samples for which a weight is read once: 8 parts of 1 MiB stay in a cache until they are multiplied by.
_TOGETHER = 8


class Kept:
    """Draws the units that samples keep at a site.

    Args:
        keys: of the samples, int64 of shape (samples, 2).
        p: the drop probability.
        inverted: whether what is kept is scaled.
        size: the number of units.
        gathered: whether values behind the site are those of kept units alone, and not of all.

    Attributes:
        parts: of each sample, ascending numbers in int64.
        counts: how many they are.
        scale: of what is kept.
    """

    def __init__(self, keys: Tensor, p: float, inverted: bool, size: int, gathered: bool) -> None:
        drop, self.scale = effect(threshold(p), True, inverted)
        words = keys.contiguous().numpy().view(np.uint64).tolist()
        found = [one for seed, stream in words for one in _kernel.kept(seed, stream, drop, 1, size)]
        self.parts = list(map(numbers, found))
        self.counts = [len(part) for part in self.parts]
        self.size, self.gathered = size, gathered


def operands(node: fx.Node) -> tuple[Any, Any, Any]:
    """Bias, input and weight of a map; a linear one's weight is (in, out)."""
    args: Any = node.args
    if node.target is _aten.convolution.default:
        return args[2], args[0], args[1]
    return (None, *args) if node.target is _aten.mm.default else args


def is_plain(node: Any) -> bool:
    """Tells whether a convolution has one group, and goes forward."""
    if node.target in LINEAR:
        return True
    transposed, groups = node.args[6], node.args[8]
    return not transposed and groups == 1


def suits(node: fx.Node, bias: Tensor | None, x: Tensor, weight: Tensor) -> bool:
    """Tells whether a map is one for the kernel: linear, float32, of a weight that stands as (out, in)."""
    return (
        node.target in LINEAR
        and all(one is None or one.dtype is torch.float32 for one in (bias, x, weight))
        and weight.mT.is_contiguous()
        and (bias is None or (bias.shape == weight.shape[1:] and bias.is_contiguous()))
    )


def mapped(
    node: Any, now: dict[Any, Value], out: Kept | None, inward: Kept | None, samples: int, relu: bool
) -> Value:
    """The map, of the units that are kept; with `relu`, what that makes of it."""
    at_bias, source, at_weight = operands(node)
    x: Any = now[source]
    weight: Any = now[at_weight]
    bias: Any = None if at_bias is None else now[at_bias]
    first = _many.of(x, 0)
    made: Value
    if out is None and inward is None and isinstance(x, Tensor):
        made = _one(node, x, weight, bias)
    elif out is None and inward is None and node.target in LINEAR and x.flat is not None:
        whole = _one(node, x.flat.view(-1, weight.shape[0]), weight, bias)
        made = Many(whole.chunk(samples), whole.view(-1))
    elif _is_native(node, bias, first, weight):
        return _multiplied(bias, x, weight, out, inward, samples, relu)
    else:
        made = _gathered(node, bias, x, weight, out, inward, samples)
    if not relu:
        return made
    return made.relu_() if isinstance(made, Tensor) else made.by_element(torch.relu_)


def _is_native(node: fx.Node, bias: Tensor | None, x: Tensor, weight: Tensor) -> bool:
    plain = all(one is None or _eager.applies(one) for one in (bias, x, weight))
    return plain and _kernel.multiplies() and suits(node, bias, x, weight)


def _multiplied(
    bias: Tensor | None,
    x: Value,
    weight: Tensor,
    out: Kept | None,
    inward: Kept | None,
    samples: int,
    relu: bool,
) -> Many:
    """Products by the kernel, which reads what is kept of the weight where it stands."""
    width, height = weight.shape
    inputs = len(_many.of(x, 0))
    of_x = [_many.of(x, k).contiguous() for k in range(samples)]
    rows, heights = _numbers(out, height, samples)
    columns, widths = _numbers(inward, width, samples)
    made = Many.room([(inputs, tall) for tall in heights], weight)
    _native._borrow_team()
    _kernel.linear_many(  # type: ignore[misc]
        *(weight.data_ptr(), (height, width), 0 if bias is None else bias.data_ptr()),
        *(_scale(inward), relu, inward is not None and not inward.gathered),
        *(inputs, rows, heights, columns, widths),
        *([one.data_ptr() for one in of_x], [part.data_ptr() for part in made.parts]),
        torch.get_num_threads(),
    )
    return made


def _scale(inward: Kept | None) -> float:
    return 1.0 if inward is None else inward.scale


def _numbers(kept: Kept | None, size: int, samples: int) -> tuple[list[int], list[int]]:
    """Addresses of kept numbers, 0 for all, and how many they are."""
    if kept is None:
        return [0] * samples, [size] * samples
    assert kept.size == size  # the kernel looks at no bounds
    return [part.data_ptr() for part in kept.parts], kept.counts


def _gathered(
    node: Any,
    bias: Tensor | None,
    x: Value,
    weight: Tensor,
    out: Kept | None,
    inward: Kept | None,
    samples: int,
) -> Many:
    """One sample after the other gathers its part of the weight, which a cache holds meanwhile."""
    linear = node.target in LINEAR
    # A product takes a third less time where its weight stands as (in, out) in memory.
    weight = weight.contiguous()
    width = weight.shape[1 if linear else 0]
    widths = [width] * samples if out is None else out.counts
    biases: Sequence[Tensor | None] = [bias] * samples
    if bias is not None and out is not None:
        wide = bias.expand(*bias.shape[:-1], width)  # of one number, or with the batch of one
        biases = wide.index_select(-1, torch.cat(out.parts)).split(widths, -1)
    if inward is not None and not inward.gathered:
        x = _columns(x, inward)
    rows = len(_many.of(x, 0))
    room = Many.room([(rows, width) for width in widths], weight) if linear else None

    def one(k: int, few: Tensor) -> Tensor:
        return _one(node, _many.of(x, k), few, biases[k], None if room is None else room.parts[k])

    each: list[Tensor] = []
    for begin in range(0, samples, _TOGETHER):
        some = range(begin, min(begin + _TOGETHER, samples))
        units = (inward, out) if linear else (out, inward)
        first, second = ([None if one is None else one.parts[k] for k in some] for one in units)
        parts = gathered_many(weight, first, second, _scale(inward))
        each += map(one, some, parts)
    return Many(each) if room is None else room


def _columns(x: Value, kept: Kept) -> Many:
    """What each sample keeps of units."""
    return Many([gathered(_many.of(x, k).contiguous(), None, part, 1.0) for k, part in enumerate(kept.parts)])


def _one(node: Any, x: Tensor, weight: Tensor, bias: Tensor | None, to: Tensor | None = None) -> Tensor:
    if node.target not in LINEAR:
        return torch.convolution(x, weight, bias, *node.args[3:])
    return torch.mm(x, weight, out=to) if bias is None else torch.addmm(bias, x, weight, out=to)
