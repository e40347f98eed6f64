"""These rows are about the backward pass, and about calls that should do nothing."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

import thinned
from thinned.bench._elementwise import KEY, KI, MI, P
from thinned.bench._row import Result, Row, result
from thinned.bench._timing import Race, Settings, race
from thinned.bench._verdict import at_least, at_most, count
from thinned.torch import functional


def _ours(x: Tensor) -> Tensor:
    return functional.dropout(x, P, training=True)


def _theirs(x: Tensor) -> Tensor:
    return torch.nn.functional.dropout(x, P, training=True)


def _there_and_back(x: Tensor, settings: Settings) -> Race:
    upstream = torch.ones_like(x)
    return race(
        {
            "thinned, unkeyed": lambda: torch.autograd.grad(_ours(x), x, upstream),
            "F.dropout": lambda: torch.autograd.grad(_theirs(x), x, upstream),
            "x * 1.1": lambda: torch.autograd.grad(x * 1.1, x, upstream),
        },
        settings,
    )


def _large(settings: Settings) -> Result:
    x = torch.randn(settings.size(MI), requires_grad=True)
    found = _there_and_back(x, settings)
    return result(
        found,
        found.figure("F.dropout", "thinned, unkeyed", at_least(20)),
        count(saved_bytes(_ours, x), "thinned, saved for backward", "bytes", at_most(0)),
        count(saved_bytes(_theirs, x), "F.dropout, saved for backward", "bytes"),
    )


def _small(settings: Settings) -> Result:
    x = torch.randn(settings.size(KI), requires_grad=True)
    found = _there_and_back(x, settings)
    return result(
        found,
        found.figure("thinned, unkeyed", "F.dropout", at_most(0.6)),
        found.figure("x * 1.1", "F.dropout"),
    )


def saved_bytes(forward: Callable[[Tensor], Tensor], x: Tensor) -> int:
    """Bytes that autograd keeps for the backward pass in tensors of x's size or larger."""
    sizes: list[int] = []

    def pack(saved: Tensor) -> Tensor:
        sizes.append(saved.nbytes if saved.numel() >= x.numel() else 0)
        return saved

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda saved: saved):
        forward(x)
    return sum(sizes)


def _nothing_to_do(settings: Settings) -> Result:
    x = torch.randn(settings.size(MI))
    array = x.numpy()
    torch_result = "F.dropout, evaluation"
    found = race(
        {
            torch_result: lambda: torch.nn.functional.dropout(x, P, training=False),
            "thinned, evaluation": lambda: functional.dropout(x, P, training=False),
            "thinned, p = 0": lambda: functional.dropout(x, 0.0, training=True),
        },
        settings,
    )
    same = (
        functional.dropout(x, P, training=False) is x,
        functional.dropout(x, 0.0, training=True) is x,
        thinned.dropout(array, P, key=KEY, training=False) is array,
        thinned.dropout(array, 0.0, key=KEY, training=True) is array,
    )
    return result(
        found,
        found.figure("thinned, evaluation", torch_result, at_most(1.5)),
        found.figure("thinned, p = 0", torch_result, at_most(1.5)),
        count(same.count(False), "thinned, results that are copies", "of 4", at_most(0)),
    )


ROWS = (
    Row("forward + backward, 1 Mi", _large),
    Row("forward + backward, 1 Ki", _small),
    Row("evaluation, and p = 0", _nothing_to_do),
)
