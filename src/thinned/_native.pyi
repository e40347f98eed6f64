from collections.abc import Sequence
from typing import Any

import numpy.typing as npt

def dense(
    dtype: int,
    x: int,
    out: int,
    n: int,
    base: int,
    seed: int,
    stream: int,
    threshold: int,
    scale: float,
    threads: int,
) -> None: ...
def strided(
    dtype: int,
    x: int,
    out: int,
    shape: Sequence[int],
    x_strides: Sequence[int],
    out_strides: Sequence[int],
    position_strides: Sequence[int],
    base: int,
    seed: int,
    stream: int,
    threshold: int,
    scale: float,
    threads: int,
) -> None: ...
def add(
    dtype: int,
    x: int,
    residual: int,
    out: int,
    n: int,
    base: int,
    seed: int,
    stream: int,
    threshold: int,
    scale: float,
    threads: int,
) -> None: ...
def many(
    dtype: int,
    x: int,
    out: int,
    outer: int,
    inner: int,
    x_outer: int,
    x_inner: int,
    shape: Sequence[int],
    position_strides: Sequence[int],
    base: int,
    keys: int,
    threshold: int,
    scale: float,
    each: int,
    threads: int,
) -> None: ...
def dots(
    x: int,
    w: int,
    out: int,
    n: int,
    draws: int,
    base: int,
    seed: int,
    stream: int,
    threshold: int,
    threads: int,
) -> None: ...
def largest(seed: int, stream: int, rows: int, size: int, count: int, out: int) -> None: ...
def take(
    dtype: int,
    whole: int,
    part: int,
    shape: Sequence[int],
    rows: int,
    height: int,
    columns: int,
    width: int,
    row: int,
    scale: float,
    threads: int,
) -> None: ...
def put(
    dtype: int,
    whole: int,
    part: int,
    shape: Sequence[int],
    rows: int,
    height: int,
    columns: int,
    width: int,
    row: int,
    scale: float,
    add: bool,
    threads: int,
) -> None: ...
def normal(
    out: int,
    shape: Sequence[int],
    strides: Sequence[int],
    base: int,
    seed: int,
    stream: int,
    threads: int,
) -> None: ...
def fold(seed: int, stream: int, data: int) -> int: ...
def fold_many(keys: int, data: int, out: int, n: int) -> None: ...
def prefer_large_pages(begin: int, bytes: int) -> None: ...
def address(array: npt.NDArray[Any]) -> int: ...
def available() -> list[str]: ...
def select(name: str) -> bool: ...
def selected() -> str: ...
def foreign() -> int: ...
def xla_handler(minor: int) -> object: ...
def borrow_team(launcher: int) -> None: ...
