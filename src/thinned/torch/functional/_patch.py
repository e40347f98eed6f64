"""PatchDropout: some tokens of a picture alone go on."""

from __future__ import annotations

from typing import Unpack

import torch
from torch import Tensor

from thinned._arguments import REQUIRED, check_training
from thinned.contract import Key, check_integer, check_probability
from thinned.torch import _key, _mesh, _native, _rate
from thinned.torch._numbers import numbers
from thinned.torch._overrides import overridable
from thinned.torch._place import Place


@overridable
def patch_dropout(
    input: Tensor,
    p: float,
    training: bool = REQUIRED,
    *,
    prefix_tokens: int = 1,
    key: Key | Tensor | None = None,
    generator: torch.Generator | None = None,
    **place: Unpack[Place],
) -> Tensor:
    """Keep a fixed number of tokens of each sample, those of the largest numbers of the mask, in their order.

    Args:
        input: (N, L, …), tokens, of which the first may be none of the picture's.
        p: share of tokens that is dropped, a number in [0, 1]; at least one stays.
        training: True drops, False evaluates to input itself.
        prefix_tokens: so many at the beginning, class tokens, always stay.
        key: of the mask, of shape (N, L − prefix_tokens). Without one, it is drawn from `generator`.
        generator: torch's default CPU generator if not given.
        **place: `global_shape`, `start` and `step` of the (N, L − prefix_tokens) numbers.

    Returns:
        (N, prefix_tokens + max(1, ⌊(1 − p)(L − prefix_tokens)⌋), …). What is kept is not scaled.

    Raises:
        TypeError: `p must be a real number, got …`; `training is missing …`; `… a schedule of p cannot be
            compiled`.
        ValueError: `p must be in [0, 1], got …`; `p has no gradient …`; `patch_dropout takes (N, L, …), got
            shape …`.

    Source:
        Yue Liu et al., "PatchDropout: Economizing Vision Transformers Using Patch Dropout", WACV 2023.

    Example:
        >>> import torch, thinned
        >>> x = torch.arange(9.0).reshape(1, 9, 1)
        >>> patch_dropout(x, 0.5, training=True, key=thinned.Key(0)).flatten()
        tensor([0., 1., 3., 4., 7.])
    """
    training = check_training(training)
    _native.check_dtype(input, training)
    if isinstance(p, Tensor) and torch.compiler.is_compiling():
        raise TypeError("patch_dropout makes its output's shape of p: a schedule of p cannot be compiled")
    _rate.threshold(p, input)
    p = check_probability(p)
    key = _key.check_source(key, generator)
    check_integer("prefix_tokens", prefix_tokens)
    tokens = input.shape[1] - prefix_tokens if input.dim() > 1 else -1
    if tokens < 1 or prefix_tokens < 0:
        raise ValueError(
            f"patch_dropout takes (N, L, …) with more than {prefix_tokens} tokens, got shape "
            f"{tuple(input.shape)}"
        )
    if not training or p == 0:
        return input
    _mesh.check_source(input, key, generator)
    count = max(1, int((1.0 - p) * tokens))
    like = input.new_empty(()).expand(input.shape[0], tokens)
    word = numbers(like, _key.as_tensor(key, generator), "word", None, place)
    order = torch.argsort(word, dim=1, descending=True, stable=True)[:, :count].sort(dim=1).values
    first = torch.arange(prefix_tokens, device=input.device).expand(input.shape[0], prefix_tokens)
    index = torch.cat([first, order + prefix_tokens], 1)
    index = index.reshape(*index.shape, *(1,) * (input.dim() - 2)).expand(-1, -1, *input.shape[2:])
    return input.gather(1, index)
