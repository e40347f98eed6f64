"""FlexAttention drops its probabilities here (`torch.nn.attention.flex_attention` cannot)."""

from __future__ import annotations

from typing import Any, Unpack

import torch
from torch import Tensor
from torch.nn.attention import flex_attention as _module

from thinned._arguments import REQUIRED, check_training
from thinned.contract import Key, check_probability
from thinned.torch import _flex, _key, _native, _rate
from thinned.torch._flex import ScoreMod
from thinned.torch._overrides import overridable
from thinned.torch._placement import Place, as_lists

__all__ = ["flex_attention"]

_torchs: Any = _module  # whose arguments differ from version to version


@overridable
def flex_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    score_mod: ScoreMod | None = None,
    block_mask: Any = None,
    scale: float | None = None,
    enable_gqa: bool = False,
    return_lse: bool = False,
    kernel_options: Any = None,
    *,
    dropout_p: float | Tensor = 0.0,
    training: bool = REQUIRED,
    dropout_key: Key | Tensor | None = None,
    generator: torch.Generator | None = None,
    return_aux: Any = None,
    **place: Unpack[Place],
) -> Any:
    """Equivalent to `torch.nn.attention.flex_attention.flex_attention`, with a mask of a key.

    In training the probabilities are dropped after the softmax, by the mask of their shape (B, Hq, L, S). A
    score_mod computes that mask from the indices that it is given: where it is dropped a score becomes −∞.
    With Z the sum of the exponentials and Z' that of those that are kept, torch's kernel gives the kept
    average, and both logarithms: the result is that average times Z'/Z and the scale. So training takes two
    passes of torch's kernel, and nothing of size L × S is made where the kernel makes none.

    torch's kernel has no backward pass and, compiled, no logsumexp on a CPU. There the scores are made as one
    matrix a head, in this function's own operators, whenever something is dropped or needs a gradient.

    Args:
        query: (B, Hq, L, E); float32, float64, float16 or bfloat16, as torch's kernel takes them.
        key: (B, Hkv, S, E). The mask's key is `dropout_key`.
        value: (B, Hkv, S, Ev).
        score_mod: torch's, `score_mod(score, b, h, q_idx, kv_idx)`.
        block_mask: torch's, of `create_block_mask`; its `mask_mod` decides.
        scale: of the scores; 1/√E if not given.
        enable_gqa: each head of key and value serves several of query's.
        return_lse: give back the logsumexp of the scores too. Dropout does not change it.
        kernel_options: handed to torch's kernel.
        dropout_p: drop probability in [0, 1], or a floating tensor of no dimension.
        training: True drops, False evaluates. Required: a function cannot see `model.eval()`.
        dropout_key: the mask's key, or an int64 tensor of its seed and stream.
        generator: where a key is drawn from without one; torch's default CPU generator if not given.
        return_aux: torch's `AuxRequest`, in place of return_lse.
        **place: `global_shape`, `start` and `step` as in `functional.dropout`, of (B, Hq, L, S).

    Returns:
        (B, Hq, L, Ev) in query's dtype, and what was asked for beside it, in torch's form. A query all of
        whose keys are dropped, or that may look nowhere, gets zeros.

    Raises:
        TypeError: `training is missing: …`; `input must be float32, …, got …`.
        ValueError: `dropout_p must be in [0, 1], got …`; `dropout_p must be one number …`; `query, key and
            value must have 4 dimensions …`; `Hkv=… heads of key do not divide …`.

    Source:
        Dong, Feng, Guessous, Liang and He, "FlexAttention: A Programming Model for Generating Optimized
        Attention Kernels", 2024. CONTRACT.md, sections 2 and 3.

    Example:
        >>> import torch, thinned
        >>> q = k = torch.zeros(1, 1, 3, 4)
        >>> def causal(score, b, h, q_idx, kv_idx):
        ...     return torch.where(q_idx >= kv_idx, score, -torch.inf)
        >>> v = torch.eye(3)[None, None]
        >>> given = {"dropout_p": 0.25, "training": True, "dropout_key": thinned.Key(1)}
        >>> flex_attention(q, k, v, causal, **given)[0, 0]
        tensor([[0.0000, 0.0000, 0.0000],
                [0.6667, 0.0000, 0.0000],
                [0.4444, 0.4444, 0.0000]])
    """
    training = check_training(training)
    _native.check_dtype(query, training)
    shape = _shape(query, key, value, enable_gqa)
    drop = _threshold(dropout_p, query)
    dropout_key = _key.check_source(dropout_key, generator, "dropout_key")
    where = as_lists(place, shape)
    drops = training and drop != 0
    if _is_dense(drops, query, key, value):
        return _flex.dense(
            *(query, key, value, score_mod, block_mask, scale, drops and dropout_p),
            _source(dropout_key, generator) if drops else None,
            _flex.wanted(return_lse, return_aux),
            place,
        )
    if not drops:
        more = {} if return_aux is None else {"return_aux": return_aux}  # which older ones have not
        rest = (scale, enable_gqa, return_lse, kernel_options)
        return _torchs.flex_attention(query, key, value, score_mod, block_mask, *rest, **more)
    bits, rate = _key.as_tensor(dropout_key, generator), _rate.as_tensor(dropout_p, drop)
    wanted, options = _flex.wanted(return_lse, return_aux), (scale, enable_gqa)
    found = _flex.two_passes(
        query, key, value, score_mod, block_mask, options, kernel_options, bits, rate, where, wanted
    )
    return _flex.as_asked(*found, wanted)


def _shape(query: Tensor, key: Tensor, value: Tensor, enable_gqa: bool) -> tuple[int, int, int, int]:
    shapes = [tuple(x.shape) for x in (query, key, value)]
    if any(len(shape) != 4 for shape in shapes):
        raise ValueError(f"query, key and value must have 4 dimensions, (B, H, L, E), got shapes {shapes}")
    need, have = query.shape[1], key.shape[1]
    if need != have and (not enable_gqa or not have or need % have):
        raise ValueError(
            f"Hkv={have} heads of key do not divide the Hq={need} of query: with enable_gqa=True each serves "
            "as many, without it there must be as many"
        )
    return (query.shape[0], need, query.shape[2], key.shape[2])


def _threshold(p: Any, query: Tensor) -> int | None:
    if isinstance(p, Tensor) and p.dim():
        raise ValueError(
            f"dropout_p must be one number or a tensor of no dimension, got shape {tuple(p.shape)}"
        )
    return _rate.threshold(p if isinstance(p, Tensor) else check_probability(p, "dropout_p"), query)


def _is_dense(drops: bool, *inputs: Tensor) -> bool:
    """Tells whether torch's kernel cannot do it: a CPU has no gradient nor, compiled, a logsumexp."""
    on_cpu = inputs[0].device.type in ("cpu", "mps")
    return on_cpu and (drops or (torch.is_grad_enabled() and any(x.requires_grad for x in inputs)))


def _source(key: Key | Tensor | None, generator: torch.Generator | None) -> Key | Tensor:
    return _key.draw(generator) if key is None else key
