"""`thinned averages` runs the averages experiment, and shows a table and a plot."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.markup import escape
from rich.table import Table

from thinned import averages as experiment
from thinned.cli._console import OutPath, extra, progress_bar, show, show_json, writing, wrong_arguments

_PLAIN_DRAWS = 10  # for each keep rate, with --compare: enough for a mean within a few per cent


@click.command(short_help="Average W · x over many masks, scaled and not.")
@click.option("--size", type=click.IntRange(1), default=experiment.SIZE, help="Elements of x and of W.")
@click.option("--masks", type=click.IntRange(2), default=experiment.MASKS, help="Masks for each keep rate.")
@click.option(
    "--keep",
    type=click.FloatRange(0, 1, min_open=True),
    multiple=True,
    default=experiment.KEEP,
    help="Keep rate; repeat it for several.",
)
@click.option("--seed", type=click.IntRange(0, 2**64 - 1), default=0, help="Of W and of the masks.")
@click.option("--plot", type=OutPath(), help="Draw a plot to this .png or .svg file.")
@click.option("--compare", is_flag=True, help="Also time the same loop in plain NumPy.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
def averages(
    size: int, masks: int, keep: tuple[float, ...], seed: int, plot: Path | None, compare: bool, as_json: bool
) -> None:
    """Average W · x of a vector of ones over many masks, unscaled and scaled by 1/keep."""
    drawn = None if plot is None else _drawing()  # what is missing for it is said before the work
    with wrong_arguments(), progress_bar() as bar:
        task = bar.add_task("drawing masks", total=masks * len(keep))
        result = experiment.run(size, masks, keep, seed, lambda done: bar.advance(task, done))
        facts = asdict(result)
        if compare:
            bar.remove_task(task)
            bar.add_task("timing plain NumPy", total=None)
            facts["compare"] = _compare(result, experiment.time_plain_loop(size, keep, seed, _PLAIN_DRAWS))
    if plot is not None and drawn is not None:
        with writing(plot, "--plot") as beside:
            drawn(result).savefig(beside)
    if as_json:
        show_json(facts)
        return
    show(_table(result), _reading(result))
    if compare:
        show(_comparison(facts["compare"]))
    if plot is not None:
        show(f"Plot written to {escape(str(plot))}")


def _table(result: experiment.Averages) -> Table:
    title = f"W · x of {result.size:,} ones, {result.masks:,} masks a keep rate; ΣW = {result.total:.2f}"
    table = Table(title=title, title_justify="left", title_style="bold")
    for name in ("keep", "keep·ΣW", "unscaled mean", "± s.e.", "scaled mean", "± s.e.", "std, scaled"):
        table.add_column(name, justify="right")
    for rate in result.rates:
        plain, scaled = rate.unscaled, rate.scaled
        numbers = (rate.expected, plain.mean, plain.error, scaled.mean, scaled.error, scaled.deviation)
        table.add_row(f"{rate.keep:g}", *(f"{number:.2f}" for number in numbers))
    return table


def _reading(result: experiment.Averages) -> str:
    worst = experiment.worst_deviation(result)
    return (
        f"Unscaled, the mean shrinks with the keep rate; scaled by 1/keep it stays at ΣW "
        f"(all within {worst:.1f} standard errors). Took {result.seconds:.2f} s."
    )


def _compare(result: experiment.Averages, plain: float) -> dict[str, Any]:
    ours = result.seconds / (result.masks * len(result.rates))
    return {"seconds_per_mask": ours, "plain_seconds_per_mask": plain, "ratio": plain / ours}


def _comparison(facts: dict[str, Any]) -> str:
    return (
        f"Plain NumPy takes {facts['plain_seconds_per_mask'] * 1e3:.3f} ms a mask, "
        f"thinned {facts['seconds_per_mask'] * 1e3:.3f} ms: {facts['ratio']:.1f} times faster."
    )


def _drawing() -> Callable[[experiment.Averages], Any]:
    """What makes the figure of a result."""
    with extra("cli"):
        from thinned.demo.drawing import canvas
        from thinned.demo.mean_activation import plot

    def drawn(result: experiment.Averages) -> Any:
        figure, axes = canvas()
        plot(result, axes)
        return figure

    return drawn
