"""`thinned compare-dropouts` compares the family on two bundled data sets."""

from __future__ import annotations

import json
from pathlib import Path

import click
from rich.markup import escape

from thinned.cli._console import OutPath, extra, progress_bar, show, writing


@click.command("compare-dropouts", short_help="Train one network with each kind of dropout.")
@click.option("--seeds", type=click.IntRange(2), default=10, help="Networks of each family and data set.")
@click.option("--seed", type=click.IntRange(0, 2**31), default=0, help="The first of them.")
@click.option(
    "--out",
    type=OutPath(),
    default=Path("thinned-dropouts.md"),
    help="The table to write; its numbers go beside it, as .json.",
)
@click.option("--quick", is_flag=True, help="Small sizes, some seconds: to see that it works.")
def compare_dropouts(seeds: int, seed: int, out: Path, quick: bool) -> None:
    """Train one network with each kind of dropout on two data sets, and say what is clear and what is not."""
    with extra("demo"):
        from thinned.demo.compared import SETS, Sizes, run
        from thinned.demo.compared_text import as_markdown, findings
        from thinned.demo.families import families
    if out.suffix == ".json":
        raise click.BadParameter(f"it names the table, and {str(out)!r} is its numbers'", param_hint="--out")
    sizes = Sizes(seeds, epochs=2, width=16) if quick else Sizes(seeds)
    with progress_bar() as bar:
        total = len(SETS) * seeds * len(families(sizes.width, sizes.steps))
        task = bar.add_task("training networks", total=total)
        data = run(sizes, seed, lambda done: bar.advance(task, done))
    command = f"thinned compare-dropouts --seeds {seeds} --seed {seed}" + (" --quick" if quick else "")
    numbers = out.with_suffix(".json")
    with writing(out) as beside:
        beside.write_text(as_markdown(data, command), encoding="utf-8")
    with writing(numbers) as beside:
        beside.write_text(json.dumps({"command": command, **data}, indent=1) + "\n", encoding="utf-8")
    for name, rows in data["sets"].items():
        show(f"[bold]{escape(name.capitalize())}[/bold]", *(escape(line) for line in findings(rows)), "")
    show(f"Table written to {escape(str(out))}, numbers to {escape(str(numbers))}")
