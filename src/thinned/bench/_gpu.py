"""These rows are about a GPU, and measure the time between two of its events."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from thinned.bench._autograd import saved_bytes
from thinned.bench._elementwise import KEY, MI, P
from thinned.bench._row import Result, Row, result
from thinned.bench._timing import Race, Settings, alternate
from thinned.bench._verdict import at_most, count
from thinned.torch import functional

_NONE = Result(skipped="no CUDA device")
_CALLS = 10  # in one batch: 2 ms and more for the sizes here


def _race(competitors: dict[str, Callable[[], object]], settings: Settings) -> Race:
    return alternate({who: _timer(call) for who, call in competitors.items()}, settings.repeats)


def _timer(call: Callable[[], object]) -> Callable[[], float]:
    """Seconds a call takes the device, which is busy with one while the CPU asks for the next."""
    for _ in range(3):
        call()

    def measure() -> float:
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        begin.record()
        for _ in range(_CALLS):
            call()
        end.record()
        end.synchronize()
        return float(begin.elapsed_time(end)) / 1e3 / _CALLS

    return measure


def _numbers(settings: Settings, dtype: torch.dtype, elements: int) -> Tensor:
    return torch.randn(settings.size(elements), dtype=dtype, device="cuda")


def _copy(dtype: torch.dtype, elements: int, asked: bool) -> Callable[[Settings], Result]:
    def measure(settings: Settings) -> Result:
        if not torch.cuda.is_available():
            return _NONE
        x = _numbers(settings, dtype, elements)
        y, here = torch.empty_like(x), x.clone()
        found = _race(
            {
                "copy_": lambda: y.copy_(x),
                "thinned": lambda: functional.dropout(x, P, training=True, key=KEY),
                "thinned, in place": lambda: functional.dropout(
                    here, P, training=True, inplace=True, key=KEY
                ),
                "F.dropout": lambda: torch.nn.functional.dropout(x, P, training=True),
            },
            settings,
        )
        bound = at_most(1.05) if asked else None
        return result(
            found,
            found.figure("thinned", "copy_", bound),
            found.figure("thinned, in place", "copy_", bound),
            found.figure("F.dropout", "copy_"),
        )

    return measure


def _there_and_back(settings: Settings) -> Result:
    if not torch.cuda.is_available():
        return _NONE
    x = _numbers(settings, torch.bfloat16, 256 * MI).requires_grad_()
    upstream = torch.ones_like(x)

    def ours(x: Tensor) -> Tensor:
        return functional.dropout(x, P, training=True)

    def theirs(x: Tensor) -> Tensor:
        return torch.nn.functional.dropout(x, P, training=True)

    found = _race(
        {
            "thinned, unkeyed": lambda: torch.autograd.grad(ours(x), x, upstream),
            "F.dropout": lambda: torch.autograd.grad(theirs(x), x, upstream),
        },
        settings,
    )
    return result(
        found,
        found.figure("thinned, unkeyed", "F.dropout", at_most(0.7)),
        count(saved_bytes(ours, x), "thinned, saved for backward", "bytes", at_most(0)),
        count(saved_bytes(theirs, x), "F.dropout, saved for backward", "bytes"),
    )


def _norm(settings: Settings) -> Result:
    """Dropout, residual and LayerNorm of a transformer's branch, forward and backward."""
    if not torch.cuda.is_available():
        return _NONE
    width = 4096
    rows = settings.size(16 * 1024)
    x, residual = (_numbers(Settings(), torch.bfloat16, rows * width).view(rows, width) for _ in range(2))
    weight, bias = (_numbers(Settings(), torch.bfloat16, width) for _ in range(2))
    leaves = [t.requires_grad_() for t in (x, residual, weight, bias)]
    upstream = torch.ones_like(x)

    def ours() -> object:
        found = functional.dropout_add_layer_norm(x, residual, width, weight, bias, p=P, training=True)
        return torch.autograd.grad(found, leaves, (upstream, upstream))

    def theirs() -> object:
        total = torch.nn.functional.dropout(x, P, training=True) + residual
        normed = torch.nn.functional.layer_norm(total, (width,), weight, bias)
        return torch.autograd.grad((normed, total), leaves, (upstream, upstream))

    found = _race({"thinned, unkeyed": ours, "torch": theirs}, settings)
    return result(found, found.figure("torch", "thinned, unkeyed"))


ROWS = (
    Row("GPU, bfloat16, 256 Mi", _copy(torch.bfloat16, 256 * MI, True)),
    Row("GPU, float32, 256 Mi", _copy(torch.float32, 256 * MI, False)),
    Row("GPU, bfloat16, 256 Mi, forward + backward", _there_and_back),
    Row("GPU, bfloat16, dropout + residual + LayerNorm", _norm),
)
