"""`thinned demo` makes the demonstration on handwritten digits, one HTML report."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import click
from rich.markup import escape
from rich.progress import TaskID

from thinned.cli._console import OutPath, extra, progress_bar, show, writing


@click.command(short_help="Train small networks, and write a report.")
@click.option(
    "--out",
    type=OutPath(),
    default=Path("thinned-report.html"),
    help="The report to write.",
)
@click.option("--seed", type=click.IntRange(0, 2**31), default=0, help="Of every split, network and mask.")
@click.option("--quick", is_flag=True, help="Small sizes, a few seconds: to see that it works.")
@click.option("--again", is_flag=True, help="Train anew, also where the report of the same run stands.")
def demo(out: Path, seed: int, quick: bool, again: bool) -> None:
    """Train small networks on handwritten digits and write a report on what dropout does.

    Where --out is already the report of the same arguments, sources, versions and machine, its
    findings are shown with their date, and nothing is trained.
    """
    with extra("demo"):
        from thinned.demo.settings import FULL, QUICK
        from thinned.demo.standing_report import fingerprint, standing

        settings = QUICK if quick else FULL
        made_by = fingerprint(settings, seed)
    if not again and (record := standing(out, made_by)):
        _tell(record["findings"])
        show(f"{escape(str(out))} is the report of this very run, of {record['date']}: --again trains anew")
        return
    with extra("demo"):
        from thinned.demo.report import render
        from thinned.demo.run import run
    with progress_bar() as bar:
        tasks: dict[str, TaskID] = {}

        def report(name: str, total: int, done: int) -> None:
            if name not in tasks:
                tasks[name] = bar.add_task(name, total=total)
            bar.advance(tasks[name], done)

        sections = run(settings, seed, report)
    command = f"thinned demo --seed {seed}" + (" --quick" if quick else "")
    with writing(out) as beside:
        beside.write_text(render(sections, command, made_by), encoding="utf-8")
    _tell((section.title, section.finding) for section in sections)
    show(f"Report written to {escape(str(out))}")


def _tell(findings: Iterable[Sequence[str]]) -> None:
    for title, finding in findings:
        show(f"[bold]{escape(title)}[/bold]", escape(finding), "")
