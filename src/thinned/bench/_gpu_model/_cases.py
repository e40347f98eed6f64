"""The launches that are modelled and measured are listed here, with their dtypes and sizes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from thinned import Key
from thinned._position import positions
from thinned.torch import _key
from thinned.torch._triton import _launch, _launch_block, _launch_norm
from thinned.torch._triton._launch_norm import SPAN, WIDEST, WIDEST_BACK

KEY = _key.key_to_tensor(Key(3, 5))
P = torch.tensor(0.1, dtype=torch.float64)
F32, BF16, F16 = torch.float32, torch.bfloat16, torch.float16
MI = 2**20


@dataclass(frozen=True)
class Case:
    """A launch, and how often its elements go over the memory bus.

    Args:
        name: the call.
        dtype: of all its tensors.
        shape: of its input.
        passes: tensors of the input's size that are read or written.
        make: what makes the launch's call of an input.
        spans: how often a program's loop runs, whose instructions are counted once.
        kernel: of a call's launches the one that this is; the first if none is named.
        turns: how often the innermost loop runs where its instructions are counted so often.
        beside: another of the call's launches moves the input: what this one takes is over a copy of it.
    """

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    passes: int
    make: Callable[[torch.Tensor], Callable[[], object]]
    spans: int = 1
    kernel: str | None = None
    turns: int = 1
    beside: bool = False

    @property
    def elements(self) -> int:
        """Counts the input's elements."""
        return torch.Size(self.shape).numel()

    def on(self, device: str) -> Callable[[], object]:
        """The launch, of tensors that hold anything on a device; "meta" where it is only compiled."""
        return self.make(torch.empty(self.shape, dtype=self.dtype, device=device))

    def small(self) -> Case:
        """A few rows of it, for a run that shows that everything runs."""
        return replace(self, shape=tuple(min(size, 4 if d < len(self.shape) - 1 else 1024) for d, size in
                                         enumerate(self.shape)))  # fmt: skip

    def label(self) -> dict[str, Any]:
        """Gives what it is, as a row begins."""
        return {
            "kernel": self.name,
            "dtype": str(self.dtype).removeprefix("torch."),
            "elements": self.elements,
        }


def _dropout(x: torch.Tensor, shared: bool = False, turned: bool = False) -> Callable[[], object]:
    x = x.t() if turned else x
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    base, strides = positions(tuple(x.shape), (*x.shape[:-1], 1) if shared else None)
    return lambda: _launch.dropout(x, out, KEY, P, True, base, strides)


def _alpha(x: torch.Tensor, kind: str = "alpha", shared: bool = False) -> Callable[[], object]:
    out = torch.empty_like(x)
    base, strides = positions(tuple(x.shape), (*x.shape[:-1], 1) if shared else None)
    return lambda: _launch.dropout(x, out, KEY, P, True, base, strides, kind)


def _block(x: torch.Tensor) -> Callable[[], object]:
    sides = tuple(min(7, size) for size in x.shape[2:])
    rows, width = (size - side + 1 for size, side in zip(x.shape[2:], sides, strict=True))
    return lambda: _launch_block.drop_block(x, KEY, P, sides, 0, x.shape[1] * rows * width, True, False)


def _blocks(dtype: torch.dtype) -> list[Case]:
    """Maps of a ResNet's second stage, blocks of 7 by 7."""
    case = Case("drop_block2d", dtype, (256, 512, 28, 28), 2, _block, kernel="blocks")
    return [
        case,
        replace(case, name="drop_block2d, seeds", kernel="seeds", beside=True),
        replace(case, name="drop_block2d, growing", kernel="grow", beside=True, turns=7),
    ]


def _noise(x: torch.Tensor) -> Callable[[], object]:
    out = torch.empty_like(x)
    return lambda: _launch.dropout(x, out, KEY, P, True, 0, None, "noise")


def _add(x: torch.Tensor) -> Callable[[], object]:
    residual = torch.empty_like(x)
    return lambda: _launch.add(x, residual, KEY, P, 0)


def _norm(x: torch.Tensor) -> Callable[[], object]:
    width = x.shape[1]
    residual, weight = torch.empty_like(x), torch.empty_like(x[0])
    return lambda: _launch_norm.forward(x, residual, weight, weight, KEY, P, 1e-5, False, width, 0)


def _norm_back(x: torch.Tensor) -> Callable[[], object]:
    width = x.shape[1]
    grad, grad_total, weight = torch.empty_like(x), torch.empty_like(x), torch.empty_like(x[0])
    each = torch.empty(x.shape[0], dtype=torch.float32, device=x.device)
    rest = (each, each, KEY, P, False, width, x.dtype, x.dtype, 0)
    return lambda: _launch_norm.backward(grad, grad_total, x, weight, weight, *rest)


def _norms(dtype: torch.dtype, width: int) -> list[Case]:
    # So few rows that a program of the way back has one: the model knows no loop.
    name = f"dropout_add_layer_norm {width}"
    shape = (1024, width)
    forth, back = (width // SPAN if width > widest else 1 for widest in (WIDEST, WIDEST_BACK))
    return [
        Case(name, dtype, shape, 4, _norm, forth),
        Case(f"{name}, backward", dtype, shape, 5, _norm_back, back),
    ]


CASES = [
    *(
        Case("dropout", dtype, (size * MI,), 2, _dropout)
        for dtype in (F32, BF16, F16)
        for size in (1, 16, 256)
    ),
    *(Case("dropout_add", dtype, (256 * MI,), 3, _add) for dtype in (F32, BF16)),
    *(
        Case("dropout of channels", dtype, (256, 1024, 1024), 2, partial(_dropout, shared=True))
        for dtype in (F32, BF16)
    ),
    *(Case("alpha_dropout", dtype, (256 * MI,), 2, _alpha) for dtype in (F32, BF16)),
    Case("alpha_dropout, backward", BF16, (256 * MI,), 2, partial(_alpha, kind="slope")),
    Case("feature_alpha_dropout", BF16, (256, 1024, 1024), 2, partial(_alpha, shared=True)),
    *(case for dtype in (F32, BF16) for case in _blocks(dtype)),
    *(Case("gaussian_dropout", dtype, (256 * MI,), 2, _noise) for dtype in (F32, BF16)),
    *(
        Case("dropout, transposed", dtype, (16384, 16384), 2, partial(_dropout, turned=True))
        for dtype in (F32, BF16)
    ),
    *(case for width in (1024, 4096, 16384, 65536) for case in _norms(BF16, width)),
    *_norms(F32, 4096),
]
