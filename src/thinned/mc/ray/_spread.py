"""Whether a whole of predictions has any spread."""

from __future__ import annotations

from typing import Final

import numpy as np
from ray.data import Dataset

from thinned.mc._collect import WITHOUT_EFFECT, SilentError

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
