"""Calls of the attention kernels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import triton  # type: ignore[import-untyped]
from torch import Tensor

from thinned._position import positions, row_major
from thinned.torch._triton import (
    _attention,
    _attention_keys,
    _attention_masks,
    _attention_parts,
    _attention_queries,
    _tile,
)
from thinned.torch._triton._launch import arguments, on_device
from thinned.torch._triton._problems import Problems, problems
from thinned.torch._triton._tiles import tile

WIDEST = 256
DTYPES = (torch.float32, torch.float16, torch.bfloat16)

_OPERANDS = ("q", "k", "v", "mask")
_OF_KEYS = ("k", "v", "grad_k", "grad_v")


def serves(query: Tensor, value: Tensor, dropout_key: Tensor, p: Tensor) -> bool:
    """Whether these kernels do it: for one p or one for each head, and heads of up to 256."""
    return (
        query.dtype in DTYPES
        and max(query.shape[-1], value.shape[-1]) <= WIDEST
        and (p.numel() == 1 or p.shape[-2:] == (1, 1))
        and dropout_key.dim() - 1 <= query.dim() - 2
    )


def forward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None,
    is_causal: bool,
    scale: float | None,
    drop: Any,
    out: Tensor,
    logsumexp: Tensor,
) -> None:
    """Write the result and each row's logsumexp of the scores, in two parts."""
    call = _Call(query, key, value, attn_mask, is_causal, scale, drop)
    call.tensors |= {"out": _rows(out), "lse": logsumexp}
    call.run(_attention.forward, "out", "lse", tiled=["BM"])
    _put(out, call.tensors["out"])


def backward(
    grad: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None,
    is_causal: bool,
    scale: float | None,
    drop: Any,
    out: Tensor,
    logsumexp: Tensor,
    of_query: Tensor,
    of_key: Tensor,
    of_value: Tensor,
    of_mask: Tensor | None = None,
) -> None:
    """Write the gradients of query, key, value and, where there is one, of the mask."""
    call = _Call(query, key, value, attn_mask, is_causal, scale, drop)
    logsumexp = logsumexp.contiguous()
    call.tensors |= {"out": _readable(out), "grad": _readable(grad), "lse": logsumexp}
    call.tensors |= {"grad_q": _rows(of_query), "grad_k": _rows(of_key), "grad_v": _rows(of_value)}
    rest: dict[str, Any] = {"delta": logsumexp.new_empty(logsumexp.shape[:-1])}
    call.run(_attention_queries.queries, "out", "lse", "grad", "grad_q", tiled=["BM"], **rest)
    call.run(
        *(_attention_keys.keys_and_values, "lse", "grad", "grad_k", "grad_v"),
        tiled=["BN"],
        shared=("grad_k", "grad_v"),
        **rest,
    )
    for target, name in ((of_query, "grad_q"), (of_key, "grad_k"), (of_value, "grad_v")):
        _put(target, call.tensors[name])
    if attn_mask is not None and of_mask is not None and of_mask.numel():
        # Added up along rows and columns that share a number of the mask.
        shared = [axis for axis in (-2, -1) if attn_mask.shape[axis] != call.ends[axis]]
        dtype = torch.float32 if shared else attn_mask.dtype
        call.tensors["grad_mask"] = torch.empty(
            (*attn_mask.shape[:-2], *call.ends), dtype=dtype, device=query.device
        )
        call.run(
            *(_attention_masks.attn_masks, "lse", "grad", "grad_mask"),
            tiled=["BM", "BN"],
            shared=("grad_mask",),
            **rest,
        )
        found = call.tensors["grad_mask"]
        of_mask.copy_(found.sum(shared, keepdim=True) if shared else found)


class _Call:
    """What all kernels take; tensors by the names that kernels have for them."""

    def __init__(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None,
        is_causal: bool,
        scale: float | None,
        drop: Any,
    ) -> None:
        self.batch, self.groups = query.shape[:-2], key.shape[-3] if key.dim() > 2 else 1
        self.ends = L, S = query.shape[-2], key.shape[-2]
        self.sizes = {"L": L, "S": S, "E": query.shape[-1], "EV": value.shape[-1]}
        self.query = query
        self.tensors: dict[str, Tensor] = {"q": _readable(query), "k": _readable(key), "v": _readable(value)}
        # What the kernel is told not to read is the query.
        self.tensors["mask"] = self.tensors["q"] if attn_mask is None else attn_mask
        kind = _attention_parts.NONE if attn_mask is None else _attention_parts.ADDED
        if attn_mask is not None and attn_mask.dtype == torch.bool:
            kind, self.tensors["mask"] = _attention_parts.BOOL, attn_mask.view(torch.uint8)
        self.scale = 1.0 / math.sqrt(query.shape[-1]) if scale is None else scale
        self.flags: dict[str, Any] = {"MASK": kind.value, "CAUSAL": is_causal}
        self._place(drop)

    def _place(self, drop: Any) -> None:
        """Key, p and positions: numbers, or steps by the problem."""
        key, p = drop.key, drop.p
        many = key.dim() - 1
        shape = (*self.batch[many:], *self.ends)
        self.base, strides = positions(shape, None, drop.global_shape, drop.start, drop.step)
        strides = row_major(shape) if strides is None else strides
        if many or key.stride(-1) != 1:
            key = (on_device("key", key, self.query) if many else key).contiguous()
        if p.numel() > 1:
            p = on_device("p", p, self.query)
        self.extra = {
            "position": (*(0,) * many, *strides[:-2]),
            "key": (*key.stride()[:-1], *(0,) * (len(self.batch) - many)),
            "p": _steps(p, -2) if p.numel() > 1 else (0,) * len(self.batch),
        }
        self.apart = strides[-2:]
        how = _tile.APART
        if strides[-1] == 1:
            taken = (step for size, step in zip(shape[:-1], strides[:-1], strict=True) if size > 1)
            aligned = not any(number % 8 for number in (self.base, *taken))
            how = _tile.ALIGNED if aligned else _tile.CONSECUTIVE
        what, flags = arguments(self.query, key, p, True)
        if not flags["P_HERE"] and what[4] == 0:
            how = _tile.NOTHING
        names = ("key", "p", "seed", "stream", "drop", "factor")
        self.what = dict(zip(names, what, strict=True))
        self.flags |= flags | {"HOW": how.value}

    def problems(self, names: Sequence[str]) -> Problems:
        steps: dict[str, Sequence[int]] = {name: _steps(self.tensors[name], -2) for name in names}
        if "lse" in steps:  # they count queries: each has two numbers here, and one in delta
            steps["lse"] = tuple(step // 2 for step in steps["lse"])
        if not self.flags["MASK"]:
            steps["mask"] = (0,) * len(self.batch)
        return problems(self.batch, self.groups, steps | self.extra, _OF_KEYS)

    def run(
        self, kernel: Any, *names: str, tiled: list[str], shared: tuple[str, ...] = (), **rest: Any
    ) -> None:
        """Launch a kernel that has tiles of L, of S or of both, for the problems that do not share these."""
        names = (*_OPERANDS, *names)
        found, count = self.problems(names), 1
        if shared:
            found, count = found.last(*shared)
            rest["together"] = count
        for name in names:
            rest |= {name: self.tensors[name], f"{name}_steps": found.steps(name)}
            if name not in ("lse", "grad_mask"):
                rest[f"{name}_row"] = self.tensors[name].stride(-2)
        for name in self.extra:
            rest[f"{name}_steps"] = found.steps(name)
        rest["mask_row"], rest["mask_column"] = _moves(self.tensors["mask"]) if self.flags["MASK"] else (0, 0)
        rest["position_row"], rest["position_column"] = self.apart
        wide = [max(16, triton.next_power_of_2(self.sizes[name])) for name in ("E", "EV")]
        chosen = tile(kernel.fn.__name__, max(wide), self.query.element_size())._asdict()
        programs = found.count // count
        for name in tiled:
            programs *= triton.cdiv(self.sizes["L" if name == "BM" else "S"], chosen[name])
        rest |= self.what | self.flags | self.sizes | chosen
        rest |= {"base": self.base, "scale": self.scale, "sizes": found.sizes()}
        rest |= {"WE": wide[0], "WV": wide[1], "EVEN": wide == [self.sizes["E"], self.sizes["EV"]]}
        rest["PRECISION"] = _precision(self.query)
        options = {name: chosen[name] for name in ("num_warps", "num_stages")}
        with torch.cuda.device_of(self.query):
            kernel[(programs,)](*(rest[name] for name in kernel.arg_names), **options)


def _precision(query: Tensor) -> str:
    """How float32 numbers are multiplied: as torch's own products of matrices are."""
    if query.dtype != torch.float32:
        return "ieee"
    setting = torch.backends.cuda.matmul
    tf32 = setting.fp32_precision == "tf32" if hasattr(setting, "fp32_precision") else setting.allow_tf32
    return "tf32" if tf32 else "ieee"


def _readable(tensor: Tensor) -> Tensor:
    """Rows of it are consecutive elements."""
    return tensor if tensor.stride(-1) == 1 else tensor.contiguous()


def _rows(result: Tensor) -> Tensor:
    """Where a kernel writes a result."""
    return (
        result if result.stride(-1) == 1 else torch.empty_like(result, memory_format=torch.contiguous_format)
    )


def _put(target: Tensor, result: Tensor) -> None:
    if target is not result:
        target.copy_(result)


def _steps(tensor: Tensor, end: int) -> tuple[int, ...]:
    """Of the dimensions in front; 0 along those of size 1."""
    sizes, strides = tensor.shape[:end], tensor.stride()[:end]
    return tuple(0 if size == 1 else stride for size, stride in zip(sizes, strides, strict=True))


def _moves(mask: Tensor) -> list[int]:
    """From a row to the next, and from a column; 0 where they share a number."""
    ends = zip(mask.shape[-2:], mask.stride()[-2:], strict=True)
    return [0 if size == 1 else stride for size, stride in ends]
