"""These are the types of arguments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import jax
import numpy as np
import numpy.typing as npt
from jax.typing import ArrayLike

from thinned._position import Shape
from thinned.contract import Key

AnyKey = Key | jax.Array | npt.NDArray[np.uint32]
"""A `thinned.Key`, a jax PRNG key, or four words."""

Start = int | Sequence[ArrayLike] | ArrayLike
"""An index, of integers or traced integers."""


class Place(TypedDict, total=False):
    """Says where an array stands in a larger one, as in `dropout`."""

    global_shape: Shape | None
    start: Start | None
