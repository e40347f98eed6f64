"""`thinned demo`: the demonstration on handwritten digits, as one HTML report."""

from __future__ import annotations

from pathlib import Path

import click
from rich.markup import escape
from rich.progress import TaskID

from thinned.cli._console import OutPath, extra, progress_bar, show, writing


@click.command()
@click.option(
    "--out",
    type=OutPath(),
    default=Path("thinned-report.html"),
    help="The report to write.",
)
@click.option("--seed", type=click.IntRange(0, 2**31), default=0, help="Of every split, network and mask.")
@click.option("--quick", is_flag=True, help="Small sizes, a few seconds: to see that it works.")
def demo(out: Path, seed: int, quick: bool) -> None:
    """Train small networks on handwritten digits and write a report on what dropout does."""
    with extra("demo"):
        from thinned.demo.report import render
        from thinned.demo.run import run
        from thinned.demo.settings import FULL, QUICK
    settings = QUICK if quick else FULL
    with progress_bar() as bar:
        tasks: dict[str, TaskID] = {}

        def report(name: str, total: int, done: int) -> None:
            if name not in tasks:
                tasks[name] = bar.add_task(name, total=total)
            bar.advance(tasks[name], done)

        sections = run(settings, seed, report)
    command = f"thinned demo --seed {seed}" + (" --quick" if quick else "")
    with writing(out) as beside:
        beside.write_text(render(sections, command), encoding="utf-8")
    for section in sections:
        show(f"[bold]{escape(section.title)}[/bold]", escape(section.finding), "")
    show(f"Report written to {escape(str(out))}")
