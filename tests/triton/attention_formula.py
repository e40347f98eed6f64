"""Attention's kernels as the operator calls them, and the formula in double that they are held against."""

import math
from types import SimpleNamespace

import numpy as np
import torch
from arrays import numbers, rate

from thinned import Key, contract
from thinned._position import positions, row_major
from thinned.torch import _key
from thinned.torch._triton import _launch_attention

KEY = Key(11, 2**40 + 3)
# Roundings of the largest number of a result, of which 16 bits of weights are most.
# Roundings of the largest number of a result, of which 16 bits of weights are most.
TOLERANCE = {torch.float32: 3e-6, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}


def plain(q, k, v, mask, causal, scale, weights):
    """The formula, in double; `weights` of the probabilities are the mask's."""
    if q.dim() > 2 and q.shape[-3] != k.shape[-3]:
        k, v = (each.repeat_interleave(q.shape[-3] // each.shape[-3], -3) for each in (k, v))
    scores = q @ k.mT * (1 / math.sqrt(q.shape[-1]) if scale is None else scale)
    if causal:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
    nowhere = (scores == -torch.inf).all(-1, keepdim=True)
    probabilities = scores.masked_fill(nowhere, 0).softmax(-1).masked_fill(nowhere, 0)
    return (probabilities * weights) @ v


def weights_of(shape, p, key=KEY, **place):
    """What the contract makes of each probability."""
    base, strides = positions(shape, None, **place)
    strides = row_major(shape) if strides is None else strides
    at = base + sum(i * step for i, step in zip(np.ogrid[tuple(map(slice, shape))], strides, strict=True))
    return torch.from_numpy(contract.keep(key, at, contract.threshold(p)) * contract.scale(p))


def dropping(p, key=KEY, **place):
    bits = _key.key_to_tensor(key) if isinstance(key, Key) else key
    place = {name: place.get(name) for name in ("global_shape", "start", "step")}
    return SimpleNamespace(key=bits, p=p if isinstance(p, torch.Tensor) else rate(p), **place)


def forward(q, k, v, mask, causal, scale, drop):
    out, sums = q.new_empty(*q.shape[:-1], v.shape[-1]), torch.empty(*q.shape[:-1], 2)
    _launch_attention.forward(q, k, v, mask, causal, scale, drop, out, sums)
    return out, sums


def backward(grad, q, k, v, mask, causal, scale, drop, out, sums):
    results = [torch.empty_like(each) for each in (q, k, v)]
    if mask is not None and mask.is_floating_point():
        results.append(torch.empty_like(mask))
    _launch_attention.backward(grad, q, k, v, mask, causal, scale, drop, out, sums, *results)
    return results


def close(ours, theirs, dtype, times=1.0):
    error = (ours.double() - theirs).abs().max().item()
    return ours.isfinite().all() and error <= times * TOLERANCE[dtype] * max(1.0, theirs.abs().max().item())


def check(q, k, v, mask=None, causal=False, scale=None, p=0.3, drop=None, weights=None, wide=torch.float64):
    """Result and all gradients; a scale multiplies the roundings of scores, and of gradients once more.

    The plain formula is computed in the dtype `wide`.
    """
    times = max(1.0, abs(scale or 0.0))
    drop = dropping(p) if drop is None else drop
    if weights is None:
        weights = weights_of((*q.shape[:-1], k.shape[-2]), p)
    operands = [each.detach().to(wide).requires_grad_() for each in (q, k, v)]
    added = mask is not None and mask.is_floating_point()
    bias = mask.to(wide, copy=True).requires_grad_() if added else mask
    expected = plain(*operands, bias, causal, scale, weights.to(wide))
    out, sums = forward(q, k, v, mask, causal, scale, drop)
    assert close(out, expected, q.dtype, times)
    grad = numbers(out.shape, q.dtype, 9)
    found = backward(grad, q, k, v, mask, causal, scale, drop, out, sums)
    wanted = torch.autograd.grad(expected, [*operands, bias] if added else operands, grad.to(wide))
    for name, ours, theirs in zip(("query", "key", "value", "mask"), found, wanted, strict=False):
        assert close(ours, theirs, q.dtype, times**2), name


def operands(batch=(1, 2), heads=None, L=20, S=40, E=8, EV=None, dtype=torch.float32):
    of_keys = batch if heads is None else (*batch[:-1], heads)
    shapes = ((*batch, L, E), (*of_keys, S, E), (*of_keys, S, E if EV is None else EV))
    return tuple(numbers(shape, dtype, seed) for seed, shape in enumerate(shapes))


SEEN = torch.rand(20, 40, generator=torch.Generator().manual_seed(2)) < 0.6
MASKS = {
    "none": None,
    "bool": SEEN,
    "of each sample": SEEN[None, None, :1],
    "none of a tile": SEEN & (torch.arange(40) >= 32),
    "rows that look nowhere": SEEN & (torch.arange(20) % 3 != 1)[:, None],
    "added": numbers((2, 20, 40), seed=4),
    "added, shared by heads": numbers((20, 40), seed=4),
    "added, shared by rows": numbers((2, 1, 40), seed=4),
    "added, infinite": torch.where(SEEN & (torch.arange(20) % 3 != 1)[:, None], 0.5, -torch.inf),
}


def whole(mask):
    return mask if mask is None else mask.reshape((1,) * (4 - mask.dim()) + mask.shape)
