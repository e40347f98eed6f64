"""These rows compare dropout of strided tensors with a copy that is then dropped."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from thinned.bench._elementwise import KEY, MI, P
from thinned.bench._row import Result, Row, result
from thinned.bench._timing import Settings, race
from thinned.bench._verdict import at_most
from thinned.torch import functional

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


ROWS = (
    Row("every second element, 1 Mi", _against_a_copy(_every_second)),
    Row("20 dimensions of 2, reversed", _against_a_copy(_reversed)),
    Row("every second column of a shard, step=(1, 2)", _step),
)
