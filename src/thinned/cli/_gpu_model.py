"""`thinned bench --gpu-model` shows what bounds the GPU kernels."""

from __future__ import annotations

import json
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

import click

from thinned.cli._console import extra, progress_bar, writing, wrong_arguments


def model(
    match: str, archs: tuple[str, ...], only_list: bool, outs: tuple[Path, ...], as_json: bool, merge: bool
) -> None:
    """Compile the cases whose text contains `match`, and print or write what the model says of them."""
    earlier = next((out for out in outs if out.suffix == ".json"), None)
    if merge and earlier is None:
        raise click.UsageError("--merge keeps the rows of an earlier .json file: give it with --out")
    with extra("bench"):
        import torch  # noqa: F401
    if find_spec("triton") is None:
        raise click.ClickException(
            "triton is not installed, and the GPU model compiles by it: pip install triton, on Linux"
        )
    from thinned.bench import check_suffix
    from thinned.bench._gpu_model import CHIPS, merged, rows, select, table, write

    with wrong_arguments():
        cases = select(match)
        for out in outs:
            check_suffix(out)
        chosen = archs or tuple(CHIPS)
        if only_list:
            click.echo("\n".join(sorted({case.name for case in cases})))
            return
        with progress_bar() as bar:
            task = bar.add_task("starting", total=len(cases) * len(chosen))
            found = rows(cases, chosen, lambda name, done: bar.update(task, description=name, advance=done))
    if merge and earlier is not None:
        found = merged(found, earlier)
    for out in outs:
        with writing(out) as beside:
            write(found, beside)
        click.echo(f"The model written to {out}", err=True)
    if as_json:
        click.echo(json.dumps([asdict(row) for row in found]))
    elif not outs:
        click.echo(table(found))
