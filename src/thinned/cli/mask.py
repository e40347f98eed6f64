"""`thinned mask` makes a mask, counts it, and gives its digest."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Any, Final

import click
import numpy as np
from rich.markup import escape
from rich.table import Table

from thinned import Key, keep_mask
from thinned.cli._console import (
    InputError,
    OutPath,
    memory,
    progress_bar,
    show,
    show_json,
    writing,
    wrong_arguments,
)
from thinned.contract import Bools

_WORD: Final = click.IntRange(0, 2**64 - 1)
_CHUNK = 1 << 26  # positions hashed between two reports of progress


def _sizes(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[int, ...] | None:
    """Whole numbers with commas between them."""
    if value is None:
        return None
    entries = [entry.strip() for entry in value.rstrip(",").split(",")]
    if not all(entry.isdecimal() and len(entry) < 20 for entry in entries):
        raise click.BadParameter(
            f"{value!r} is not a list of whole numbers below 10^19 such as 256,1024", context, parameter
        )
    return tuple(int(entry) for entry in entries)


@click.command(short_help="Make a mask: its counts and its digest.")
@click.argument("shape", callback=_sizes)
@click.option("-p", "--p", type=float, required=True, help="Drop probability, in [0, 1].")
@click.option("--seed", type=_WORD, default=0, help="The key's seed.")
@click.option("--stream", type=_WORD, default=0, help="The key's stream.")
@click.option(
    "--fold",
    "folds",
    multiple=True,
    metavar="DATA",
    help="Fold this into the key: digits or a name. Repeatable.",
)
@click.option(
    "--global-shape",
    callback=_sizes,
    metavar="SHAPE",
    help="Shape of the whole mask, where SHAPE is a part of it.",
)
@click.option(
    "--start", callback=_sizes, metavar="INDEX", help="Index in the whole mask at which the part begins."
)
@click.option("--out", type=OutPath(), help="Write the mask to this .npy file.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
def mask(
    shape: tuple[int, ...],
    p: float,
    seed: int,
    stream: int,
    folds: tuple[str, ...],
    global_shape: tuple[int, ...] | None,
    start: tuple[int, ...] | None,
    out: Path | None,
    as_json: bool,
) -> None:
    """Make the mask of SHAPE (for example 256,1024): its counts and its digest.

    The digest is the SHA-256 of the mask as bytes, 1 for kept and 0 for dropped, in C order.
    """
    with wrong_arguments():
        key = Key(seed, stream)
        for data in folds:
            key = key.fold(int(data) if data.isdecimal() else data)
        _check_memory(shape)
        kept = keep_mask(shape, p, key=key, global_shape=global_shape, start=start)
    facts: dict[str, Any] = {"shape": list(shape), "p": p, "seed": key.seed, "stream": key.stream}
    facts |= count(kept)
    if out is not None:
        _save(kept, out)
        facts["out"] = str(out)
    if as_json:
        show_json(facts)
    else:
        show(_table(facts))


def _check_memory(shape: tuple[int, ...]) -> None:
    """Refuse a mask that no memory holds: some systems give the memory, and end the process that uses it."""
    bytes_ = math.prod(shape)
    if bytes_ > memory():
        raise InputError(
            f"the mask of {shape} takes {bytes_ / 2**30:,.0f} GiB, more than this machine's memory of "
            f"{memory() / 2**30:,.0f} GiB: make parts of it, by --global-shape and --start"
        )


def count(kept: Bools) -> dict[str, Any]:
    """Counts kept and dropped positions, and takes the SHA-256 of the mask as uint8 in C order."""
    flat = np.ascontiguousarray(kept).reshape(-1).view(np.uint8)
    digest, total = hashlib.sha256(), 0
    with progress_bar() as bar:
        task = bar.add_task("hashing", total=math.ceil(flat.size / _CHUNK), visible=flat.size > 8 * _CHUNK)
        for begin in range(0, flat.size, _CHUNK):
            part = flat[begin : begin + _CHUNK]
            digest.update(part.data)
            total += int(np.count_nonzero(part))
            bar.advance(task)
    return {"kept": total, "dropped": flat.size - total, "sha256": digest.hexdigest()}


def _save(kept: Bools, path: Path) -> None:
    with writing(path) as beside, beside.open("wb") as file:
        np.save(file, kept)


def _table(facts: dict[str, Any]) -> Table:
    total = facts["kept"] + facts["dropped"]
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_row("shape", " × ".join(map(str, facts["shape"])))
    table.add_row("key", f"seed {facts['seed']}, stream {facts['stream']}")
    for name in ("kept", "dropped"):
        share = f" ({facts[name] / total:.4%})" if total else ""
        table.add_row(name, f"{facts[name]:,}{share}")
    table.add_row("sha256", facts["sha256"])
    if "out" in facts:
        table.add_row("written to", escape(facts["out"]))
    return table
