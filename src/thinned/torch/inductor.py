"""This backend for `torch.compile` computes masks in the kernels of their neighbours.

By default dropout is one operator in a compiled graph. Here it is taken apart into the contract's integer
arithmetic, so that Inductor puts it into one kernel with what stands before and after it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from thinned._position import positions, row_major
from thinned.torch import _compat, _lowering, _operator
from thinned.torch._batching import Sizes, noise_of

__all__ = ["fused"]


def fused(graph: torch.fx.GraphModule, example_inputs: Sequence[Any], **options: Any) -> Callable[..., Any]:
    """Compile a graph by Inductor with the masks in its kernels; `torch.compile(model, backend=fused)`.

    Masks, zeros and what dropout itself returns have the bits of eager code, forward and backward. A result
    in float16 or bfloat16 that goes on within a kernel is rounded there only if
    `torch._inductor.config.emulate_precision_casts` is set, as with all of Inductor's kernels. A p that is no
    probability gives NaN, as on a GPU.

    Each element has two calls of the generator to itself, where the operator has one for eight: this is for
    small tensors, where a launch costs more than arithmetic, and slower for large ones. docs/torch/compile.md
    has the figures.

    Args:
        graph: what `torch.compile` traced.
        example_inputs: tensors of the shapes that it is compiled for.
        **options: Inductor's own, as `torch.compile(…, options={…})` passes them.

    Returns:
        The compiled graph.

    Raises:
        RuntimeError: Inductor's, where it cannot compile.

    Source:
        CONTRACT.md, sections 2 to 4.

    Example:
        >>> import torch
        >>> from thinned.torch import inductor
        >>> layer = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.GELU())
        >>> compiled = torch.compile(layer, backend=inductor.fused)  # nothing is compiled before it is called
    """
    _lowering.make_lowering()
    compiled: Callable[..., Any] = _compat.compile_by_inductor(
        graph, example_inputs, decompositions(), options
    )
    return compiled


def decompositions() -> dict[Any, Callable[..., Tensor]]:
    """The operators that are taken apart, and into what."""
    ours = torch.ops.thinned
    return {ours.dropout.default: _dropout, ours.dropout_add.default: _dropout_add}


def _dropout(
    input: Tensor,
    key: Tensor,
    p: Tensor,
    inverted: bool = True,
    noise_shape: Sizes = None,
    global_shape: Sizes = None,
    start: Sizes = None,
    step: Sizes = None,
    coordinate: Sizes = None,
) -> Tensor:
    shape = tuple(input.shape[key.dim() - 1 :])
    base, strides = positions(shape, noise_of(noise_shape), global_shape, start, step)
    (seed, stream), drop, factor = _operator.tensors(input, key, p, inverted, check=False)
    kept = _lowering.kept(input.shape, seed, stream, drop, base, strides or row_major(shape))
    wide = torch.promote_types(input.dtype, torch.float32)
    return torch.where(kept, (input.to(wide) * _lowering.once(factor)).to(input.dtype), 0.0)


def _dropout_add(input: Tensor, residual: Tensor, key: Tensor, p: Tensor, base: int = 0) -> Tensor:
    return _operator.dropout_from(base, input, key, p) + residual
