"""Files are read here as a dataset whose rows have their numbers."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.dataset
import pyarrow.fs
import pyarrow.parquet
import ray
from ray.data import Dataset

from thinned._files import reading
from thinned.mc._collect import check_at_least_1
from thinned.mc.ray import _columns

ROWS = 4096
INDEX = "index"

_ARRAYS = (".npy", ".npz")
_PART = ("path", "start", "first", "rows")  # start: a row group's number, or an array's row
_TASKS = 1000


def read(
    data: str | Path | Sequence[str | Path],
    *,
    columns: Sequence[str] | None = None,
    index: str | None = None,
    rows_per_block: int = ROWS,
) -> Dataset:
    """Read Parquet files or NumPy arrays as a dataset with a column that numbers the rows.

    Numbers follow from the files alone: of Parquet the footers are read in this call, and nothing else.

    Args:
        data: a Parquet file, a directory of them, a pattern, an address (s3://…), or several of these,
            numbered in that order, and files of a directory by path; or one .npy file, whose rows along the
            first axis are the column `x`, or one .npz file, whose arrays are columns.
        columns: those to read; all if None.
        index: the column with the numbers of the inputs, if there is one: nothing is numbered then.
        rows_per_block: rows that go to a worker at once, at most.

    Returns:
        A dataset that is read when it is consumed, with the column `index`, int64 from 0, if none was named.

    Raises:
        ValueError: `there is no file …`; `cannot read … as Parquet: …`; `… has a column 'index' already`;
            `the dataset has no column …`; `the arrays of … differ in their first axis`.

    Source:
        Apache Parquet's format: a file's footer says how many rows its row groups have.

    Example:
        >>> import thinned.mc.ray  # doctest: +SKIP
        >>> thinned.mc.ray.read("inputs/").columns()  # doctest: +SKIP
        ['x', 'index']
    """
    check_at_least_1("rows_per_block", rows_per_block)
    given = [data] if isinstance(data, (str, Path)) else list(data)
    paths = [path for one in given for path in _files(str(one))]
    arrays = [path for path in paths if path.endswith(_ARRAYS)]
    if arrays and len(paths) > 1:
        raise ValueError(f"data must be one .npy or .npz file, or Parquet files, got {len(paths)} files")
    parts = _of_arrays(arrays[0], rows_per_block) if arrays else _of_parquet(paths)
    if not parts:
        raise ValueError(f"{data} has no rows")
    _check_names(parts[0]["path"], index, columns)
    made = ray.data.from_items(parts, override_num_blocks=min(len(parts), _TASKS))
    wanted = (
        None if columns is None else tuple(dict.fromkeys([*columns, *([] if index is None else [index])]))
    )
    tables = made.map_batches(cast(Any, _tables), batch_size=1, fn_args=(wanted, index is None))
    return tables.repartition(target_num_rows_per_block=rows_per_block)


def _files(data: str) -> list[str]:
    """The files that a path, a pattern or an address means, in order."""
    if data.endswith(_ARRAYS) and Path(data).is_file():
        return [str(Path(data).resolve())]
    found = sorted(glob.glob(data, recursive=True)) if glob.has_magic(data) and "://" not in data else [data]
    local = [str(Path(one).resolve()) if "://" not in one else one for one in found]
    if not local or not all("://" in one or Path(one).exists() for one in local):
        raise ValueError(f"there is no file {data!r}")
    files = []
    for one in local:
        if "://" not in one and Path(one).is_file():
            files.append(one)
        else:
            address = f"{one.partition('://')[0]}://" if "://" in one else ""
            with reading(one, "a directory of Parquet files"):
                within = pyarrow.dataset.dataset(one, format="parquet", exclude_invalid_files=False).files
            files.extend(address + name for name in sorted(within))
    return files


def _of_parquet(paths: list[str]) -> list[dict[str, Any]]:
    """Row groups, and the number of the first row of each."""
    parts, first = [], 0
    for path in paths:
        footer = _opened(path).metadata
        for group in range(footer.num_row_groups):
            rows = footer.row_group(group).num_rows
            if rows:
                parts.append({"path": path, "start": group, "first": first, "rows": rows})
            first += rows
    return parts


def _opened(path: str) -> pyarrow.parquet.ParquetFile:
    with reading(path, "Parquet"):
        if "://" not in path:
            return pyarrow.parquet.ParquetFile(path)
        system, within = pyarrow.fs.FileSystem.from_uri(path)
        return pyarrow.parquet.ParquetFile(within, filesystem=system)


def _of_arrays(path: str, most: int) -> list[dict[str, Any]]:
    """Rows of arrays, some at a time."""
    sizes = {name: array.shape[:1] for name, array in _arrays(path).items()}
    if not sizes:
        raise ValueError(f"{path!r} has no arrays in it")
    if len(set(sizes.values())) != 1 or () in sizes.values():
        raise ValueError(f"the arrays of {path!r} differ in their first axis: {sizes}")
    ((rows,),) = set(sizes.values())
    edges = range(0, rows, most)
    return [
        {"path": path, "start": first, "first": first, "rows": min(most, rows - first)} for first in edges
    ]


def _arrays(path: str) -> dict[str, Any]:
    """The arrays of a file; one of .npy stays in it."""
    with reading(path, "an array of NumPy's"):
        if path.endswith(".npy"):
            return {"x": np.load(path, mmap_mode="r", allow_pickle=False)}
        # The stream is closed here: NumPy leaves one of its own open where the archive is wrong.
        with Path(path).open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}


def _check_names(path: str, index: str | None, columns: Sequence[str] | None) -> None:
    known = list(_arrays(path)) if path.endswith(_ARRAYS) else _opened(path).schema_arrow.names
    if index is None and INDEX in known:
        raise ValueError(f"{path!r} has a column {INDEX!r} already: say so by index={INDEX!r}, or rename it")
    _columns.check_known([*(columns or ()), *([] if index is None else [index])], known)


def _tables(parts: dict[str, Any], columns: tuple[str, ...] | None, numbered: bool) -> Iterator[Any]:
    """The rows of parts, with their numbers if they shall have some."""
    for path, start, first, rows in zip(*(parts[name].tolist() for name in _PART), strict=True):
        numbers = np.arange(first, first + rows)
        if path.endswith(_ARRAYS):
            arrays = _arrays(path)
            chosen = {name: arrays[name][start : start + rows] for name in columns or arrays}
            yield {
                **{name: np.array(array) for name, array in chosen.items()},
                **({INDEX: numbers} if numbered else {}),
            }
        else:
            wanted = None if columns is None else list(columns)
            with reading(path, "Parquet"):
                table = _opened(path).read_row_group(start, columns=wanted)
            yield table.append_column(INDEX, pa.array(numbers)) if numbered else table


def numbered(dataset: Dataset, index: str = "index") -> Dataset:
    """Number the rows of a dataset in its order, from 0.

    The dataset is computed once in this call, for a row's number is how many there are before it: its blocks
    stay in Ray's object store, and on disk where that is full. `read` numbers data in files without that.

    Args:
        dataset: of Ray Data.
        index: name of the column.

    Returns:
        The dataset with one column more, int64.

    Raises:
        ValueError: `the dataset has a column … already`.

    Source:
        CONTRACT.md, section 5: samples get their keys by folding, of the sample's number for one.

    Example:
        >>> import ray, thinned.mc.ray  # doctest: +SKIP
        >>> thinned.mc.ray.numbered(ray.data.from_items(["a", "b"])).take_all()  # doctest: +SKIP
        [{'item': 'a', 'index': 0}, {'item': 'b', 'index': 1}]
    """
    if index in (dataset.columns() or ()):
        raise ValueError(f"the dataset has a column {index!r} already: use it, or name another by index=")
    options = dataset.context.execution_options
    before, options.preserve_order = options.preserve_order, True
    try:
        tables = dataset.materialize().to_arrow_refs()
    finally:
        options.preserve_order = before
    # A wave of small tasks, in place of the tables in this process.
    sizes = ray.get([_rows.remote(table) for table in tables])
    made: list[Any] = []
    first = 0
    for table, size in zip(tables, sizes, strict=True):
        if size:
            made.append(_with_numbers.remote(table, first, index))
        first += size
    return ray.data.from_arrow_refs(made)


@ray.remote
def _rows(table: pa.Table) -> int:
    return int(table.num_rows)


@ray.remote
def _with_numbers(table: pa.Table, first: int, index: str) -> Any:
    return table.append_column(index, pa.array(range(first, first + table.num_rows), pa.int64()))
