"""This section runs the averages experiment and draws it."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
from matplotlib.axes import Axes

from thinned import averages
from thinned.demo.drawing import BLUE, GREY, RED, canvas, to_svg
from thinned.demo.section import Section, Table, Tick, paragraphs


def section(size: int, masks: int, seed: int, tick: Tick) -> Section:
    """Run the experiment at the usual keep rates."""
    result = averages.run(size, masks, averages.KEEP, seed, tick)
    figure, axes = canvas()
    plot(result, axes)
    last = result.rates[-1]
    spreads = ", ".join(f"{rate.scaled.deviation:.0f} at {rate.keep:g}" for rate in result.rates)
    return Section(
        name="averages",
        title="Why what is kept is scaled",
        finding=(
            f"Without dropout W · x is {result.total:.1f}. At a keep rate of {last.keep:g} its average over "
            f"{masks:,} masks is {last.unscaled.mean:.1f} ± {last.unscaled.error:.1f} unscaled and "
            f"{last.scaled.mean:.1f} ± {last.scaled.error:.1f} scaled by 1/keep."
        ),
        text=paragraphs(f"""
            One linear unit: x is a vector of {size:,} ones, W as many standard normal weights. For each keep
            rate {masks:,} masks are drawn, and W · x is computed with each of them.

            Unscaled, the average follows the dashed line keep · ΣW: the more is dropped, the less the unit
            gets, and in evaluation it would suddenly get everything. Scaled by 1/keep, the average stays
            where it is without dropout: of the scaled means the farthest lies
            {averages.worst_deviation(result):.1f} standard errors from ΣW.

            What scaling cannot mend is the spread. The bars are one standard deviation over masks, and the
            scaled ones grow as less is kept: {spreads}. A single pass in training sees that much noise.
        """),
        figure=to_svg(figure, "averages"),
        caption="Mean activation over the masks; bars are one standard deviation over masks.",
        table=_table(result),
        data={key: value for key, value in asdict(result).items() if key != "seconds"},
    )


def plot(result: averages.Averages, axes: Axes) -> None:
    """Draw the mean activation against the keep rate, with the standard deviation over masks as bars."""
    ends = np.array([0.0, 1.0])
    axes.axhline(result.total, color=GREY, linewidth=1.2, label="ΣW, no dropout")
    axes.plot(ends, ends * result.total, color=GREY, linewidth=1.2, linestyle="--", label="keep · ΣW")
    for name, label, colour, shift in (
        ("unscaled", "unscaled", RED, -0.005),
        ("scaled", "scaled by 1/keep", BLUE, 0.005),
    ):
        found: list[averages.Statistics] = [getattr(rate, name) for rate in result.rates]
        axes.errorbar(
            [rate.keep + shift for rate in result.rates],
            [statistics.mean for statistics in found],
            [statistics.deviation for statistics in found],
            fmt="o",
            markersize=5,
            capsize=3,
            linewidth=1.4,
            color=colour,
            label=label,
        )
    axes.set(xlabel="keep rate", ylabel="activation W · x", xlim=(0, 1.05))
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.14), ncols=4, fontsize=9, frameon=False)


def _table(result: averages.Averages) -> Table:
    rows = tuple(
        (
            f"{rate.keep:g}",
            f"{rate.expected:.1f}",
            f"{rate.unscaled.mean:.1f} ± {rate.unscaled.error:.1f}",
            f"{rate.scaled.mean:.1f} ± {rate.scaled.error:.1f}",
            f"{rate.scaled.deviation:.1f}",
        )
        for rate in result.rates
    )
    header = ("keep rate", "keep · ΣW", "unscaled mean", "scaled mean", "std of scaled")
    return Table(header, rows)
