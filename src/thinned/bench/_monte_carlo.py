"""These rows compare 100 samples by `thinned.mc.predict` with a loop of 100 forward passes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from thinned.bench._kinds import KINDS, TORCH
from thinned.bench._models import gpt_blocks, paper_network
from thinned.bench._row import Result, Row, result
from thinned.bench._timing import Settings, race
from thinned.bench._verdict import at_most
from thinned.contract import Key
from thinned.mc.torch import Predictor, predict
from thinned.torch import masked

_SAMPLES = 100
_ROUNDS = 5  # of seconds each


def late(model: nn.Module) -> nn.Module:
    """Makes a network with dropout in its last site only."""
    for site in [module for module in model.modules() if isinstance(module, nn.Dropout)][:-1]:
        site.p = 0.0
    return model


def _loop(model: nn.Module, x: Tensor, samples: int) -> Tensor:
    """Gives what people write: dropout modules in training, and the model called again and again."""
    sites = [module for module in model.modules() if isinstance(module, nn.Dropout)]
    for site in sites:
        site.train()
    with torch.no_grad():
        draws = torch.stack([model(x) for _ in range(samples)])
    for site in sites:
        site.eval()
    return torch.cat([draws.mean(0), draws.std(0)])


def _row(name: str, make: Callable[[Settings], tuple[nn.Module, Tensor]], only_last: bool) -> Row:
    def measure(settings: Settings) -> Result:
        model, x = make(settings)
        model = (late(model) if only_last else model).eval()
        samples = max(settings.size(_SAMPLES), 2)
        found = race(
            {
                "mc.predict": lambda: predict(model, x, samples=samples),
                "a loop": lambda: _loop(model, x, samples),
            },
            replace(settings, repeats=min(settings.repeats, _ROUNDS), batch=0.0),
        )
        return result(found, found.figure("mc.predict", "a loop", at_most(0.5 if only_last else 0.7)))

    place = "dropout last only" if only_last else "dropout everywhere"
    return Row(f"Monte Carlo prediction, 100 samples, {name}, {place}", measure)


def _shared_row(inputs: int) -> Row:
    """Samples that all inputs share: smaller networks, against all of them in one product with masks."""

    def measure(settings: Settings) -> Result:
        model = paper_network(KINDS[TORCH], settings.size(1024)).eval()
        x, samples = torch.rand(inputs, 784), max(settings.size(_SAMPLES), 2)

        def whole() -> None:
            with masked():
                predict(model, x, samples=samples, shared=True)

        found = race(
            {"smaller networks": lambda: predict(model, x, samples=samples, shared=True), "masks": whole},
            replace(settings, repeats=min(settings.repeats, _ROUNDS), batch=0.0),
        )
        return result(found, found.figure("smaller networks", "masks", at_most(0.5)))

    return Row(f"Monte Carlo, 100 shared samples, the paper's network, {inputs} inputs", measure)


def _tiny_row(samples: int, most: float) -> Row:
    """Predicts one input of a small network, as a service does: a trace is kept between calls."""

    def measure(settings: Settings) -> Result:
        model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Dropout(0.5), nn.Linear(32, 3)).eval()
        x, predictor = torch.rand(1, 8), Predictor(model, samples=samples, key=Key(0))
        for _ in range(3):
            predictor(x)
        found = race(
            {"mc.Predictor": lambda: predictor(x), "a loop": lambda: _loop(model, x, samples)}, settings
        )
        return result(found, found.figure("mc.Predictor", "a loop", at_most(most)))

    return Row(f"Monte Carlo, one input, {samples} samples, 8-32-3", measure)


def _paper(settings: Settings) -> tuple[nn.Module, Tensor]:
    return paper_network(KINDS[TORCH], settings.size(1024)), torch.rand(64, 784)


def _gpt(settings: Settings) -> tuple[nn.Module, Tensor]:
    return gpt_blocks(KINDS[TORCH]), torch.randn(2, settings.size(128), 256)


ROWS = (
    *(
        _row(name, make, only_last)
        for name, make in (("the paper's network", _paper), ("two GPT blocks", _gpt))
        for only_last in (True, False)
    ),
    _shared_row(64),
    _shared_row(256),
    _shared_row(1024),
    _tiny_row(10, 1.5),
    _tiny_row(100, 1.0),
)
