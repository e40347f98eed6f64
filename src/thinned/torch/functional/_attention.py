"""Attention whose probabilities are dropped."""

from __future__ import annotations

import math
from typing import Any, Unpack

import torch
from torch import Tensor

from thinned._arguments import DROP_ALL, REQUIRED, check_training
from thinned.contract import Key, check_probability
from thinned.torch import _autocast, _key, _mesh, _native, _operands, _operator, _rate
from thinned.torch._overrides import overridable
from thinned.torch._place import Place, Where, as_lists
from thinned.torch.functional._dropout import dropout


@overridable
def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float | Tensor = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
    *,
    training: bool = REQUIRED,
    dropout_key: Key | Tensor | None = None,
    generator: torch.Generator | None = None,
    **place: Unpack[Place],
) -> Tensor:
    """Equivalent to `torch.nn.functional.scaled_dot_product_attention`, with a mask of a key.

    Where nothing is dropped it is torch's, by the fastest of its ways. In training, softmax(query · keyᵀ ·
    scale + mask) is dropped by the mask of its own shape (…, L, S). Beside the inputs, only the probabilities
    are kept for the backward pass, as softmax keeps them; what was dropped is recomputed.

    Args:
        query: (…, L, E); float32, float64, float16 or bfloat16.
        key: (…, S, E), what queries are compared with. The mask's key is `dropout_key`, by the name of
            `dropout_p`.
        value: (…, S, Ev).
        attn_mask: broadcasts to (…, L, S): bool, True where a query may look; or floating, added to the
            scores. A query that may look nowhere gets zeros.
        dropout_p: drop probability in [0, 1]; or a floating tensor of no dimension, or one that fits
            (…, L, S): a probability for each head, say.
        is_causal: query i looks at the first i + 1 keys; not with attn_mask.
        scale: of the scores; 1/√E if not given.
        enable_gqa: each head of key and value, dimension −3, serves several of query's.
        training: True drops, False evaluates. Required: a function cannot see `model.eval()`.
        dropout_key: the mask's key, or an int64 tensor of its seed and stream.
        generator: where a key is drawn from without one; torch's default CPU generator if not given.
        **place: `global_shape`, `start` and `step` as in `dropout`, of the probabilities (…, L, S): where a
            rank has some of the heads or queries.

    Returns:
        (…, L, Ev), computed in float32 (float64 for float64) and rounded once to query's dtype, or to
        autocast's.

    Raises:
        TypeError: `training is missing: …`; `input must be float32, …, got …`; `attn_mask must be bool, …`.
        ValueError: `dropout_p must be in [0, 1], got …`; `pass attn_mask or is_causal=True, not both`;
            `… heads of key do not divide …`; `… is on … and query on …`.

    Source:
        Vaswani et al., "Attention Is All You Need", NeurIPS 2017; dropout of the probabilities as in its
        reference code. CONTRACT.md, section 3.

    Example:
        >>> import torch, thinned
        >>> q, k = torch.zeros(1, 2, 4), torch.zeros(1, 4, 4)
        >>> seen = torch.eye(4).unsqueeze(0)
        >>> scaled_dot_product_attention(q, k, seen, None, 0.5, training=True, dropout_key=thinned.Key(0))
        tensor([[[0.5000, 0.0000, 0.5000, 0.5000],
                 [0.5000, 0.5000, 0.5000, 0.5000]]])
    """
    training = check_training(training)
    _native.check_dtype(query, training)
    _check_mask(attn_mask, is_causal, query)
    _operands.one_device("query", query, key=key, value=value, attn_mask=attn_mask)
    drop = _threshold(dropout_p, query, key, enable_gqa)
    dropout_key = _key.check_source(dropout_key, generator, "dropout_key")
    if training and drop == DROP_ALL:
        # Zeros go in, lest a NaN of value reach a gradient.
        query, key, value = (dropout(each, 1.0, True) for each in (query, key, value))
        if attn_mask is not None:
            attn_mask = dropout(attn_mask, 1.0, True) if attn_mask.is_floating_point() else None
        is_causal = False
    if not training or drop in (0, DROP_ALL):
        return torch.nn.functional.scaled_dot_product_attention(
            query, key, value, attn_mask, 0.0, is_causal, scale=scale, enable_gqa=enable_gqa
        )
    to = _autocast.result_type(query)
    if enable_gqa:
        key, value = _repeated(key, query), _repeated(value, query)
    wide = torch.promote_types(query.dtype, torch.float32)
    query, key, value = query.to(wide), key.to(wide), value.to(wide)
    _mesh.check_source(query, dropout_key, generator, "dropout_key")
    bits, rate = _key.as_tensor(dropout_key, generator), _rate.as_tensor(dropout_p, drop)
    with _autocast.off(query):
        return _attend(query, key, value, attn_mask, is_causal, scale, bits, rate, place).to(to)


def _attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None,
    is_causal: bool,
    scale: float | None,
    bits: Tensor,
    rate: Tensor,
    place: Place,
) -> Tensor:
    factor = 1.0 / math.sqrt(query.shape[-1]) if scale is None else scale
    scores = (query * factor) @ key.mT
    nowhere = None
    if is_causal:
        attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=query.device).tril()
        attn_mask = _mesh.beside(query, attn_mask, divided=False)
    elif attn_mask is not None:
        attn_mask = _mesh.beside(query, attn_mask, divided=False)
        seen = attn_mask if attn_mask.dtype == torch.bool else attn_mask != -torch.inf
        nowhere = ~seen.any(-1, keepdim=True)
    if attn_mask is not None:
        scores = _masked(scores, attn_mask, nowhere)
    shape = torch.broadcast_shapes(scores.shape[:-2], value.shape[:-2])
    probabilities = scores.softmax(-1).expand(*shape, *scores.shape[-2:])
    apply: Any = (_Weighted if torch.compiler.is_compiling() else _WeightedBothModes).apply
    where = as_lists(place, probabilities.shape)
    result: Tensor = apply(probabilities, value.expand(*shape, *value.shape[-2:]), bits, rate, where)
    return result if nowhere is None else result.masked_fill(nowhere, 0)


def _masked(scores: Tensor, attn_mask: Tensor, nowhere: Tensor | None) -> Tensor:
    """Rows that may look nowhere stay finite, lest their gradients become NaN; their result is not used."""
    if attn_mask.dtype == torch.bool:
        return scores.masked_fill(~(attn_mask if nowhere is None else attn_mask | nowhere), -torch.inf)
    return scores + (attn_mask if nowhere is None else attn_mask.masked_fill(nowhere, 0))


def _check_mask(attn_mask: Tensor | None, is_causal: bool, query: Tensor) -> None:
    if attn_mask is None:
        return
    if is_causal:
        raise ValueError("pass attn_mask or is_causal=True, not both: put the causal mask into attn_mask")
    if attn_mask.dtype not in (torch.bool, torch.float32, query.dtype):
        raise TypeError(f"attn_mask must be bool, float32 or query's {query.dtype}, got {attn_mask.dtype}")


def _repeated(heads: Tensor, query: Tensor) -> Tensor:
    have, need = heads.shape[-3], query.shape[-3]
    if not have or need % have:
        raise ValueError(
            f"{have} heads of key do not divide the {need} of query: with enable_gqa each serves as many"
        )
    return heads.repeat_interleave(need // have, -3)


def _threshold(p: Any, query: Tensor, key: Tensor, enable_gqa: bool) -> int | None:
    if not isinstance(p, Tensor):
        return _rate.threshold(check_probability(p, "dropout_p"), query)
    if not p.dim():
        return _rate.threshold(p, query)
    heads = query.shape[-3:-2] if enable_gqa else key.shape[-3:-2]  # each of key's is repeated for query's
    batch = torch.broadcast_shapes(query.shape[:-2], (*key.shape[:-3], *heads))
    return _rate.threshold(p, query.new_empty(()).expand(*batch, query.shape[-2], key.shape[-2]))


class _Weighted(torch.autograd.Function):
    """The dropped probabilities times the values; backward, they are dropped again."""

    generate_vmap_rule = True

    @staticmethod
    def forward(probabilities: Tensor, value: Tensor, key: Tensor, p: Tensor, where: Where) -> Tensor:
        return _operator.dropout(probabilities, key, p, True, None, *where) @ value

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        *tensors, where = inputs
        ctx.rest = (True, None, *where)
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        probabilities, value, key, p = ctx.saved_tensors
        of_probabilities = of_value = None
        if ctx.needs_input_grad[0]:
            of_probabilities = _operator.dropout(grad @ value.mT, key, p, *ctx.rest)
        if ctx.needs_input_grad[1]:
            of_value = _operator.dropout(probabilities, key, p, *ctx.rest).mT @ grad
        return of_probabilities, of_value, None, None, None


class _WeightedBothModes(_Weighted):
    """With forward derivatives, which the compiler refuses to trace even where nobody asks for them."""

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _Weighted.setup_context(ctx, inputs, output)
        ctx.save_for_forward(*inputs[:-1])

    @staticmethod
    def jvp(ctx: Any, probabilities_t: Tensor, value_t: Tensor, *_: None) -> Tensor:
        probabilities, value, key, p = ctx.saved_tensors
        of_probabilities: Tensor = _operator.dropout(probabilities_t, key, p, *ctx.rest) @ value
        return of_probabilities + _operator.dropout(probabilities, key, p, *ctx.rest) @ value_t
