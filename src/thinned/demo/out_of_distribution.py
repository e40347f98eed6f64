"""This experiment asks whether spread tells digits from rotated digits and noise, by ROC."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import torch
from sklearn.metrics import roc_auc_score, roc_curve  # type: ignore[import-untyped]
from torch import Tensor, nn

from thinned import Key
from thinned.averages import Doubles
from thinned.demo.conventions import Trained
from thinned.demo.drawing import BLUE, GREEN, GREY, INK, RED, row, to_svg
from thinned.demo.section import Section, Table, Tick, paragraphs
from thinned.demo.statistics import Spread, difference, spread, stands_out
from thinned.mc.torch import predict

KINDS: Final = ("a quarter turn", "a half turn", "noise")
SCALING: Final = "weight scaling's entropy"
DISAGREEMENT: Final = "mutual information"
SCORES: Final = ("predictive entropy", DISAGREEMENT, "variation ratio", SCALING)
_COLOURS: Final = dict(zip(SCORES, (BLUE, GREEN, GREY, RED), strict=True))
_GRID: Final = np.linspace(0, 1, 101)


def strangers(images: Tensor, seed: int) -> dict[str, Tensor]:
    """Makes as many images without digits as there are digits, by kind: pixels in [0, 1].

    Digits turned to the left, by quarter turns, so that no pixel is interpolated; noise of uniform pixels.
    """
    square = images.reshape(-1, 8, 8)
    turned = [square.rot90(turns, (1, 2)).reshape(-1, 64) for turns in (1, 2)]
    noise = torch.rand(images.shape, generator=torch.Generator().manual_seed(seed))
    return dict(zip(KINDS, (*turned, noise), strict=True))


def scores(net: nn.Sequential, images: Tensor, samples: int, key: Key) -> dict[str, list[Doubles]]:
    """Tells how unfamiliar each image looks, by each score: of the digits, and of each kind after them."""
    found = predict(net, images, samples=samples, key=key, outputs="logits")
    assert found.predictive_entropy is not None
    assert found.mutual_information is not None
    assert found.variation_ratio is not None
    with torch.no_grad():
        entropy = torch.distributions.Categorical(logits=net(images)).entropy()
    by_samples = (found.predictive_entropy, found.mutual_information, found.variation_ratio)
    by_score = zip(SCORES, (*by_samples, entropy.double().numpy()), strict=True)
    return {score: np.split(values, 1 + len(KINDS)) for score, values in by_score}


def measure(trained: list[Trained], images: int, samples: int, seed: int, tick: Tick) -> dict[str, Any]:
    """Area under the ROC, and the ROC, of each kind and score, by seed; and how alike strangers are read."""
    found: dict[str, Any] = {kind: {score: {"auc": [], "curve": []} for score in SCORES} for kind in KINDS}
    alike: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for number, one in enumerate(trained):
        net, digits = one.nets["inverted"], one.digits.test_x[:images]
        sets = {"digits": digits, **strangers(digits, seed + number)}
        key = Key(seed).fold("unfamiliar").fold(number)
        told = scores(net, torch.cat(list(sets.values())), samples, key)
        for place, kind in enumerate(KINDS):
            for score, (familiar, *unfamiliar) in told.items():
                _add_roc(found[kind][score], familiar, unfamiliar[place])
            alike[kind].append(_share_of_the_commonest(net, sets[kind]))
        tick(1)
    return {"images": len(digits), "samples": samples, "roc": found, "read_alike": alike}


@torch.no_grad()
def _share_of_the_commonest(net: nn.Sequential, images: Tensor) -> float:
    """Share of the images that are read as the digit that most of them are read as."""
    scores: Tensor = net(images)
    return float(scores.argmax(dim=1).bincount().max()) / len(images)


def _add_roc(found: dict[str, list[Any]], familiar: Doubles, unfamiliar: Doubles) -> None:
    truth = np.repeat([0, 1], [len(familiar), len(unfamiliar)])
    score = np.concatenate([familiar, unfamiliar])
    false, true, _ = roc_curve(truth, score)
    found["auc"].append(float(roc_auc_score(truth, score)))
    found["curve"].append(np.interp(_GRID, false, true).tolist())


def section(trained: list[Trained], images: int, samples: int, seed: int, tick: Tick) -> Section:
    """Measure and tell."""
    data = measure(trained, images, samples, seed, tick)
    areas = {kind: {score: data["roc"][kind][score]["auc"] for score in SCORES} for kind in KINDS}
    verdicts = " ".join(
        _verdict(kind, areas[kind], float(np.mean(data["read_alike"][kind]))) for kind in KINDS
    )
    return Section(
        name="unfamiliar",
        title="Telling the unfamiliar",
        finding=f"Area under the ROC against digits, by {DISAGREEMENT} and by {SCALING}: "
        + "; ".join(
            f"{kind} {_area(areas[kind][DISAGREEMENT])} and {_area(areas[kind][SCALING])}" for kind in KINDS
        )
        + ".",
        text=paragraphs(f"""
            A network asked about something that is no digit answers with a digit all the same. Does it at
            least know that it does not know? Thinned networks that disagree are one sign:
            {data["samples"]} of them looked at {data["images"]} test images, at the same after a quarter and
            after half a turn, and at noise. Scores are the entropy of their average, what of it is
            disagreement (mutual information), and how many vote against the majority (variation ratio). One
            pass with weight scaling has an entropy too. The area under the ROC is the chance that a stranger
            scores above a digit: 0.5 is guessing, 1 is never wrong.

            {verdicts}
        """),
        figure=_figure(data["roc"]),
        caption="Share of strangers found against share of digits suspected; means over the seeds.",
        table=_table(areas),
        data=data,
    )


def _verdict(kind: str, areas: dict[str, list[float]], alike: float) -> str:
    """Gives what the areas of one kind say, whoever wins: of one score, chosen before any was seen."""
    area, gap = spread(areas[DISAGREEMENT]), difference(areas[DISAGREEMENT], areas[SCALING])
    if not stands_out(gap):
        rank = f"cannot be told from {SCALING}, which does as well in one pass"
    elif gap.mean > 0:
        rank = f"beats {SCALING}"
    else:
        rank = f"is worse than {SCALING}, one pass"
    words = f"For {kind}, {DISAGREEMENT} {rank} ({_signed(gap)} of area)."
    guess = difference(areas[DISAGREEMENT], [0.5] * area.count)
    if stands_out(guess) and guess.mean > 0:
        return words
    return (
        f"{words} It does not clearly beat guessing either: {100 * alike:.0f} % of these images are read as "
        "one digit, no less surely than digits are."
    )


def _signed(gap: Spread) -> str:
    return f"{gap.mean:+.3f} ± {gap.error:.3f}".replace("-", "−")


def _area(values: list[float]) -> str:
    mean = spread(values)
    return f"{mean.mean:.3f} ± {mean.error:.3f}"


def _figure(roc: dict[str, Any]) -> str:
    figure, places = row(len(KINDS), 9.0, 3.6)
    for axes, kind in zip(places, KINDS, strict=True):
        for score in SCORES:
            mean = np.mean(roc[kind][score]["curve"], axis=0)
            style = "--" if score == SCALING else "-"
            axes.plot(100 * _GRID, 100 * mean, style, color=_COLOURS[score], linewidth=1.6, label=score)
        axes.plot([0, 100], [0, 100], ":", color=INK, linewidth=0.8)
        axes.set(xlabel="digits suspected, %", aspect="equal")
        axes.set_title(kind, fontsize=10)
    places[0].set_ylabel("strangers found, %")
    places[-1].legend(loc="lower right", frameon=False, fontsize=8)
    return to_svg(figure, "unfamiliar")


def _table(areas: dict[str, dict[str, list[float]]]) -> Table:
    rows = [
        (
            kind,
            score,
            _area(areas[kind][score]),
            "" if score == SCALING else _signed(difference(areas[kind][score], areas[kind][SCALING])),
        )
        for kind in KINDS
        for score in SCORES
    ]
    return Table(
        ("against digits", "score", "area under the ROC ± s.e.", "minus weight scaling's"), tuple(rows)
    )
