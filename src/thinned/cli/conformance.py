"""`thinned conformance` makes one mask on every backend, device and number of shards."""

from __future__ import annotations

from pathlib import Path

import click
from rich.markup import escape

from thinned.cli._console import OutPath, extra, progress_bar, show, show_json, writing


@click.command(short_help="Make one mask on every backend and device.")
@click.option(
    "--backend", "chosen", multiple=True, help="Only this one; repeat it for several.  [default: all]"
)
@click.option("--out", type=OutPath(), help="Write the matrix to this .md file.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
def conformance(chosen: tuple[str, ...], out: Path | None, as_json: bool) -> None:
    """Make one mask on every backend and device, eager and compiled, in 1, 2 and 4 shards: about a minute.

    What is not installed, or has no device here, is said to be not run. The exit status is 1 where a digest
    is not the contract's.
    """
    with extra("cli"):
        from thinned.conformance import BACKENDS, as_dict, as_markdown, matrix
    unknown = [name for name in chosen if name not in BACKENDS]
    if unknown:
        raise click.BadParameter(f"{unknown[0]!r} is none of {', '.join(BACKENDS)}", param_hint="'--backend'")
    names = chosen or BACKENDS
    with progress_bar() as bar:
        task = bar.add_task("masks", total=len(names))
        cells = matrix(names, lambda name: bar.update(task, description=name, advance=1))
    page, facts = as_markdown(cells), as_dict(cells)
    if out is not None:
        with writing(out) as beside:
            beside.write_text(page, encoding="utf-8")
    if as_json:
        show_json(facts)
    elif out is None:
        click.echo(page)
    else:
        show(f"Matrix written to {escape(str(out))}")
    if not facts["equal"]:
        raise SystemExit(1)
