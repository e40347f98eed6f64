"""The matrix compares one mask on every backend, device and number of shards by its digest."""

# `_matrix` starts a process for each backend, whose file is `_on_….py`; `_case` is the mask that all make,
# and `_report` writes docs/matrix.md.

from thinned.conformance._case import EXPECTED, Cell
from thinned.conformance._matrix import BACKENDS, matrix
from thinned.conformance._report import as_dict, as_markdown

__all__ = ["BACKENDS", "EXPECTED", "Cell", "as_dict", "as_markdown", "matrix"]


def __dir__() -> list[str]:
    return sorted(__all__)
