"""Types of arguments and results, for type checkers; TensorFlow itself brings none to mypy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy.typing as npt
import tensorflow as tf

from thinned.contract import Key

Tensor: TypeAlias = "tf.Tensor"
TensorLike: TypeAlias = "tf.Tensor | tf.Variable | tf.RaggedTensor | npt.ArrayLike"
Scalar: TypeAlias = "float | tf.Tensor | tf.Variable"
Flag: TypeAlias = "bool | tf.Tensor | tf.Variable"
AnyKey: TypeAlias = "Key | tf.Tensor | tf.Variable"
Seed: TypeAlias = "int | Key | tf.Tensor | Sequence[int] | None"
Sizes: TypeAlias = "int | Sequence[int] | tf.Tensor | tf.TensorShape"
NoiseShape: TypeAlias = "Sequence[int | tf.Tensor | None] | tf.Tensor | tf.TensorShape"
