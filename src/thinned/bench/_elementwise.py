"""These rows apply dropout to one large tensor, dense or strided."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import thinned
from thinned import Key, _kernel
from thinned.bench._row import Result, Row, result
from thinned.bench._timing import Settings, race
from thinned.bench._verdict import Bound, at_least, at_most
from thinned.torch import functional

KI, MI = 1 << 10, 1 << 20
P = 0.1
KEY = Key(2014)

Measure = Callable[[Settings], Result]


def _fresh(elements: int, copy: Bound, torch_bound: Bound | None) -> Measure:
    def measure(settings: Settings) -> Result:
        x = torch.randn(settings.size(elements))
        found = race(
            {
                "clone": x.clone,
                "thinned": lambda: functional.dropout(x, P, training=True, key=KEY),
                "thinned, unkeyed": lambda: functional.dropout(x, P, training=True),
                "F.dropout": lambda: torch.nn.functional.dropout(x, P, training=True),
            },
            settings,
        )
        return result(
            found,
            found.figure("thinned", "clone", copy),
            found.figure("thinned, unkeyed", "clone"),
            found.figure("F.dropout", "thinned, unkeyed", torch_bound),
        )

    return measure


def _existing(elements: int, bound: Bound) -> Measure:
    def measure(settings: Settings) -> Result:
        x = torch.randn(settings.size(elements))
        y = torch.empty_like(x)
        source, target = x.numpy(), y.numpy()
        what = (KEY.seed, KEY.stream, thinned.threshold(P), thinned.scale(P), thinned.get_num_threads())
        whole = (_kernel.FLOAT32, x.data_ptr(), y.data_ptr(), x.numel(), 0, *what)
        found = race(
            {
                "copy_": lambda: y.copy_(x),
                "thinned": lambda: thinned.dropout(source, P, key=KEY, training=True, out=target),
                "kernel alone": lambda: _kernel.dense(*whole),
            },
            settings,
        )
        return result(found, found.figure("thinned", "copy_", bound), found.figure("kernel alone", "copy_"))

    return measure


def _avx2(elements: int) -> Measure:
    def measure(settings: Settings) -> Result:
        if "avx2" not in _kernel.paths():
            return Result(skipped=f"the code paths here are {', '.join(_kernel.paths())}")
        before = _kernel.path()
        _kernel.select("avx2")
        try:
            return _existing(elements, at_most(1.6))(settings)
        finally:
            _kernel.select(before)

    return measure


def _in_place(dtype: torch.dtype, bound: Bound) -> Measure:
    def measure(settings: Settings) -> Result:
        x, ours, theirs = (torch.randn(settings.size(16 * MI), dtype=dtype) for _ in range(3))
        y = torch.empty_like(x)
        found = race(
            {
                "copy_": lambda: y.copy_(x),
                "thinned, unkeyed": lambda: functional.dropout(ours, P, training=True, inplace=True),
                "F.dropout": lambda: torch.nn.functional.dropout(theirs, P, training=True, inplace=True),
            },
            settings,
        )
        return result(
            found,
            found.figure("F.dropout", "thinned, unkeyed", bound),
            found.figure("thinned, unkeyed", "copy_"),
        )

    return measure


def _two_threads(settings: Settings) -> Result:
    threads = thinned.get_num_threads()
    if threads < 2:
        return Result(skipped="one thread is all there is here")
    x = torch.randn(settings.size(16 * MI)).numpy()

    def on(number: int) -> object:
        thinned.set_num_threads(number)
        return thinned.dropout(x, P, key=KEY, training=True, mode="classic", out=x)

    try:
        found = race({"one thread": lambda: on(1), "two threads": lambda: on(2)}, settings)
    finally:
        thinned.set_num_threads(threads)
    return result(found, found.figure("one thread", "two threads", at_least(1.7)))


ROWS = (
    Row("float32, 64 Ki, fresh output", _fresh(64 * KI, at_most(0.95), at_least(24))),
    Row("float32, 1 Mi, fresh output", _fresh(MI, at_most(0.95), at_least(24))),
    Row("float32, 16 Mi, fresh output", _fresh(16 * MI, at_most(1.0), None)),
    Row("float32, 16 Mi, existing output", _existing(16 * MI, at_most(0.95))),
    Row("float32, 16 Mi, in place", _in_place(torch.float32, at_least(25))),
    Row("bfloat16, 16 Mi, in place", _in_place(torch.bfloat16, at_least(40))),
    Row("AVX2 path, 64 Ki, existing output", _avx2(64 * KI)),
    Row("AVX2 path, 16 Mi, existing output", _avx2(16 * MI)),
    Row("two threads over one, 16 Mi in place", _two_threads),
)


BY_HAND = at_most(1.0)


def _against_a_copy(view: Callable[[int], Tensor]) -> Callable[[Settings], Result]:
    def measure(settings: Settings) -> Result:
        x = view(settings.size(MI))
        found = race(
            {
                "thinned": lambda: functional.dropout(x, P, training=True, key=KEY),
                "copy, then thinned": lambda: functional.dropout(x.contiguous(), P, training=True, key=KEY),
            },
            settings,
        )
        return result(found, found.figure("thinned", "copy, then thinned", BY_HAND))

    return measure


def _every_second(elements: int) -> Tensor:
    return torch.randn(2 * elements)[::2]


def _reversed(elements: int) -> Tensor:
    """Dimensions of 2, the first of them innermost in memory."""
    rank = elements.bit_length() - 1
    return torch.randn((2,) * rank).permute(tuple(range(rank))[::-1])


def _step(settings: Settings) -> Result:
    """Every second column of a whole, by its positions and by the mask of the whole."""
    rows = settings.size(MI) // 1024
    x, ones = torch.randn(rows, 512), torch.ones(rows, 1024)
    place: dict[str, Any] = {"global_shape": (rows, 1024), "start": (0, 0), "step": (1, 2)}
    found = race(
        {
            "thinned": lambda: functional.dropout(x, P, training=True, key=KEY, **place),
            "mask of the whole": lambda: functional.dropout(ones, P, training=True, key=KEY)[:, ::2] * x,
        },
        settings,
    )
    return result(found, found.figure("thinned", "mask of the whole", BY_HAND))


LAYOUTS = (
    Row("every second element, 1 Mi", _against_a_copy(_every_second)),
    Row("20 dimensions of 2, reversed", _against_a_copy(_reversed)),
    Row("every second column of a shard, step=(1, 2)", _step),
)
