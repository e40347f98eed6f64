"""Rows that train: one step of a whole network with our dropout, with torch's, and with none."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

import thinned.torch
from thinned.bench._models import Dropout, gpt_blocks, paper_network
from thinned.bench._row import Result, Row, result
from thinned.bench._timing import Settings, race
from thinned.bench._verdict import at_most

_LAYERS: dict[str, Dropout] = {
    "no dropout": lambda p: nn.Identity(),
    "nn.Dropout": nn.Dropout,
    "thinned, unkeyed": thinned.torch.nn.Dropout,
}

Loss = Callable[[nn.Module], Tensor]


def _step(model: nn.Module, loss: Loss) -> Callable[[], None]:
    """One training step. Its learning rate is so small that thousands of them leave the numbers tame."""
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9)

    def step() -> None:
        optimizer.zero_grad()
        loss(model).backward()
        optimizer.step()

    return step


def _compare(build: Callable[[Dropout], nn.Module], loss: Loss, settings: Settings) -> Result:
    steps = {}
    for name, layer in _LAYERS.items():
        torch.manual_seed(0)  # the same weights for all
        steps[name] = _step(build(layer), loss)
    found = race(steps, settings)
    return result(
        found,
        found.figure("thinned, unkeyed", "no dropout", at_most(1.06)),
        found.figure("nn.Dropout", "no dropout"),
        found.figure("nn.Dropout", "thinned, unkeyed"),
    )


def _paper(settings: Settings) -> Result:
    x, labels = torch.rand(128, 784), torch.randint(10, (128,))
    return _compare(
        lambda dropout: paper_network(dropout, settings.size(1024)),
        lambda model: nn.functional.cross_entropy(model(x), labels),
        settings,
    )


def _gpt(settings: Settings) -> Result:
    x = torch.randn(settings.size(8), settings.size(256), 256)
    return _compare(gpt_blocks, lambda model: model(x).square().mean(), settings)


ROWS = (
    Row("training step, the paper's network", _paper),
    Row("training step, two GPT blocks", _gpt),
)
