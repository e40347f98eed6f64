"""This experiment times a training step of the dropout paper's network with ours, torch's and no dropout."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from thinned.demo.drawing import BLUE, GREY, INK, RED, canvas, to_svg
from thinned.demo.section import Section, Table, Tick, paragraphs
from thinned.torch.nn import Dropout

NAMES = ("without dropout", "thinned", "torch.nn.Dropout")
_BATCH = 128
_WARM_UP = 3

Make = Callable[[float], nn.Module]


def network(width: int, dropout: Make | None) -> nn.Sequential:
    """784-width-width-width-10 with ReLU; p = 0.2 on the input, 0.5 on each hidden layer."""
    sizes, layers = (784, width, width, width, 10), list[nn.Module]()
    for p, before, after in zip((0.2, 0.5, 0.5, 0.5), sizes, sizes[1:], strict=False):
        if dropout is not None:
            layers.append(dropout(p))
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def measure(width: int, rounds: int, seed: int, tick: Tick) -> dict[str, list[float]]:
    """Seconds of each step. The three take turns, and turns at being first, so that all share the noise."""
    kinds: tuple[Make | None, ...] = (None, Dropout, nn.Dropout)
    seconds: dict[str, list[float]] = {name: [] for name in NAMES}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        x, y = torch.rand(_BATCH, 784), torch.randint(10, (_BATCH,))
        nets = [network(width, kind) for kind in kinds]
        steps = {
            name: partial(_step, net, _optimizer(net), x, y) for name, net in zip(NAMES, nets, strict=True)
        }
        for turn in range(_WARM_UP + rounds):
            for place in range(len(NAMES)):
                name = NAMES[(turn + place) % len(NAMES)]
                begin = time.perf_counter()
                steps[name]()
                if turn >= _WARM_UP:
                    seconds[name].append(time.perf_counter() - begin)
            tick(1 if turn >= _WARM_UP else 0)
    return seconds


def _optimizer(net: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(net.parameters(), lr=0.01)


def _step(net: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor) -> None:
    optimizer.zero_grad()
    nn.functional.cross_entropy(net(x), y).backward()
    optimizer.step()


def section(width: int, rounds: int, seed: int, tick: Tick) -> Section:
    """Measure and tell."""
    seconds = measure(width, rounds, seed, tick)
    quartiles = {name: np.percentile(seconds[name], (25, 50, 75)).tolist() for name in NAMES}
    plain = quartiles[NAMES[0]][1]
    ratio = {name: quartiles[name][1] / plain for name in NAMES}
    data: dict[str, Any] = {"seconds": seconds, "quartiles": quartiles, "ratio": ratio}
    ours, theirs = (quartiles[name][1] * 1e3 for name in NAMES[1:])
    return Section(
        name="step",
        title="What a training step costs",
        finding=(
            f"A training step takes {plain * 1e3:.2f} ms without dropout, {ours:.2f} ms with thinned "
            f"({ratio[NAMES[1]]:.2f} ×) and {theirs:.2f} ms with torch.nn.Dropout ({ratio[NAMES[2]]:.2f} ×)."
        ),
        text=paragraphs(f"""
            The dropout paper's network, 784-{width}-{width}-{width}-10, a batch of {_BATCH}, p = 0.2 on the
            input and 0.5 on the hidden layers: forward, backward, and a step of plain gradient descent, with
            {torch.get_num_threads()} threads. The three variants take turns within each of {rounds} rounds,
            so that whatever else the machine does falls on all of them alike.

            Times vary from run to run and from machine to machine, ratios less so; the middle half of the
            measurements is given beside each median.
        """),
        figure=_figure(quartiles),
        caption="Median time of a training step; whiskers span the middle half of the measurements.",
        table=_table(quartiles, ratio),
        data=data,
    )


def _figure(quartiles: dict[str, list[float]]) -> str:
    figure, axes = canvas(7.0, 2.4)
    for place, (name, colour) in enumerate(zip(NAMES, (GREY, BLUE, RED), strict=True)):
        low, middle, high = (1e3 * value for value in quartiles[name])
        axes.barh(place, middle, height=0.55, color=colour, alpha=0.85)
        axes.errorbar(middle, place, xerr=[[middle - low], [high - middle]], color=INK, capsize=4)
    axes.set(xlabel="milliseconds a step", yticks=range(len(NAMES)), yticklabels=NAMES, ylim=(2.5, -0.5))
    axes.grid(axis="y", visible=False)
    return to_svg(figure, "step")


def _table(quartiles: dict[str, list[float]], ratio: dict[str, float]) -> Table:
    rows = tuple(
        (
            name,
            f"{1e3 * quartiles[name][1]:.2f} ms",
            f"{1e3 * quartiles[name][0]:.2f} to {1e3 * quartiles[name][2]:.2f} ms",
            f"{ratio[name]:.2f}",
        )
        for name in NAMES
    )
    return Table(("variant", "median", "middle half", "ratio to none"), rows)
