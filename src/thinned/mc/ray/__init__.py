"""This package predicts with PyTorch models over large data sets, on Ray Data."""

# `_read` and `_row_numbers` give each row its number, `_chunking` says which rows are computed together, a
# `_worker` predicts them, and `_predict` is the step of the pipeline.

from __future__ import annotations

from typing import TYPE_CHECKING

from thinned.mc._lazy import later

if TYPE_CHECKING:
    from thinned.mc.ray._columns import check_spread
    from thinned.mc.ray._predict import predict
    from thinned.mc.ray._read import numbered, read

__all__ = ["check_spread", "numbered", "predict", "read"]

# Loaded when they are asked for: processes that only read data need no torch.
_LATER = {
    "check_spread": "thinned.mc.ray._columns",
    "numbered": "thinned.mc.ray._read",
    "predict": "thinned.mc.ray._predict",
    "read": "thinned.mc.ray._read",
}

__getattr__ = later(__name__, _LATER)


def __dir__() -> list[str]:
    return sorted(__all__)
