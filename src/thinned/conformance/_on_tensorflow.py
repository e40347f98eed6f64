"""This backend makes the mask with TensorFlow, part by part, and compiled by XLA."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

import thinned.tensorflow
from thinned.conformance._case import KEY, SHAPE, NotRun, P, parts


def mask(device: str, compiled: bool, shards: int) -> Any:
    """True where kept."""
    if device == "gpu" and not tf.config.list_physical_devices("GPU"):
        raise NotRun("no GPU here")

    def thin(x: Any, first: int) -> Any:
        return thinned.tensorflow.dropout(x, P, key=KEY, training=True, global_shape=SHAPE, start=(first, 0))

    call = tf.function(thin, jit_compile=True) if compiled else thin
    with tf.device(f"/{device.upper()}:0"):
        ones = [(tf.ones((len(rows), SHAPE[1])), rows.start) for rows in parts(shards)]
        return np.concatenate([call(x, first).numpy() for x, first in ones]) != 0
