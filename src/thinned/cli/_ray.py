"""A command runs on Ray here: it joins or starts a cluster, predicts files and checks what was written."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute
import pyarrow.dataset
import ray
import ray.data
import torch
from ray.exceptions import RayError, RayTaskError

from thinned._files import UnreadableError, reason, replacing
from thinned.cli._model import load
from thinned.contract import Key
from thinned.mc._collect import SilentError
from thinned.mc.ray import predict, read
from thinned.mc.ray._columns import SILENT


class NotPredicted(RuntimeError):
    """Holds what went wrong in a worker, in one line."""


class Model:
    """A model by what was typed, made by each worker from the same files.

    Args:
        path: as the command takes it.
        state: of the weights' file.
    """

    def __init__(self, path: str, state: Path | None) -> None:
        is_file = path.endswith(".pt2") or path.rpartition(":")[0].endswith(".py")
        self._path = str(Path(path).resolve()) if is_file else path
        self._state = None if state is None else state.resolve()
        self._folder = os.getcwd()

    def __call__(self) -> Any:
        """The model."""
        if self._folder not in sys.path:  # a worker may run in another
            sys.path.insert(0, self._folder)
        return load(self._path, self._state)


def predict_files(
    model: str,
    data: tuple[str, ...],
    out: Path,
    *,
    state: Path | None,
    seed: int,
    index: str | None,
    inputs: tuple[str, ...],
    workers: int | None,
    cpus: int,
    gpus: float,
    address: str | None,
    progress: bool,
    **settings: Any,
) -> dict[str, Any]:
    """Predict files into others.

    Raises:
        NotPredicted: what a worker raised, or that nothing spread.
        ValueError: what is wrong with an argument or a file.
    """
    load(model, state)  # what is wrong with it is said here, at once
    wanted = [*inputs, *settings["keep_columns"], *([] if index is None else [index])]
    with _cluster(address, workers, cpus, gpus) as pool, _quiet(progress):
        rows = read(data, columns=wanted, index=index)
        found = predict(
            Model(model, state),
            rows,
            index="index" if index is None else index,
            inputs=inputs[0] if len(inputs) == 1 else inputs,
            key=Key(seed),
            workers=pool,
            num_cpus=cpus,
            num_gpus=gpus,
            **settings,
        )
        with replacing(out) as beside:
            try:
                found.write_parquet(str(beside))  # not a relative one: a worker may be in another directory
            except RayError as error:
                raise _told(error) from error
            facts = _looked_over(beside)
    return {**facts, "out": str(out)}


@contextmanager
def _cluster(address: str | None, workers: int | None, cpus: int, gpus: float) -> Iterator[int | None]:
    """A cluster, this machine's own if no other is named, and the workers that it shall have."""
    if ray.is_initialized():
        yield workers
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if address is not None or "RAY_ADDRESS" in os.environ:
        try:
            ray.init(address=address, logging_level=logging.ERROR)
        except (ConnectionError, ValueError, RuntimeError) as error:
            where = address or os.environ["RAY_ADDRESS"]
            raise ValueError(f"no Ray cluster answers at {where!r}: {reason(error)}") from None
    else:
        if gpus > 0 and not torch.cuda.is_available():  # Ray would wait for one without end
            raise ValueError(
                f"gpus={gpus:g}: this machine has none that PyTorch sees; --address names a cluster"
            )
        workers = workers or max(1, (os.cpu_count() or 1) // cpus)
        # One more than the workers hold, for what reads and writes.
        ray.init(num_cpus=workers * cpus + 1, include_dashboard=False, logging_level=logging.ERROR)
    try:
        yield workers
    finally:
        ray.shutdown()


@contextmanager
def _quiet(progress: bool) -> Iterator[None]:
    """Ray Data's log left out but for its bars, and a worker's own error in place of one around it."""
    context, log = ray.data.DataContext.get_current(), logging.getLogger("ray.data")
    before = context.enable_progress_bars, context.raise_original_map_exception, log.level
    context.enable_progress_bars = progress and sys.stderr.isatty()
    context.raise_original_map_exception = True
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        context.enable_progress_bars, context.raise_original_map_exception, level = before
        log.setLevel(level)


def _told(error: RayError) -> Exception:
    """Return what a worker raised, without what Ray adds of itself; a file that it could not read as such."""
    cause = error.cause if isinstance(error, RayTaskError) else error
    text = str(cause).partition("\nFailed to apply UDF")[0].strip()
    if isinstance(cause, UnreadableError):
        return UnreadableError(text)
    return NotPredicted(
        text if isinstance(cause, SilentError) else f"{type(cause).__name__}: {text.partition(chr(10))[0]}"
    )


def _looked_over(out: Path) -> dict[str, Any]:
    """Return what was written, a batch at a time: how many rows, and whether there is a spread."""
    written = pyarrow.dataset.dataset(str(out), format="parquet")
    rows, greatest, spread, samples = 0, 0.0, 0.0, [2**63, 0]
    for batch in written.to_batches(columns=["std", "mean_standard_error", "samples"]):
        rows += batch.num_rows
        spread = max(spread, _most(batch["std"]))
        greatest = max(greatest, _most(batch["mean_standard_error"]))
        few, most = pyarrow.compute.min_max(batch["samples"]).as_py().values() if batch.num_rows else samples
        samples = [min(few, samples[0]), max(most, samples[1])]
    if not spread:
        raise NotPredicted(SILENT)
    return {
        "inputs": rows,
        "samples": samples,
        "mean_standard_error": greatest,
        "files": len(written.files),
    }


def _most(column: Any) -> float:
    """The greatest number in a column of numbers or of arrays."""
    while not pa.types.is_floating(column.type):
        if isinstance(column, pa.ExtensionArray):
            column = column.storage
        else:  # arrays of one shape are lists; of several, lists beside their shapes
            column = column.field("data") if pa.types.is_struct(column.type) else column.flatten()
    return pyarrow.compute.max(column).as_py() or 0.0
