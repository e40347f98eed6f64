"""This experiment compares a hundred Monte Carlo passes with weight scaling."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Final

import numpy as np
import torch
from sklearn.calibration import calibration_curve  # type: ignore[import-untyped]
from torch import Tensor

from thinned import Key
from thinned.averages import Doubles
from thinned.demo.conventions import Trained
from thinned.demo.drawing import BLUE, GREY, RED, canvas, to_svg
from thinned.demo.section import Section, Table, Tick, paragraphs
from thinned.demo.statistics import Spread, difference, spread, stands_out
from thinned.mc._compare import compare
from thinned.mc._comparison import NAMES
from thinned.mc._measures import measures
from thinned.mc.torch import predict

SCALING: Final = "weight scaling"
CARLO: Final = "Monte Carlo"
_WAYS: Final = {SCALING: RED, CARLO: BLUE}
_BINS = 10


def measure(trained: list[Trained], samples: int, resamples: int, seed: int, tick: Tick) -> dict[str, Any]:
    """Every measure of both ways by seed, how often each is right at each confidence, and one comparison."""
    found: dict[str, Any] = {way: {name: [] for name in NAMES if name != "rmse"} for way in _WAYS}
    sure: dict[str, list[Doubles]] = {way: [] for way in _WAYS}
    right: dict[str, list[Doubles]] = {way: [] for way in _WAYS}
    for number, one in enumerate(trained):
        key = Key(seed).fold("worth").fold(number)
        for way, probabilities in _probabilities(one, samples, key).items():
            labels = one.digits.test_y.numpy()
            for name, value in asdict(measures(probabilities, labels)).items():
                found[way][name].append(value)
            sure[way].append(probabilities.max(axis=1))
            right[way].append(probabilities.argmax(axis=1) == labels)
        tick(1)
    first = trained[0]
    key = Key(seed).fold("worth").fold(0)
    data = (first.digits.test_x, first.digits.test_y)
    one_network = compare(first.nets["inverted"], data, samples=samples, key=key, resamples=resamples)
    tick(resamples)
    curves = {way: _curve(np.concatenate(sure[way]), np.concatenate(right[way])) for way in _WAYS}
    return {"samples": samples, "measures": found, "curves": curves, "compare": one_network.to_dict()}


@torch.no_grad()
def _probabilities(one: Trained, samples: int, key: Key) -> dict[str, Doubles]:
    net, images = one.nets["inverted"], one.digits.test_x
    scores: Tensor = net(images)
    mean = predict(net, images, samples=samples, key=key, outputs="logits").mean
    return {SCALING: scores.double().softmax(dim=1).numpy(), CARLO: mean}


def _curve(confidence: Doubles, correct: Doubles) -> dict[str, list[float]]:
    accuracy, mean = calibration_curve(correct, confidence.clip(0, 1), n_bins=_BINS, strategy="quantile")
    return {"confidence": mean.tolist(), "accuracy": accuracy.tolist()}


def section(trained: list[Trained], samples: int, resamples: int, seed: int, tick: Tick) -> Section:
    """Measure and tell."""
    data = measure(trained, samples, resamples, seed, tick)
    scaling, carlo = (data["measures"][way] for way in _WAYS)
    gaps = {name: difference(carlo[name], scaling[name]) for name in scaling}
    sure = gaps["calibration"]
    calibration = (
        f"{spread(scaling['calibration']).percent()} by weight scaling, "
        f"{spread(carlo['calibration']).percent()} by Monte Carlo"
    )
    effect = ("a lower" if sure.mean < 0 else "a higher") if stands_out(sure) else "no clearly different"
    return Section(
        name="worth",
        title=f"Are {samples} passes worth it?",
        finding=f"Calibration error: {calibration}. For the first network: {data['compare']['reason']}",
        text=paragraphs(f"""
            Being right is one thing, knowing how sure to be another. The negative log-likelihood and the
            Brier score measure both together; the calibration error is how far confidence lies from accuracy:
            {calibration}. On these networks, averaging {samples} thinned ones gives {effect} calibration
            error. It need not be so on others, trained for longer say: only a network's own data can tell.

            That is what thinned mc compare is for. Of the first of these networks it says:
            {data["compare"]["reason"]} Its intervals are of the test images, those of the table are over
            {len(trained)} networks.
        """),
        figure=_figure(data["curves"]),
        caption="How often an answer is right against how sure it is; on the line, confidence is deserved.",
        table=_table(scaling, carlo, gaps),
        data=data,
    )


def _figure(curves: dict[str, dict[str, list[float]]]) -> str:
    figure, axes = canvas(5.0, 4.2)
    axes.plot([0, 100], [0, 100], ":", color=GREY, linewidth=1)
    for way, colour in _WAYS.items():
        sure, right = (100 * np.array(curves[way][name]) for name in ("confidence", "accuracy"))
        axes.plot(sure, right, "o-", color=colour, markersize=4, linewidth=1.6, label=way)
    low = min(min(curve["confidence"] + curve["accuracy"]) for curve in curves.values())
    axes.set(xlabel="confidence, %", ylabel="right, %", xlim=(100 * low - 2, 101), ylim=(100 * low - 2, 101))
    axes.legend(loc="upper left", frameon=False)
    return to_svg(figure, "worth")


def _table(scaling: dict[str, list[float]], carlo: dict[str, list[float]], gaps: dict[str, Spread]) -> Table:
    rows = tuple(
        (NAMES[name], _figures(spread(scaling[name])), _figures(spread(carlo[name])), _figures(gap, "+"))
        for name, gap in gaps.items()
    )
    return Table(("less is better", f"{SCALING} ± s.e.", f"{CARLO} ± s.e.", "difference"), rows)


def _figures(one: Spread, sign: str = "") -> str:
    return f"{one.mean:{sign}.4f} ± {one.error:.4f}".replace("-", "−")
