"""`thinned bench` measures every target of the project on this machine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.markup import escape
from rich.table import Column, Table

from thinned.cli._console import OutPath, extra, progress_bar, show, show_json, writing, wrong_arguments
from thinned.cli._gpu_model import model

if TYPE_CHECKING:
    from thinned.bench import Measured


@click.command(short_help="Measure thinned against copies and torch.")
@click.argument("match", default="", metavar="[MATCH]")
@click.option("--list", "only_list", is_flag=True, help="Name the rows and measure nothing.")
@click.option("--repeats", type=click.IntRange(1), help="Rounds of each row.  [default: 31]")
@click.option("--quick", is_flag=True, help="Tiny sizes, a few seconds: to see that it works.")
@click.option(
    "--out",
    "outs",
    type=OutPath(),
    multiple=True,
    help="Write the results to this .json or .md file; repeat it for both.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
@click.option(
    "--gpu-model",
    is_flag=True,
    help="Measure nothing: compile the GPU kernels, on a machine with no GPU too, and say what bounds them.",
)
@click.option(
    "--merge", is_flag=True, help="Keep the rows of the model's --out .json that this run does not compile."
)
@click.option(
    "--arch", "archs", multiple=True, help="A GPU of the model, such as sm_90; repeat it.  [default: all]"
)
def bench(
    match: str,
    only_list: bool,
    repeats: int | None,
    quick: bool,
    outs: tuple[Path, ...],
    as_json: bool,
    gpu_model: bool,
    merge: bool,
    archs: tuple[str, ...],
) -> None:
    """Measure thinned against copies, PyTorch and NumPy: about three minutes on two cores.

    With MATCH, only the rows, or cases of the model, whose name contains it.
    """
    if gpu_model:
        if quick or repeats is not None:
            raise click.UsageError("--gpu-model measures nothing: it takes no --quick and no --repeats")
        model(match, archs, only_list, outs, as_json, merge)
        return
    if archs or merge:
        raise click.UsageError(
            "--arch names a GPU of the model, and --merge is of its file: give --gpu-model with them"
        )
    with extra("bench"):
        from thinned.bench import as_dict, check_suffix, select
    with wrong_arguments():
        rows = select(match)
        for out in outs:
            check_suffix(out)
    if only_list:
        click.echo("\n".join(row.name for row in rows))
        return
    found = _measure(match, repeats, quick, len(rows))
    for out in outs:
        _save(found, out)
    if as_json:
        show_json(as_dict(found))
    else:
        _show(found, outs)


def _measure(match: str, repeats: int | None, quick: bool, rows: int) -> Measured:
    from thinned.bench import QUICK, Settings, run

    settings = QUICK if quick else Settings()
    if repeats is not None:
        settings = replace(settings, repeats=repeats)
    with progress_bar() as bar:
        task = bar.add_task("starting", total=rows)
        return run(match, settings, lambda name, done: bar.update(task, description=name, advance=done))


def _save(found: Measured, path: Path) -> None:
    from thinned.bench import write

    with writing(path) as beside:
        write(found, beside)


def _show(found: Measured, outs: tuple[Path, ...]) -> None:
    from thinned.bench import machine_lines, measured, reading, target, verdict, warnings

    machine = Table(show_header=False, box=None, pad_edge=False)
    for name, value in machine_lines(found):
        machine.add_row(name, escape(value))
    table = Table("row", Column("target", overflow="fold"), "measured", "verdict")
    for name, result in found.results.items():
        if result.skipped:
            table.add_row(name, "", f"[dim]not measured: {escape(result.skipped)}[/dim]", "")
        for index, figure in enumerate(result.figures):
            colour = "red" if figure.met is False else "green"
            table.add_row(
                "" if index else name,
                target(figure),
                measured(figure),
                f"[{colour}]{verdict(figure)}[/{colour}]",
            )
    show(machine, table, reading(found), *warnings(found))
    for out in outs:
        show(f"Results written to {escape(str(out))}")
