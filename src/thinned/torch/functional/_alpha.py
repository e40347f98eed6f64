"""Alpha dropout sets dropped elements to SELU's lower limit, and keeps mean and variance."""

from __future__ import annotations

from typing import Unpack

import torch
from torch import Tensor

from thinned._arguments import DROP_ALL, REQUIRED, alpha_numbers, check_training
from thinned._position import as_shape, positions
from thinned.contract import Key, threshold
from thinned.torch import _alpha, _cuda, _export, _in_place, _key, _mesh, _native, _rate
from thinned.torch._batching import OWN
from thinned.torch._overrides import overridable
from thinned.torch._placement import Place
from thinned.torch.functional._dropout import Noise, batched_keep_mask, dropout, kept
from thinned.torch.functional._signatures import in_place_verb


@in_place_verb
@overridable
def alpha_dropout(
    input: Tensor,
    p: float | Tensor = 0.5,
    training: bool = REQUIRED,
    inplace: bool = False,
    *,
    key: Key | Tensor | None = None,
    generator: torch.Generator | None = None,
    **place: Unpack[Place],
) -> Tensor:
    """Equivalent to `torch.nn.functional.alpha_dropout`, by the mask of a key.

    With α' = −1.7581 kept elements become a · x + b and dropped ones a · α' + b, where
    a = 1/√((α'² p + 1)(1 − p)) and b = −a · α' · p: an input of mean 0 and variance 1 keeps both. All is
    computed in float32 (float64 for float64) and rounded once. Nothing of the input's size is saved for the
    gradient, which is a where kept and 0 where dropped.

    Args:
        input: tensor of any shape; float32, float64, float16 or bfloat16.
        p: drop probability in [0, 1], a number or a tensor: see `dropout`.
        training: True drops, False evaluates to input itself. torch's function does not train by default.
        inplace: write to `input` itself.
        key: the mask's key.
        generator: where a key is drawn from without one.
        **place: `global_shape`, `start` and `step` as in `dropout`.

    Returns:
        A tensor of input's shape, dtype and layout. At p = 1, where a would be infinite, zeros, as in torch,
        but also for NaN. At p = 0 input itself.

    Raises:
        TypeError: as `dropout`.
        ValueError: as `dropout`.

    Source:
        Klambauer et al., "Self-Normalizing Neural Networks", NeurIPS 2017.

    Example:
        >>> import torch, thinned
        >>> alpha_dropout(torch.zeros(5), 0.5, training=True, key=thinned.Key(0))
        tensor([ 0.7792, -0.7792,  0.7792,  0.7792,  0.7792])
    """
    return _drop(input, p, training, inplace, key, generator, None, place)


@in_place_verb
@overridable
def feature_alpha_dropout(
    input: Tensor,
    p: float | Tensor = 0.5,
    training: bool = REQUIRED,
    inplace: bool = False,
    *,
    key: Key | Tensor | None = None,
    generator: torch.Generator | None = None,
    **place: Unpack[Place],
) -> Tensor:
    """Equivalent to `torch.nn.functional.feature_alpha_dropout`: `alpha_dropout` of whole channels.

    Args:
        input: (N, C, …). As in torch the first two dimensions are those, whatever follows: an input without a
            batch needs one of size 1.
        p: as in `alpha_dropout`, like all that follow.
        training: True drops, False evaluates.
        inplace: write to `input` itself.
        key: of the mask, which is one of shape (N, C, 1, …).
        generator: where a key is drawn from without one.
        **place: `global_shape`, `start` and `step` as in `dropout`.

    Returns:
        A tensor of input's shape, dtype and layout.

    Raises:
        TypeError: as `dropout`.
        ValueError: `feature_alpha_dropout takes (N, C, …), got shape …`; else as `dropout`.

    Source:
        Klambauer et al., "Self-Normalizing Neural Networks", NeurIPS 2017.

    Example:
        >>> import torch, thinned
        >>> feature_alpha_dropout(torch.zeros(1, 3, 2), 0.5, training=True, key=thinned.Key(0))
        tensor([[[ 0.7792,  0.7792],
                 [-0.7792, -0.7792],
                 [ 0.7792,  0.7792]]])
    """
    if input.dim() < 2:
        raise ValueError(
            f"feature_alpha_dropout takes (N, C, …), got shape {tuple(input.shape)}: "
            "use AlphaDropout (elements)"
        )
    return _drop(input, p, training, inplace, key, generator, (None, None, *(1,) * (input.dim() - 2)), place)


def _drop(
    input: Tensor,
    p: float | Tensor,
    training: bool,
    inplace: bool,
    key: Key | Tensor | None,
    generator: torch.Generator | None,
    noise: Noise | None,
    place: Place,
) -> Tensor:
    training = check_training(training)
    _native.check_dtype(input, training)
    drop = _rate.threshold(p, input)
    if not training or drop in (0, DROP_ALL):
        return dropout(input, p, training, inplace, key=key, generator=generator, noise_shape=noise, **place)
    if inplace:
        _in_place.check(input)
    _mesh.check_source(input, key, generator)
    if _cuda.fuses(input):
        bits = _key.as_tensor(_key.check_source(key, generator), generator)
        positions(tuple(input.shape), noise, **place)
        shared = None if noise is None else [OWN if n is None else n for n in noise]
        where = (place.get(name) for name in ("global_shape", "start", "step"))
        lists = (None if entries is None else as_shape("place", entries) for entries in where)
        result = _alpha.alpha_dropout(input, bits, _rate.as_tensor(p, drop), shared, *lists)
        return _in_place.into(input, result, inplace)
    if key is None:  # one for both masks below
        key, generator = _key.draw(generator), None
    wide = torch.promote_types(input.dtype, torch.float32)
    scaled = kept(input.to(wide), p, key, noise, place, generator)
    a, if_kept, if_dropped = (_mesh.beside(input, n.to(wide).to(input.device)) for n in _affine(p, drop))
    shift = torch.where(batched_keep_mask(input, p, key, noise, place), if_kept, if_dropped)
    # In place: with less memory alive (32, 64, 28, 28) takes 1 ms instead of 15, most of them for new pages.
    return _in_place.into(input, scaled.mul_(a).add_(shift).to(input.dtype), inplace)


def _affine(p: float | Tensor, drop: int | None) -> tuple[Tensor, Tensor, Tensor]:
    """a, b and a · α' + b of the realised p, in double; zeros at p = 1."""
    flag = _export.evaluates()
    if flag is not None and not isinstance(p, Tensor):
        return _of_number(threshold(p) / 2.0**32, flag)
    return _alpha.affine(_rate.as_tensor(p, drop))


def _of_number(rate: float, flag: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The same for an exported program: what arithmetic stands in it, a quantiser takes for a layer's."""
    on = (torch.full((), n, dtype=torch.float64, device="cpu") for n in alpha_numbers(rate))
    a_, b_, low = (torch.where(flag, off, n) for n, off in zip(on, (1.0, 0.0, 0.0), strict=True))
    return a_, b_, low
