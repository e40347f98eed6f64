"""This experiment compares no dropout, inverted dropout, and classic dropout."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from thinned.demo.digits import TRAIN_IMAGES, Digits, P, behind_dropout, error, split, train
from thinned.demo.drawing import BLUE, GREEN, GREY, canvas, to_svg
from thinned.demo.section import Section, Table, Tick, paragraphs
from thinned.demo.statistics import difference, in_words, spread, stands_out
from thinned.torch.nn import Dropout

NAMES = ("without dropout", "inverted", "classic")


@dataclass(frozen=True)
class Trained:
    """The networks of one seed, and what they were trained and tested on."""

    digits: Digits
    nets: dict[str, nn.Sequential]


def train_all(seeds: int, epochs: int, hidden: int, seed: int, tick: Tick) -> list[Trained]:
    """Trains a network of each kind for a seed: same split, start and order of images, other masks."""
    kinds: tuple[Callable[[], nn.Module], ...] = (
        nn.Identity,
        partial(Dropout, P),
        partial(Dropout, P, mode="classic"),
    )
    trained = []
    for number in range(seed, seed + seeds):
        data = split(number)
        nets = {
            name: train(hidden, name, kind, data, epochs, number, tick)
            for name, kind in zip(NAMES, kinds, strict=True)
        }
        trained.append(Trained(data, nets))
    return trained


def scale_weights(net: nn.Sequential) -> nn.Sequential:
    """The paper's test-time network: no dropout, and the weights behind each dropout times 1 − p."""
    scaled = copy.deepcopy(net)
    for place, drop, reader in behind_dropout(scaled):
        reader.weight.data.mul_(1 - drop.p)
        scaled[place] = nn.Identity()
    return scaled


@torch.no_grad()
def measure(trained: list[Trained]) -> dict[str, Any]:
    """Test errors of each kind by seed, and how far the two ways to evaluate a classic network differ."""
    errors: dict[str, list[float]] = {name: [] for name in NAMES}
    gaps, largest = [], []
    for one in trained:
        for name in NAMES:
            net = scale_weights(one.nets[name]) if name == "classic" else one.nets[name]
            errors[name].append(error(net(one.digits.test_x), one.digits.test_y))
        by_mode: Tensor = one.nets["classic"](one.digits.test_x)
        by_weights: Tensor = scale_weights(one.nets["classic"])(one.digits.test_x)
        gaps.append(float((by_mode - by_weights).abs().max()))
        largest.append(float(by_mode.abs().max()))
    return {"errors": errors, "scaling_gap": max(gaps), "largest_score": max(largest)}


def section(trained: list[Trained]) -> Section:
    """Measure and tell."""
    data = measure(trained)
    errors = data["errors"]
    plain, inverted, classic = (errors[name] for name in NAMES)
    means = {name: spread(errors[name]) for name in NAMES}
    gap, gain = difference(inverted, classic), difference(inverted, plain)
    verdict = "On these seeds they differ." if stands_out(gap) else "No difference shows, as theory has it."
    same = (
        f"gives the same scores up to rounding: the largest difference on any test image is "
        f"{data['scaling_gap']:.1e}, where scores reach {data['largest_score']:.0f}"
        if data["scaling_gap"]
        else f"gives exactly the same scores: 1 − p = {1 - P:g} is a power of two, so nothing is rounded"
    )
    effect = ("lowers" if gain.mean < 0 else "raises") if stands_out(gain) else "does not clearly change"
    return Section(
        name="conventions",
        title="Two conventions, one network",
        finding=(
            f"Test error over {len(trained)} seeds: "
            + ", ".join(f"{means[name].percent()} {name}" for name in NAMES)
            + f". Inverted minus classic: {in_words(gap)}."
        ),
        text=paragraphs(f"""
            Dropout can be scaled in two places. Inverted dropout divides what is kept by 1 − p while training
            and leaves evaluation alone. Classic dropout, the paper's, leaves training alone and, when
            evaluating, multiplies by 1 − p the weights that follow. Both make the average input of the next
            layer the same in training and evaluation. To be the same function, a network needs weights
            {1 / (1 - P):g} times as large behind classic dropout as behind inverted. The classic networks
            were started and stepped in those units, so that the two kinds differ in nothing but convention
            and masks. They should then err equally often.

            Each network has two hidden layers with dropout at p = {P} after each and learns {TRAIN_IMAGES}
            images of digits; all others test it. Inverted minus classic, pair by pair: {in_words(gap)}.
            {verdict} Dropout {effect} the error here: inverted minus none is {in_words(gain)}.

            The classic network was evaluated by scaling its weights. Evaluating it with mode="classic",
            which scales the activations instead, {same}.
        """),
        figure=_figure(errors),
        caption="Test error by kind: one pale dot a seed; the mean with its standard error.",
        table=_table(errors),
        data=data,
    )


def _figure(errors: dict[str, list[float]]) -> str:
    figure, axes = canvas(7.0, 3.0)
    for place, (name, colour) in enumerate(zip(NAMES, (GREY, BLUE, GREEN), strict=True)):
        values = [100 * value for value in errors[name]]
        mean = spread(values)
        heights = [place + 0.16 * (2 * k / max(1, len(values) - 1) - 1) for k in range(len(values))]
        axes.plot(values, heights, "o", color=colour, alpha=0.4, markersize=5, markeredgewidth=0)
        axes.errorbar(mean.mean, place, xerr=mean.error, fmt="D", color=colour, markersize=7, capsize=5)
    axes.set(xlabel="test error, %", yticks=range(len(NAMES)), yticklabels=NAMES, ylim=(2.5, -0.5))
    axes.grid(axis="y", visible=False)
    return to_svg(figure, "conventions")


def _table(errors: dict[str, list[float]]) -> Table:
    rows = tuple(
        (
            name,
            spread(errors[name]).percent(2),
            f"{100 * min(errors[name]):.2f} %",
            f"{100 * max(errors[name]):.2f} %",
        )
        for name in NAMES
    )
    return Table(("network", "test error ± s.e.", "best seed", "worst seed"), rows)
