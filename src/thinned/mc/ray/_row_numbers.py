"""The number of each row in its dataset, as a column."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import ray
from ray.data import Dataset


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
