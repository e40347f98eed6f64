"""`thinned mc` applies Monte Carlo dropout to a saved model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.markup import escape
from rich.table import Table

from thinned._files import reading, reason
from thinned.cli._console import InputError, OutPath, extra, show, show_json, writing, wrong_arguments
from thinned.cli._drawing import drawing
from thinned.cli.mc_predict import predict

if TYPE_CHECKING:
    from thinned.mc._comparison import Comparison

_SUFFIXES = (".json", ".md")


@click.group()
def mc() -> None:
    """Average thinned networks: Monte Carlo dropout."""


mc.add_command(predict)


@mc.command(short_help="Say whether averaging is worth it.")
@click.argument("model")
@click.argument("data", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@drawing
@click.option("--batch-size", type=click.IntRange(1), help="Inputs at a time.  [default: 1024]")
@click.option("--memory", type=click.IntRange(1), default=2**30, help="Bytes that drawing may take.")
@click.option("--bins", type=click.IntRange(1), default=15, help="Of the calibration error.")
@click.option("--resamples", type=click.IntRange(99), default=999, help="Of the inputs, for the intervals.")
@click.option(
    "--out",
    "outs",
    type=OutPath(),
    multiple=True,
    help="Write the report to this .json or .md file; repeat it for both.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
def compare(
    model: str,
    data: Path,
    state: Path | None,
    seed: int,
    outs: tuple[Path, ...],
    as_json: bool,
    **settings: Any,
) -> None:
    """Say whether averaging thinned networks is worth it for MODEL on DATA: weight scaling or Monte Carlo.

    MODEL is a program saved by torch.export (.pt2), or the path of a function that makes the model:
    package.module:factory or file.py:factory. DATA is an .npz file with the arrays x and y.
    """
    for out in outs:
        if out.suffix not in _SUFFIXES:
            raise click.BadParameter(f"{str(out)!r} must end in .json or .md", param_hint="'--out'")
    with extra("mc"):
        from thinned import Key
        from thinned.cli._model import load
        from thinned.mc._collect import SilentError
        from thinned.mc._compare import compare as run
    with wrong_arguments():
        made, arrays = load(model, state), _read(data)
        try:
            found = run(made, arrays, key=Key(seed), progress=not as_json, **settings)
        except SilentError as error:
            raise click.ClickException(str(error)) from None
        except (TypeError, ValueError, MemoryError):
            raise
        except Exception as error:  # what the model's own code raises
            shape = arrays[0].shape
            raise click.ClickException(f"{model} fails on x of shape {shape}: {reason(error)}") from error
    for out in outs:
        _save(found, out)
    if as_json:
        show_json(found.to_dict())
        return
    show(_table(found), "", *map(escape, found.sentences()))
    for out in outs:
        show(f"Report written to {escape(str(out))}")


def _read(path: Path) -> tuple[Any, Any]:
    import numpy as np

    # The stream is closed here: NumPy leaves one of its own open where the archive is wrong.
    with reading(path, ".npz"), path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    missing = [name for name in ("x", "y") if name not in arrays]
    if missing:
        raise InputError(
            f"{str(path)!r} has no array {' and no '.join(missing)}, but {', '.join(arrays) or 'none'}: save "
            "it by numpy.savez(path, x=inputs, y=labels)"
        )
    for name in ("x", "y"):
        _check_array(path, name, arrays[name])
    return arrays["x"], arrays["y"]


def _check_array(path: Path, name: str, array: Any) -> None:
    """Checks that the array has one row for each input, and holds numbers."""
    if not array.ndim or not len(array):
        raise InputError(f"{str(path)!r}: {name} must have a row for each input, got shape {array.shape}")
    if array.dtype.kind not in "biufc":
        raise InputError(f"{str(path)!r}: {name} must hold numbers, got {array.dtype}")


def _save(found: Comparison, path: Path) -> None:
    text = json.dumps(found.to_dict(), indent=2) + "\n" if path.suffix == ".json" else found.to_markdown()
    with writing(path) as beside:
        beside.write_text(text, encoding="utf-8")


def _table(found: Comparison) -> Table:
    table = Table(title=found.title(), title_justify="left", title_style="bold")
    for place, name in enumerate(found.header()):
        table.add_column(name, justify="left" if place == 0 else "right")
    *rows, difference = found.rows()
    for row in rows:
        table.add_row(*row)
    table.add_section()
    table.add_row(*difference)
    return table
