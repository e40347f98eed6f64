"""FlexAttention with dropout of its probabilities (`torch.nn.attention.flex_attention` has none)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Unpack

import torch
from torch import Tensor
from torch.nn.attention import flex_attention as _torchs

from thinned._arguments import REQUIRED, check_training
from thinned._position import positions, row_major
from thinned.contract import Key, check_probability
from thinned.torch import _key, _native, _operator, _plain, _rate, functional
from thinned.torch._overrides import overridable
from thinned.torch._place import Place, as_lists

__all__ = ["flex_attention"]

ScoreMod = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]


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
        return _dense(
            *(query, key, value, score_mod, block_mask, scale, drops and dropout_p),
            _source(dropout_key, generator) if drops else None,
            _wanted(return_lse, return_aux),
            place,
        )
    options = (scale, enable_gqa)
    if not drops:
        return _fused(query, key, value, score_mod, block_mask, *options, return_lse, kernel_options, return_aux)
    rate = _rate.as_tensor(dropout_p, drop)
    bits = _key.as_tensor(dropout_key, generator)
    wanted = _wanted(return_lse, return_aux)
    output, lse, most = _two_passes(
        query, key, value, score_mod, block_mask, options, kernel_options, bits, rate, where, wanted
    )
    return _as_asked(output, lse, most, wanted)


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


def _source(key: Key | Tensor | None, generator: torch.Generator | None) -> Key | Tensor:
    return _key.draw(generator) if key is None else key


def _is_dense(drops: bool, *inputs: Tensor) -> bool:
    """Whether torch's kernel cannot do it: on a CPU it gives no gradient, nor, compiled, a logsumexp."""
    on_cpu = inputs[0].device.type in ("cpu", "mps")
    return on_cpu and (drops or (torch.is_grad_enabled() and any(x.requires_grad for x in inputs)))


def _wanted(return_lse: bool, return_aux: Any) -> tuple[bool, bool, bool]:
    """Whether the logsumexp is asked for, the largest score, and both in a structure."""
    if return_aux is None:
        return return_lse, False, False
    if return_lse:
        raise ValueError("pass return_lse or return_aux, not both: return_aux=AuxRequest(lse=True)")
    return return_aux.lse, return_aux.max_scores, True


def _as_asked(output: Tensor, lse: Tensor, most: Tensor | None, wanted: tuple[bool, bool, bool]) -> Any:
    want_lse, want_most, structured = wanted
    if structured:
        return output, _torchs.AuxOutput(
            lse=lse if want_lse else None, max_scores=most if want_most else None
        )
    return (output, lse) if want_lse else output


def _fused(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    score_mod: Any,
    block_mask: Any,
    scale: float | None,
    enable_gqa: bool,
    return_lse: bool,
    kernel_options: Any,
    return_aux: Any,
) -> Any:
    """torch's, of which older ones have no return_aux."""
    more = {} if return_aux is None else {"return_aux": return_aux}
    return _torchs.flex_attention(
        query, key, value, score_mod, block_mask, scale, enable_gqa, return_lse, kernel_options, **more
    )


def _two_passes(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    score_mod: ScoreMod | None,
    block_mask: Any,
    options: tuple[float | None, bool],
    kernel_options: Any,
    bits: Tensor,
    rate: Tensor,
    where: Any,
    wanted: tuple[bool, bool, bool],
) -> tuple[Tensor, Tensor, Tensor | None]:
    """The kept average times the share of what is kept: by two logsumexps."""
    thinned_mod, factor = _dropping(score_mod, query, key, bits, rate, where)
    inputs, rest = (query, key, value), (block_mask, *options)
    kept, lse_kept, _ = _with_lse(*inputs, thinned_mod, *rest, kernel_options, False)
    _, lse, most = _with_lse(*inputs, score_mod, *rest, kernel_options, wanted[1])
    # No NaN, nor a gradient of one, where nothing is looked at.
    nothing = lse_kept == -torch.inf
    share = (lse_kept.masked_fill(nothing, 0.0) - lse.masked_fill(nothing, 0.0)).exp() * factor
    output = kept.to(share.dtype) * share.masked_fill(nothing, 0.0).unsqueeze(-1)
    return output.to(query.dtype), lse, most


def _with_lse(*call: Any) -> tuple[Tensor, Tensor, Tensor | None]:
    *arguments, kernel_options, want_most = call
    request = getattr(_torchs, "AuxRequest", None)
    if request is None:
        output, lse = _torchs.flex_attention(*arguments, True, kernel_options)
        return output, lse, None
    aux = request(lse=True, max_scores=True) if want_most else request(lse=True)
    output, given = _torchs.flex_attention(*arguments, False, kernel_options, return_aux=aux)
    return output, given.lse, given.max_scores


def _dropping(
    score_mod: ScoreMod | None, query: Tensor, key: Tensor, bits: Tensor, rate: Tensor, where: Any
) -> tuple[ScoreMod, Tensor]:
    """A score_mod that forbids what is dropped, by torch's own operators; and the scale."""
    shape = (query.shape[0], query.shape[1], query.shape[2], key.shape[2])
    base, steps = positions(shape, None, *where)
    of_batch, of_head, of_query, of_key = steps or row_major(shape)
    drop, factor = _operator.rates(rate)
    words, drop = bits.to(query.device), drop.to(query.device)

    def dropped(score: Tensor, b: Tensor, h: Tensor, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
        position = base + b.long() * of_batch + h.long() * of_head + q_idx.long() * of_query
        position = position + kv_idx.long() * of_key
        score = score if score_mod is None else score_mod(score, b, h, q_idx, kv_idx)
        kept = _plain.keeps(position, (words[0], words[1]), drop)
        return torch.where(kept, score, -torch.inf)

    return dropped, factor.to(query.device, torch.float32)


def _dense(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    score_mod: ScoreMod | None,
    block_mask: Any,
    scale: float | None,
    p: Any,
    dropout_key: Key | Tensor | None,
    wanted: tuple[bool, bool, bool],
    place: Place,
) -> Any:
    """The same by whole matrices of scores."""
    repeats = query.shape[1] // key.shape[1] if key.shape[1] else 1
    if repeats > 1:
        key, value = key.repeat_interleave(repeats, 1), value.repeat_interleave(repeats, 1)
    wide = torch.promote_types(query.dtype, torch.float32)
    factor = 1.0 / math.sqrt(query.shape[-1]) if scale is None else scale
    scores = (query.to(wide) @ key.to(wide).mT) * factor
    scores = _modified(scores, score_mod, block_mask)
    nothing = (scores == -torch.inf).all(-1, keepdim=True)
    scores = scores.masked_fill(nothing, 0.0)
    probabilities = scores.softmax(-1).masked_fill(nothing, 0.0)
    if dropout_key is not None:
        probabilities = functional.dropout(probabilities, p, True, key=dropout_key, **place)
    output = (probabilities @ value.to(wide)).to(query.dtype)
    lse = scores.logsumexp(-1).masked_fill(nothing.squeeze(-1), -torch.inf)
    most = scores.amax(-1).masked_fill(nothing.squeeze(-1), -torch.inf) if wanted[1] else None
    return _as_asked(output, lse, most, wanted)


def _modified(scores: Tensor, score_mod: ScoreMod | None, block_mask: Any) -> Tensor:
    """Scores after score_mod, and −∞ where the mask forbids: each is asked for one position at a time."""
    indices = [torch.arange(size, device=scores.device) for size in scores.shape]
    if score_mod is not None:
        scores = _mapped(score_mod, (0,))(scores, *indices).to(scores.dtype)
    if block_mask is not None:
        allowed = _mapped(block_mask.mask_mod, ())(*indices)
        scores = scores.masked_fill(~allowed, -torch.inf)
    return scores


def _mapped(function: Any, of_scores: tuple[int, ...]) -> Any:
    for axis in (3, 2, 1, 0):
        function = torch.vmap(function, (*of_scores, *(0 if axis == at else None for at in range(4))))
    return function
