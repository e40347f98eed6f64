"""FlexAttention drops here by two passes of torch's kernel, or by whole matrices of scores."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import flex_attention as _module

from thinned._position import positions, row_major
from thinned.contract import Key
from thinned.torch import _operator, _plain, functional
from thinned.torch._placement import Place, Where

_torchs: Any = _module  # whose names differ from version to version

ScoreMod = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]
# Whether the logsumexp is asked for, the largest score, and both in a structure.
Wanted = tuple[bool, bool, bool]


def wanted(return_lse: bool, return_aux: Any) -> Wanted:
    """Return what is asked for beside the output."""
    if return_aux is None:
        return return_lse, False, False
    if return_lse:
        raise ValueError("pass return_lse or return_aux, not both: return_aux=AuxRequest(lse=True)")
    return return_aux.lse, return_aux.max_scores, True


def as_asked(output: Tensor, lse: Tensor, most: Tensor | None, wanted: Wanted) -> Any:
    """Output and what else is asked for, in torch's form."""
    want_lse, want_most, structured = wanted
    if structured:
        return output, _torchs.AuxOutput(
            lse=lse if want_lse else None, max_scores=most if want_most else None
        )
    return (output, lse) if want_lse else output


def two_passes(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    score_mod: ScoreMod | None,
    block_mask: Any,
    options: tuple[float | None, bool],
    kernel_options: Any,
    bits: Tensor,
    rate: Tensor,
    where: Where,
    wanted: Wanted,
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
    score_mod: ScoreMod | None, query: Tensor, key: Tensor, bits: Tensor, rate: Tensor, where: Where
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


def dense(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    score_mod: ScoreMod | None,
    block_mask: Any,
    scale: float | None,
    p: Any,
    dropout_key: Key | Tensor | None,
    wanted: Wanted,
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
    return as_asked(output, lse, most, wanted)


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
