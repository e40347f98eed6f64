"""`thinned mc predict` predicts files of inputs by Monte Carlo dropout, on many workers."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click
from rich.markup import escape

from thinned.cli._console import OutPath, extra, show, show_json, wrong_arguments
from thinned.cli._drawing import drawing


@click.command(short_help="Predict by many thinned networks.")
@click.argument("model")
@click.argument("data", nargs=-1, required=True)
@click.option(
    "--out",
    type=OutPath(directory=True),
    required=True,
    help="Directory for the predictions, Parquet files; new or empty.",
)
@click.option(
    "--input",
    "inputs",
    multiple=True,
    default=("x",),
    metavar="COLUMN",
    help="The model's argument; repeat it for several, in their order.",
)
@click.option(
    "--index",
    metavar="COLUMN",
    help="Numbers of the inputs, if the data have them.  [default: rows are numbered in the files' order]",
)
@click.option("--keep", "keep_columns", multiple=True, metavar="COLUMN", help="Copy it to the predictions.")
@drawing
@click.option(
    "--tolerance",
    type=click.FloatRange(0, min_open=True),
    help="Stop with an input when its mean is known so well.",
)
@click.option("--workers", type=click.IntRange(1), help="Processes that predict.  [default: one a processor]")
@click.option("--cpus", type=click.IntRange(1), default=1, help="Processors, and threads, of each worker.")
@click.option("--gpus", type=click.FloatRange(0), default=0, help="GPUs of each worker.")
@click.option("--batch-size", type=click.IntRange(1), default=256, help="Inputs at a time.")
@click.option(
    "--memory", type=click.IntRange(1), default=2**30, help="Bytes that drawing may take, per worker."
)
@click.option("--address", metavar="HOST:PORT", help="Of a Ray cluster.  [default: this machine]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
def predict(model: str, data: tuple[str, ...], out: Path, as_json: bool, **settings: Any) -> None:
    """Predict every input in DATA by many thinned networks of MODEL, with standard errors, into --out.

    MODEL is a program saved by torch.export (.pt2), or the path of a function that makes the model:
    package.module:factory or file.py:factory. DATA are Parquet files or directories of them, or one .npy or
    .npz file; the column x is the input (--input).

    An input's masks follow from --seed and its number alone: predictions are the same whatever the number of
    workers, and if one of them dies. Read them by pandas.read_parquet, and sort by "index".

    Example: thinned mc predict model.py:make inputs/ --out predictions --workers 4
    """
    with extra("ray"):
        from thinned.cli._ray import NotPredicted, predict_files
    if out.is_dir() and any(out.iterdir()):
        raise click.BadParameter(f"{str(out)!r} is not empty: its rows would mix", param_hint="'--out'")
    began = time.monotonic()
    with wrong_arguments():
        try:
            facts = predict_files(model, data, out, progress=not as_json, **settings)
        except NotPredicted as error:
            raise click.ClickException(str(error)) from error
    facts["seconds"] = round(time.monotonic() - began, 1)
    if as_json:
        show_json(facts)
        return
    show(
        f"{facts['inputs']:,} inputs predicted with {_range(facts['samples'])} samples each in "
        f"{facts['seconds']:,} s; the means' largest standard error is {facts['mean_standard_error']:.2g}.",
        f"{facts['files']} files written to {escape(str(out))}",
    )


def _range(samples: list[int]) -> str:
    return f"{samples[0]}" if samples[0] == samples[1] else f"{samples[0]} to {samples[1]}"
