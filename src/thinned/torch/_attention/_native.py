"""The kernel computes attention through this file, for the calls that it serves."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from thinned import _kernel
from thinned._position import positions, row_major
from thinned.torch import _native, _operator
from thinned.torch._attention._formula import Call, factor_of
from thinned.torch._batching import Sizes

_DTYPES = (torch.float32, torch.float16, torch.bfloat16)
_NO_MASK, _BOOL, _ADDED = range(3)


def serves(query: Tensor, value: Tensor, p: Tensor, step: Sizes = None) -> bool:
    """Tells whether the kernel serves a call: one p in all of a head, whose positions are consecutive."""
    return (
        query.is_cpu
        and query.dtype in _DTYPES
        and _kernel.path() != _kernel.REFERENCE
        and (not p.dim() or tuple(p.shape[-2:]) == (1, 1))
        and (step is None or step[-1] == 1)
        and query.shape[-1] > 0
        and value.shape[-1] > 0
    )


def forward(call: Call, out: Tensor, logsumexp: Tensor) -> None:
    """Write the result and each row's logsumexp of the scores."""
    with torch.no_grad():
        to = _by_rows(out, written=True)
        _Layout(call).run(False, [*call[:3], to, logsumexp])
        if to is not out:
            out.copy_(to)


def backward(grad: Tensor, call: Call, out: Tensor, logsumexp: Tensor, *results: Tensor) -> None:
    """Write the gradients of query, key and value."""
    with torch.no_grad():
        to = [_by_rows(each, written=True) for each in results]
        _Layout(call).run(True, [*call[:3], out, logsumexp, grad, *to])
        for result, one in zip(results, to, strict=True):
            if result is not one:
                result.copy_(one)


def _by_rows(tensor: Tensor, written: bool = False) -> Tensor:
    """The tensor itself where rows lie in one piece and elements where the machine reads whole ones."""
    whole = tensor.stride(-1) == 1 or tensor.shape[-1] == 1
    if whole and not tensor.data_ptr() % tensor.element_size():
        return tensor
    return torch.empty(tensor.shape, dtype=tensor.dtype) if written else tensor.clone().contiguous()


class _Layout:
    """Holds what is the same forward and backward: where a head finds its mask, key, p and positions."""

    def __init__(self, call: Call) -> None:
        query, key, _, attn_mask, is_causal, scale, drop = call
        heads = query.shape[:-2] or (1,)
        served = key.shape[-3] if key.dim() > 2 else 1
        self.group = heads[-1] // served
        self.lead = [*heads[:-1], served, self.group]
        many = drop.key.dim() - 1
        shape = (*query.shape[many:-1], key.shape[-2])
        base, strides = positions(shape, None, *drop[2:])
        *fronts, row, column = row_major(shape) if strides is None else strides
        words = drop.key.cpu().contiguous()
        rates = _rates(drop.p)
        # Beside each tensor the steps of its heads' dimensions, of rows and of columns.
        self.beside: list[tuple[Tensor | None, list[int]]] = [
            (attn_mask, [0] * len(self.lead) + [0, 0]),
            (words, [*self._spread([*words.stride()[:-1], *(0 for _ in fronts)], True), 0, 1]),
            (rates, [*self._spread(_steps(rates)[:-1], True), 0, 1]),
        ]
        if attn_mask is not None:
            steps = _steps(attn_mask)
            self.beside[0] = (attn_mask, [*self._spread(steps[:-2], True), *steps[-2:]])
        self.positions = [*self._spread([0] * many + list(fronts), True), row, column]
        mask_kind, mask_dtype = _NO_MASK, 0
        if attn_mask is not None:
            mask_kind = _BOOL if attn_mask.dtype == torch.bool else _ADDED
            mask_dtype = _native.DTYPES.get(attn_mask.dtype, 0)
        self.sizes = [query.shape[-2], key.shape[-2], query.shape[-1]]
        factor = factor_of(query, scale)
        self.rest = (mask_kind, mask_dtype, base, factor, is_causal, torch.get_num_threads())

    def _spread(self, steps: Sequence[int], by_query: bool) -> list[int]:
        """Steps along `lead`, of an array that has a head for each of query's, or of key's."""
        front = list(steps) or [0]
        front = [0] * (len(self.lead) - 1 - len(front)) + front
        return [*front[:-1], front[-1] * self.group, front[-1]] if by_query else [*front, 0]

    def run(self, backward: bool, operands: list[Tensor]) -> None:
        """Call the kernel: operands are q, k, v, out, logsumexp, then grad, dq, dk, dv."""
        _native._borrow_team()
        dtype = _native.DTYPES[operands[0].dtype]
        of_key = (1, 2, 7, 8)
        steps = []
        for at, each in enumerate(operands):
            if at < 4 or at == 5:
                each = operands[at] = _by_rows(each)
            strides = each.stride()
            steps.append([*self._spread(strides[:-2], at not in of_key), *strides[-2:]])
        data = [each.data_ptr() for each in operands]
        beside = [0 if each is None else each.data_ptr() for each, _ in self.beside]
        data[5:5], steps[5:5] = beside, [each for _, each in self.beside]
        data += [0] * (12 - len(data)) + [0]
        steps += [[0] * (len(self.lead) + 2)] * (12 - len(steps)) + [self.positions]
        sizes = [*self.sizes, operands[2].shape[-1]]
        _kernel.attention(backward, dtype, self.lead, sizes, data, steps, *self.rest)


def _steps(tensor: Tensor) -> list[int]:
    """Strides, 0 along dimensions that are shared."""
    return [step if size > 1 else 0 for size, step in zip(tensor.shape, tensor.stride(), strict=True)]


def _rates(p: Tensor) -> Tensor:
    """Returns for each head its threshold and the bits of its factor."""
    drop, factor = _operator.rates(p.reshape(p.shape[:-2]) if p.dim() else p, True)
    return torch.stack([drop.cpu(), factor.cpu().view(torch.int64)], -1)
