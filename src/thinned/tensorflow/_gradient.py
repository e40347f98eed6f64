"""The gradient of a pass is the pass itself on the upstream gradient: of x, nothing is kept for it.

Gradients of an operator would keep its input and output alive until they are computed; `tf.custom_gradient`
keeps the output.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf
from tensorflow.python.eager import record


def recorded(x: Any, run: Callable[[], Any], gradient: Callable[[Any], Any]) -> Any:
    """What `run` makes of x by one operator, on whatever tapes and accumulators there are."""
    if tf.executing_eagerly() and not record.could_possibly_record():
        return run()
    with record.stop_recording():
        y = run()
    record.record_operation("ThinnedDropout", [y], [x], lambda upstream: [gradient(upstream)])
    if not tf.executing_eagerly():
        others = [None] * (len(y.op.inputs) - 1)
        y.op._gradient_function = lambda _, upstream: [gradient(upstream), *others]
    return y


def in_place(x: Any, run: Callable[[], Any], gradient: Callable[[Any], Any]) -> Any:
    """What `run` makes of x by many operators of a graph."""
    result: Any = tf.custom_gradient(lambda _: (run(), gradient))(x)
    return result
