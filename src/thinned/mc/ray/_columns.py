"""A batch's columns become a model's inputs here, and statistics become columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from ray.data import Dataset

from thinned.mc._collect import WITHOUT_EFFECT, SilentError
from thinned.mc._prediction import Prediction
from thinned.mc._statistics import Statistics
from thinned.mc.ray._chunking import Integers

Inputs = str | tuple[str, ...] | Mapping[str, str]
Batch = Mapping[str, npt.NDArray[Any]]

STATISTICS = tuple(field.name for field in fields(Statistics))


def names_of(inputs: Inputs) -> list[str]:
    """The columns that hold a model's inputs."""
    if isinstance(inputs, str):
        return [inputs]
    return list(inputs.values() if isinstance(inputs, Mapping) else inputs)


def check_known(wanted: list[str], known: list[str]) -> None:
    """Refuse a column that there is not."""
    missing = [repr(name) for name in wanted if name not in known]
    if missing:
        raise ValueError(
            f"the dataset has no column {' and no '.join(missing)}: it has {', '.join(map(repr, known))}"
        )


def numbers(batch: Batch, name: str) -> Integers:
    """The numbers of a batch's inputs in the whole."""
    found = np.asarray(batch[name])
    if found.dtype.kind not in "iu" or found.ndim != 1:
        raise ValueError(
            f"index={name!r} must be a column of integers, one to each row and none missing, got "
            f"{found.dtype} of shape {found.shape}: thinned.mc.ray.numbered makes one"
        )
    if found.size and not 0 <= int(found.min()) <= int(found.max()) < 2**60:
        raise ValueError(f"index={name!r} must be in [0, 2^60), got {found.min()} … {found.max()}")
    return found.astype(np.int64)


def alike(batch: Batch, inputs: Inputs) -> Iterator[tuple[Integers, dict[str, npt.NDArray[Any]]]]:
    """Rows whose inputs have equal shapes and types, by their places in the batch, and their columns."""
    columns = {name: _values(name, batch[name]) for name in names_of(inputs)}
    ragged = {name: column for name, column in columns.items() if isinstance(column, list)}
    rows = len(next(iter(columns.values())))
    groups: dict[Any, list[int]] = {}
    for row in range(rows if ragged else 0):
        kind = tuple((column[row].shape, column[row].dtype.str) for column in ragged.values())
        groups.setdefault(kind, []).append(row)
    for places in groups.values() if ragged else [range(rows)]:
        chosen = np.asarray(places, np.int64)
        if len(chosen):
            yield chosen, {name: _chosen(column, chosen) for name, column in columns.items()}


def _values(name: str, column: Any) -> npt.NDArray[Any] | list[npt.NDArray[Any]]:
    """The column itself, or its rows where they are lists or differ in shape."""
    whole = np.asarray(column)
    if whole.dtype.kind in "biufc":
        return whole
    rows = [np.asarray(one.tolist() if _nested(one) else one) for one in whole]
    wrong = [one.dtype for one in rows if one.dtype.kind not in "biufc"]
    if wrong:
        raise ValueError(f"inputs: column {name!r} must hold numbers in every row, got {wrong[0]}")
    return rows


def _nested(row: Any) -> bool:
    """Tells whether a row is lists in a list, which come as an array of arrays."""
    return isinstance(row, np.ndarray) and row.dtype.kind == "O"


def _chosen(column: npt.NDArray[Any] | list[npt.NDArray[Any]], places: Integers) -> npt.NDArray[Any]:
    return np.stack([column[place] for place in places]) if isinstance(column, list) else column[places]


def arguments(inputs: Inputs, columns: Batch, places: Integers) -> Any:
    """Some rows as `predict` takes them: one array, a tuple, or a mapping."""
    if isinstance(inputs, str):
        return columns[inputs][places]
    if isinstance(inputs, Mapping):
        return {argument: columns[name][places] for argument, name in inputs.items()}
    return tuple(columns[name][places] for name in inputs)


class Found:
    """Statistics of a batch's rows, put together from chunks."""

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._parts: dict[str, list[tuple[Integers, npt.NDArray[Any]]]] = {}

    def put(self, places: Integers, found: Prediction, own: npt.NDArray[np.bool_]) -> None:
        """Keep what belongs to a row, and forget what only filled a slot."""
        assert found.standard_error is not None
        for name in STATISTICS:
            for column, values in ((name, found), (f"{name}_standard_error", found.standard_error)):
                array = getattr(values, name)
                if array is not None:
                    self._parts.setdefault(column, []).append((places[own], array[own]))
        assert found.samples is not None
        self._parts.setdefault("samples", []).append((places[own], found.samples[own]))

    def columns(self) -> dict[str, npt.NDArray[Any]]:
        """Returns columns by name; arrays, or an array to each row where the outputs' shapes differ."""
        return {name: self._joined(parts) for name, parts in self._parts.items()}

    def _joined(self, parts: list[tuple[Integers, npt.NDArray[Any]]]) -> npt.NDArray[Any]:
        shapes = {values.shape[1:] for _, values in parts}
        if len(shapes) == 1:
            whole = np.empty((self._rows, *shapes.pop()), parts[0][1].dtype)
            for places, values in parts:
                whole[places] = values
            return whole
        rows = np.empty(self._rows, object)
        for places, values in parts:
            for place, value in zip(places, values, strict=True):
                rows[place] = value
        return rows


SILENT: Final = (
    f"all samples of all inputs are equal: sites drew, but {WITHOUT_EFFECT}; "
    "thinned.mc.sites(model, x) lists them"
)


def check_spread(predictions: Dataset) -> None:
    """Refuse predictions without a spread in any output of any input, as `thinned.mc.predict` does.

    A worker sees some rows and cannot know: inputs that a model maps to a constant rightly have no spread.
    This looks at one batch after the other, up to the first that has one.

    Args:
        predictions: what `predict` gave, read back or materialized: a dataset that was not is computed again.

    Raises:
        SilentError: `all samples of all inputs are equal: …`.

    Source:
        As in `thinned.mc.predict`, a spread of exactly zero is never a result.

    Example:
        >>> import ray, thinned.mc.ray  # doctest: +SKIP
        >>> thinned.mc.ray.check_spread(ray.data.read_parquet("predictions"))  # doctest: +SKIP
    """
    for batch in predictions.select_columns(["std"]).iter_batches(batch_format="numpy"):
        if any(np.any(row) for row in batch["std"]):
            return
    raise SilentError(SILENT)
