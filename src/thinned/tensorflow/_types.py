"""These are the types of arguments and results; AutoGraph is kept away from our functions here too."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, TypeVar

import numpy.typing as npt
import tensorflow as tf

from thinned.contract import Key

Tensor: TypeAlias = "tf.Tensor"
TensorLike: TypeAlias = "tf.Tensor | tf.Variable | tf.RaggedTensor | npt.ArrayLike"
Scalar: TypeAlias = "float | tf.Tensor | tf.Variable"
Flag: TypeAlias = "bool | tf.Tensor | tf.Variable"
DType: TypeAlias = "tf.DType | str"
AnyKey: TypeAlias = "Key | tf.Tensor | tf.Variable"
Seed: TypeAlias = "int | Key | tf.Tensor | Sequence[int] | None"
Sizes: TypeAlias = "int | Sequence[int] | tf.Tensor | tf.TensorShape"
NoiseShape: TypeAlias = "Sequence[int | tf.Tensor | None] | tf.Tensor | tf.TensorShape"


Function = TypeVar("Function", bound=Callable[..., Any])


def as_written(function: Function) -> Function:
    """The function as it is, in graphs too."""
    kept: Function = tf.autograph.experimental.do_not_convert(function)
    return kept
