"""LayerDrop: whole layers of a stack passed by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx

from thinned._arguments import REQUIRED, check_training
from thinned.contract import Key
from thinned.torch._site import traced
from thinned.torch._switch import masks_are_wanted, samples_are_drawn
from thinned.torch.functional._dropout import dropout


def layer_drop(
    input: Tensor,
    layers: Sequence[Callable[..., Tensor]],
    p: float | Tensor,
    training: bool = REQUIRED,
    *args: Any,
    key: Key | Tensor | None = None,
    generator: torch.Generator | None = None,
    **options: Any,
) -> Tensor:
    """Run a stack of layers without those that are dropped, one decision a layer for the whole batch.

    A dropped layer is not run: its input is the next one's. In traced or transformed code (torch.compile,
    torch.func) and within `thinned.torch.masked()` all layers run, and what dropped ones give is left aside.

    Args:
        input: of the first layer.
        layers: each takes what the one before it gives, of the same shape and dtype.
        p: drop probability in [0, 1], a number, or a tensor of one for each layer.
        training: True drops, False runs all.
        *args: what every layer is given beside.
        key: of the mask, which is one of shape (len(layers),).
        generator: where a key is drawn from without one.
        **options: what every layer is given beside.

    Returns:
        What the last layer that is kept gives, without a scale; input itself where none is.

    Raises:
        TypeError: as `dropout`.
        ValueError: as `dropout`; `a dropped layer gives its input …` where all layers run.

    Source:
        Fan, Grave and Joulin, "Reducing Transformer Depth on Demand with Structured Dropout", ICLR 2020.

    Example:
        >>> import torch, thinned
        >>> layers = [lambda x, n=n: x + 10**n for n in range(4)]
        >>> layer_drop(torch.zeros(1), layers, 0.5, training=True, key=thinned.Key(0))
        tensor([1101.])
    """
    training = check_training(training)
    recorded = isinstance(input, fx.Proxy)
    ones: Any = input.new_ones if recorded else partial(torch.ones, device="cpu")
    values = dropout(
        ones(len(layers), dtype=torch.float32), p, training, key=key, generator=generator, mode="classic"
    )
    if not training:
        kept: Any = [True] * len(layers)
    elif recorded or traced() or masks_are_wanted() or samples_are_drawn():
        kept = values.to(input.device) > 0
    else:
        kept = values.tolist()
    for number, layer in enumerate(layers):
        if not isinstance(kept, list):
            input = _chosen(kept[number], layer(input, *args, **options), input)
        elif kept[number]:
            input = layer(input, *args, **options)
    return input


def _chosen(keep: Tensor, after: Tensor, before: Tensor) -> Tensor:
    known = isinstance(after, Tensor) and isinstance(before, Tensor)
    if known and (after.shape != before.shape or after.dtype != before.dtype):
        raise ValueError(
            f"a dropped layer gives its input, of shape {tuple(before.shape)} and {before.dtype}; "
            f"a layer of the stack gives {tuple(after.shape)} and {after.dtype}"
        )
    return torch.where(keep, after, before)
