"""Stochastic depth drops samples of a residual branch, or whole layers of a stack."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, Unpack, overload

import torch
from torch import Tensor, fx

from thinned._arguments import REQUIRED, check_training, requires_training
from thinned.contract import Key
from thinned.torch._observers import masks_are_wanted, samples_are_drawn
from thinned.torch._overrides import overridable
from thinned.torch._placement import Place, Source
from thinned.torch._rate import p_of_timm
from thinned.torch._site import traced
from thinned.torch.functional._dropout import dropout, kept
from thinned.torch.functional._signatures import Rate


@overload
def drop_path(
    input: Tensor, p: Rate, training: bool, scale_by_keep: bool = True, **source: Unpack[Source]
) -> Tensor: ...
@overload
def drop_path(
    input: Tensor, *, drop_prob: Rate, training: bool, scale_by_keep: bool = True, **source: Unpack[Source]
) -> Tensor: ...
@overridable
def drop_path(
    input: Tensor,
    p: Rate | None = None,
    training: bool = REQUIRED,
    scale_by_keep: bool = True,
    *,
    drop_prob: Rate | None = None,
    key: Key | Tensor | None = None,
    generator: torch.Generator | None = None,
    **place: Unpack[Place],
) -> Tensor:
    """Equivalent to timm's `drop_path`: one decision for each sample.

    Args:
        input: (N, …), a residual branch; float32, float64, float16 or bfloat16.
        p: drop probability in [0, 1], a number or a tensor: see `dropout`.
        training: True drops, False evaluates to input itself.
        scale_by_keep: multiply what is kept by 1/(1−p). Without it what is kept stays as it is, and
            evaluation is still input itself, as in timm: there the branch is larger, by 1/(1−p), than its
            mean in training. (`dropout(mode="classic")` scales in evaluation instead.)
        drop_prob: p by timm's name. Exactly one of the two must be given.
        key: of the mask, which is one of shape (N, 1, …).
        generator: where a key is drawn from without one.
        **place: `global_shape`, `start` and `step` as in `dropout`.

    Returns:
        A tensor of input's shape, dtype and layout; dropped samples are +0.0.

    Raises:
        TypeError: `pass p, or drop_prob as timm names it, got …`; else as `dropout`.
        ValueError: `drop_path takes (N, …), got shape ()`; else as `dropout`.

    Source:
        Gao Huang et al., "Deep Networks with Stochastic Depth", ECCV 2016.

    Example:
        >>> import torch, thinned
        >>> drop_path(torch.ones(4, 3), 0.5, training=True, key=thinned.Key(0))
        tensor([[2., 2., 2.],
                [0., 0., 0.],
                [2., 2., 2.],
                [2., 2., 2.]])
    """
    training, p = check_training(training), p_of_timm(p, drop_prob)
    noise = rows_noise(input, "drop_path")
    if not training or scale_by_keep:
        return dropout(input, p, training, key=key, generator=generator, noise_shape=noise, **place)
    return kept(input, p, key, noise, place, generator)


@overridable
@requires_training
def stochastic_depth(
    input: Tensor,
    p: float | Tensor,
    mode: Literal["row", "batch"],
    training: bool,
    *,
    key: Key | Tensor | None = None,
    generator: torch.Generator | None = None,
    **place: Unpack[Place],
) -> Tensor:
    """Equivalent to `torchvision.ops.stochastic_depth`.

    Args:
        input: (N, …), a residual branch; of any shape for "batch".
        p: drop probability in [0, 1], a number or a tensor: see `dropout`.
        mode: "row" decides for each sample, "batch" once for all.
        training: True drops, False evaluates to input itself.
        key: of the mask, which is one of shape (N, 1, …) or (1, 1, …).
        generator: where a key is drawn from without one.
        **place: `global_shape`, `start` and `step` as in `dropout`.

    Returns:
        A tensor of input's shape, dtype and layout; what is kept times 1/(1−p), what is dropped +0.0.

    Raises:
        TypeError: as `dropout`.
        ValueError: `mode must be "row" or "batch", got …`; `stochastic_depth takes (N, …), got shape ()`;
            else as `dropout`.

    Source:
        Gao Huang et al., "Deep Networks with Stochastic Depth", ECCV 2016.

    Example:
        >>> import torch, thinned
        >>> stochastic_depth(torch.ones(3), 0.5, "row", training=True, key=thinned.Key(0))
        tensor([2., 0., 2.])
        >>> stochastic_depth(torch.ones(3), 0.5, "batch", training=True, key=thinned.Key(0))
        tensor([2., 2., 2.])
    """
    check_rows(mode)
    noise = rows_noise(input, "stochastic_depth") if mode == "row" else (1,) * input.dim()
    return dropout(input, p, training, key=key, generator=generator, noise_shape=noise, **place)


def check_rows(mode: str) -> None:
    """Refuse a mode that is neither of the two."""
    if mode not in ("row", "batch"):
        raise ValueError(f'mode must be "row" or "batch", got {mode!r}')


def rows_noise(input: Tensor, name: str) -> tuple[int | None, ...]:
    """The noise shape of one decision for each sample."""
    if not input.dim():
        raise ValueError(f"{name} takes (N, …), got shape (): a number is one sample, pass input[None]")
    return (None, *(1,) * (input.dim() - 1))


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
