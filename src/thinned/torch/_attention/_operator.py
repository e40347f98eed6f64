"""The operators `thinned::attention` and `thinned::attention_backward` are registered here.

Nothing of L × S is stored: the forward pass keeps of each row of scores the logarithm of its sum of
exponentials, and the backward pass computes probabilities and mask again.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from thinned.torch import _cuda, _inductor, _key, _operands
from thinned.torch._attention import _blocks, _formula, _native
from thinned.torch._attention._autograd import differentiable
from thinned.torch._attention._formula import Call, Drop
from thinned.torch._batching import Sizes

_library = torch.library.Library("thinned", "FRAGMENT")

# Query is (…, H, L, E), key (…, K, S, E) and value (…, K, S, Ev): of one dtype, of as many dimensions, of
# equal sizes but for K, which divides H (each head of key serves H / K of query, one after another). Mask and
# p have for each dimension of the probabilities (…, H, L, S) their size or 1; p may have no dimension.
# Dimensions of dropout_key in front of its last are the probabilities' first ones, one key each; positions,
# and the three sizes, count in what remains. No scale means 1 / √E. Results: (…, H, L, Ev) in query's dtype,
# and logsumexp of the scores (…, H, L, 2): each row's largest score, and the logarithm of its sum of
# exponentials from there; −inf in rows that may look nowhere. In float64 for float64, else in float32. Beside
# scores of −1e9, as masks make them, one number has no place for both.
_library.define(
    "attention(Tensor query, Tensor key, Tensor value, Tensor? attn_mask, Tensor dropout_key, Tensor p, "
    "bool is_causal=False, float? scale=None, SymInt[]? global_shape=None, SymInt[]? start=None, "
    "SymInt[]? step=None) -> (Tensor, Tensor)"
)
# Gradients of query, key, value and attn_mask; the last is empty without `mask_grad`.
_library.define(
    "attention_backward(Tensor grad, Tensor query, Tensor key, Tensor value, Tensor? attn_mask, Tensor out, "
    "Tensor logsumexp, Tensor dropout_key, Tensor p, bool mask_grad, bool is_causal=False, "
    "float? scale=None, SymInt[]? global_shape=None, SymInt[]? start=None, SymInt[]? step=None)"
    " -> (Tensor, Tensor, Tensor, Tensor)"
)

Four = tuple[Tensor, Tensor, Tensor, Tensor]


def attention(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None, dropout_key: Tensor, *rest: Any
) -> Tensor:
    """Call `thinned::attention`: the result alone."""
    out: Tensor = torch.ops.thinned.attention(query, key, value, attn_mask, dropout_key, *rest)[0]
    return out


def empty_results(query: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """Memory for both results: the first as query lies, where it has query's shape."""
    width = value.shape[-1]
    wide = torch.promote_types(query.dtype, torch.float32)
    out = torch.empty_like(query) if query.shape[-1] == width else query.new_empty((*query.shape[:-1], width))
    return out, query.new_empty((*query.shape[:-1], 2), dtype=wide)


def empty_gradients(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None, mask_grad: bool
) -> Four:
    """Memory for the four gradients."""
    of_mask = torch.empty_like(attn_mask) if attn_mask is not None and mask_grad else query.new_empty(0)
    return torch.empty_like(query), torch.empty_like(key), torch.empty_like(value), of_mask


def check(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, bits: Tensor, p: Tensor) -> None:
    """Refuse operands that do not fit one another.

    Raises:
        TypeError, ValueError: as `_operands.check`; `query of shape …, key … and value … do not fit`;
            `attn_mask of shape … does not fit …`.
    """
    fits = query.dim() == key.dim() == value.dim() >= 2 and query.dtype == key.dtype == value.dtype
    fits = fits and query.shape[:-3] == key.shape[:-3] == value.shape[:-3]
    fits = fits and query.shape[-1] == key.shape[-1] and key.shape[-3:-1] == value.shape[-3:-1]
    if fits and query.dim() > 2 and query.shape[-3] != key.shape[-3]:
        fits = key.shape[-3] > 0 and query.shape[-3] % key.shape[-3] == 0
    if not fits:
        shapes = [f"{each.dtype} {tuple(each.shape)}" for each in (query, key, value)]
        raise ValueError("query {}, key {} and value {} do not fit one another".format(*shapes))
    weights = query.new_empty(()).expand(*query.shape[:-1], key.shape[-2])
    _operands.check("thinned::attention", weights, bits, p)
    _operands.one_device("query", query, key=key, value=value, attn_mask=mask)
    if mask is not None and not (
        mask.dim() == weights.dim()
        and all(one in (1, size) for one, size in zip(mask.shape, weights.shape, strict=True))
    ):
        raise ValueError(f"attn_mask of shape {tuple(mask.shape)} does not fit {tuple(weights.shape)}")


def _forward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None,
    dropout_key: Tensor,
    p: Tensor,
    is_causal: bool = False,
    scale: float | None = None,
    *where: Sizes,
) -> tuple[Tensor, Tensor]:
    check(query, key, value, attn_mask, dropout_key, p)
    out, logsumexp = empty_results(query, value)
    if not key.shape[-2]:
        return out.zero_(), logsumexp.fill_(-torch.inf)
    if not out.numel():
        return out, logsumexp.fill_(-torch.inf)  # no Ev: it is never read
    call = Call(query, key, value, attn_mask, is_causal, scale, Drop(dropout_key, p, *where))
    if _cuda.multiplies(query) and (kernels := _kernels(query, value, dropout_key, p)):
        kernels.forward(*call, out, logsumexp)
        return out, logsumexp
    run: Any = _native.forward if _native.serves(query, value, p, *where[2:]) else _blocks.forward
    run(call, out, logsumexp)
    return out, logsumexp


def _backward(
    grad: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None,
    out: Tensor,
    logsumexp: Tensor,
    dropout_key: Tensor,
    p: Tensor,
    mask_grad: bool,
    is_causal: bool = False,
    scale: float | None = None,
    *where: Sizes,
) -> Four:
    check(query, key, value, attn_mask, dropout_key, p)
    results = empty_gradients(query, key, value, attn_mask, mask_grad)
    if not grad.numel() or not key.shape[-2]:
        return tuple(each.zero_() for each in results)  # type: ignore[return-value]
    call = Call(query, key, value, attn_mask, is_causal, scale, Drop(dropout_key, p, *where))
    if _cuda.multiplies(query) and (kernels := _kernels(query, value, dropout_key, p)):
        kernels.backward(grad, *call, out, logsumexp, *results)
        return results
    if not results[3].numel() and _native.serves(query, value, p, *where[2:]):
        _native.backward(grad, call, out, logsumexp, *results[:3])
        return results
    found = _blocks.backward(grad, call, bool(results[3].numel()))
    for result, one in zip(results, found, strict=True):
        if one is not None:
            result.copy_(one)
    return results


def _kernels(query: Tensor, value: Tensor, dropout_key: Tensor, p: Tensor) -> Any:
    """The kernels for CUDA, where they do this."""
    from thinned.torch._triton import _launch_attention

    return _launch_attention if _launch_attention.serves(query, value, dropout_key, p) else None


def _forward_fake(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None,
    dropout_key: Tensor,
    p: Tensor,
    *_: Any,
) -> tuple[Tensor, Tensor]:
    _inductor.tell()
    check(query, key, value, attn_mask, dropout_key, p)
    return empty_results(query, value)


def _backward_fake(
    grad: Tensor, query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None, *rest: Any
) -> Four:
    _inductor.tell()
    return empty_gradients(query, key, value, attn_mask, rest[4])


def _over_batch(name: str) -> Any:
    """The rule for vmap, whose dimension becomes the first of all tensors."""

    def rule(info: Any, in_dims: Any, *args: Any) -> tuple[Any, Any]:
        at_bits = len(_TENSORS[name]) - 2
        rank = args[0].dim() - (in_dims[0] is not None)
        tensors = []
        for number, tensor in enumerate(args[: at_bits + 2]):
            if tensor is not None and (number <= at_bits or tensor.dim()):
                dim = in_dims[number]
                tensor = tensor.unsqueeze(0) if dim is None else tensor.movedim(dim, 0)
                if number <= at_bits:  # a mask too: backward, each example has a gradient of its own
                    tensor = tensor.expand(info.batch_size, *tensor.shape[1:])
                elif tensor.dim() == 1:
                    tensor = tensor.reshape(-1, *(1,) * rank)
            tensors.append(tensor)
        results = getattr(torch.ops.thinned, name)(*tensors, *args[at_bits + 2 :])
        return results, (0,) * len(results)

    return rule


def _call_backward(ctx: Any, grad: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
    query, key, value, mask, bits, p, out, logsumexp = ctx.saved_tensors
    mask_grad = mask is not None and ctx.needs[3]
    found = torch.ops.thinned.attention_backward(
        *(grad, query, key, value, mask, out, logsumexp, bits, p, mask_grad), *ctx.constants
    )
    return (*(one if needed else None for one, needed in zip(found, ctx.needs, strict=False)), None, None)


def _forward_formula(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    bits: Tensor,
    p: Tensor,
    is_causal: bool = False,
    scale: float | None = None,
    *where: Sizes,
) -> tuple[Tensor, ...]:
    """Return what forward derivatives are taken of."""
    q, k, v, m = _widened(query, key, value, mask)
    call = Call(q, k, v, m, is_causal, scale, Drop(bits, p, *where))
    return (_formula.forward(call).to(query.dtype),)


def _backward_formula(
    grad: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    out: Tensor,
    logsumexp: Tensor,
    bits: Tensor,
    p: Tensor,
    mask_grad: bool,
    is_causal: bool = False,
    scale: float | None = None,
    *where: Sizes,
) -> tuple[Tensor, ...]:
    """Return what second derivatives are taken of: the result and the sums are functions of the rest."""
    g, q, k, v, m = _widened(grad, query, key, value, mask)
    call = Call(q, k, v, m, is_causal, scale, Drop(bits, p, *where))
    *found, of_scores = _formula.backward(g, call)
    found = [one.to(like.dtype) for one, like in zip(found, (query, key, value), strict=True)]
    if mask is None or not mask_grad:
        return (*found, query.new_empty(0))
    return (*found, _formula.of_mask(of_scores, mask).to(mask.dtype))


def _widened(*tensors: Tensor | None) -> list[Any]:
    return [
        each
        if each is None or each.dtype == torch.bool
        else each.to(torch.promote_types(each.dtype, torch.float32))
        for each in tensors
    ]


_FORWARD = ("query", "key", "value", "attn_mask", "dropout_key", "p")
_TENSORS = {
    "attention": _FORWARD,
    "attention_backward": ("grad", *_FORWARD[:4], "out", "logsumexp", *_FORWARD[4:]),
}
for _name, _run, _fake in (
    ("attention", _forward, _forward_fake),
    ("attention_backward", _backward, _backward_fake),
):
    _library.impl(_name, _run, "CompositeExplicitAutograd")
    torch.library.register_fake(f"thinned::{_name}", _fake, lib=_library)
    torch.library.register_vmap(f"thinned::{_name}", _over_batch(_name), lib=_library)
    _key.vmap_with_keys(_library, _name, _TENSORS[_name].index("dropout_key"))
differentiable(_library, "attention", 6, 1, _call_backward, _forward_formula)
differentiable(_library, "attention_backward", 9, 0, None, _backward_formula)
