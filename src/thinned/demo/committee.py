"""This experiment compares the error of k averaged networks with that of one network with scaled weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from thinned.averages import Doubles
from thinned.demo.conventions import Trained
from thinned.demo.digits import error
from thinned.demo.drawing import BLUE, RED, canvas, to_svg
from thinned.demo.section import Section, Table, Tick, paragraphs
from thinned.demo.statistics import difference, in_words, spread, stands_out

_SHOWN = (1, 2, 3, 5, 10, 20, 30, 50, 100, 200)


@torch.no_grad()
def errors_by_size(one: Trained, samples: int, seed: int, tick: Tick) -> list[float]:
    """Test error of the average of the first 1 … `samples` thinned networks' probabilities."""
    net, total, errors = one.nets["inverted"], torch.zeros(()), []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net.train()  # dropout is all that this switches: the network has nothing else that cares
        for _ in range(samples):
            scores: Tensor = net(one.digits.test_x)
            total = total + scores.softmax(dim=1)
            errors.append(error(total, one.digits.test_y))
            tick(1)
        net.eval()
    return errors


@torch.no_grad()
def measure(trained: list[Trained], samples: int, seed: int, tick: Tick) -> dict[str, Any]:
    """Errors of committees of each size, and of weight scaling, by seed."""
    return {
        "sizes": list(range(1, samples + 1)),
        "committee": [errors_by_size(one, samples, seed + k, tick) for k, one in enumerate(trained)],
        "weight_scaling": [
            error(one.nets["inverted"](one.digits.test_x), one.digits.test_y) for one in trained
        ],
    }


def section(trained: list[Trained], samples: int, seed: int, tick: Tick) -> Section:
    """Measure and tell."""
    data = measure(trained, samples, seed, tick)
    committee, scaling = np.array(data["committee"]), data["weight_scaling"]
    some = max(1, min(10, samples // 2))
    alone, few, all_of_them = (spread(committee[:, k - 1].tolist()) for k in (1, some, samples))
    gap = difference(committee[:, -1].tolist(), scaling)
    close = crossover(committee, scaling)
    reached = (
        f"From k = {close} on, its mean error is at most a tenth of a point above weight scaling's."
        if close
        else "Its mean error has not come within a tenth of a point of weight scaling's."
    )
    rank = (
        ("beats" if gap.mean > 0 else "is not quite as good as") if stands_out(gap) else "cannot be told from"
    )
    return Section(
        name="committee",
        title="Averaging k thinned networks",
        finding=(
            f"One thinned network errs on {alone.percent()} of the test images, {some} averaged on "
            f"{few.percent()}, {samples} on {all_of_them.percent()}; weight scaling, one pass, on "
            f"{spread(scaling).percent()}. {samples} minus weight scaling: {in_words(gap)}."
        ),
        text=paragraphs(f"""
            Every mask makes a thinned network of its own, and a network trained with dropout is a committee
            of them that share their weights. To ask a committee without bias is to draw k masks and average
            the k answers. The cheap way is one pass with nothing dropped (weight scaling). It stands in for
            the average over all masks: exactly for a single linear layer, approximately for a deep network.

            The networks are those trained above with inverted dropout ({len(trained)} seeds). A single member
            is wrong on {alone.percent()}; averaging {some} brings that to {few.percent()}. {reached} At
            k = {samples} the difference to weight scaling is {in_words(gap)}: one pass
            {rank} averaging {samples}.
        """),
        figure=_figure(committee, scaling),
        caption="Test error against the number of thinned networks averaged; bands are one standard error.",
        table=_table(committee, scaling),
        data=data,
    )


def crossover(committee: Doubles, scaling: list[float]) -> int | None:
    """The first k from which the mean error stays within 0.1 points of weight scaling's, or below it."""
    near = committee.mean(axis=0) <= np.mean(scaling) + 0.001
    if not near[-1]:
        return None
    return int(np.flatnonzero(~near)[-1]) + 2 if not near.all() else 1


def _figure(committee: Doubles, scaling: list[float]) -> str:
    figure, axes = canvas()
    sizes = np.arange(1, committee.shape[1] + 1)
    mean = 100 * committee.mean(axis=0)
    band = 100 * committee.std(axis=0, ddof=1) / np.sqrt(len(committee))
    axes.plot(sizes, mean, color=BLUE, linewidth=1.8, label="average of k thinned networks")
    axes.fill_between(sizes, mean - band, mean + band, color=BLUE, alpha=0.18, linewidth=0)
    line = spread(scaling)
    axes.axhline(100 * line.mean, color=RED, linewidth=1.4, label="weight scaling, one pass")
    axes.axhspan(
        100 * (line.mean - line.error), 100 * (line.mean + line.error), color=RED, alpha=0.12, linewidth=0
    )
    ticks = [k for k in (1, 2, 5, 10, 20, 50, 100, 200) if k <= sizes[-1]]
    axes.set_xscale("log")
    axes.set_xticks(ticks, [str(k) for k in ticks])
    axes.minorticks_off()
    axes.set(xlabel="k, networks averaged", ylabel="test error, %")
    axes.legend(loc="upper right", frameon=False)
    return to_svg(figure, "committee")


def _table(committee: Doubles, scaling: list[float]) -> Table:
    rows = []
    for k in (k for k in _SHOWN if k <= committee.shape[1]):
        errors = committee[:, k - 1].tolist()
        rows.append((str(k), spread(errors).percent(2), in_words(difference(errors, scaling)).split(",")[0]))
    rows.append(("weight scaling", spread(scaling).percent(2), ""))
    return Table(("networks averaged", "test error ± s.e.", "minus weight scaling"), tuple(rows))
