"""The gradient of a pass is the pass itself on the upstream gradient: of x, nothing is kept for it.

Gradients of an operator would keep its input and output alive until they are computed; `tf.custom_gradient`
keeps the output.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from thinned.tensorflow import _compat


def recorded(x: Any, run: Callable[[], Any], gradient: Callable[[Any], Any]) -> Any:
    """Return what `run` makes of x by one operator, on whatever tapes and accumulators there are."""
    if _compat.record_operation is None:
        return in_place(x, run, gradient)
    if tf.executing_eagerly() and _compat.could_record is not None and not _compat.could_record():
        return run()
    with _compat.stop_recording():
        y = run()
    _compat.record_operation("ThinnedDropout", [y], [x], lambda upstream: [gradient(upstream)])
    if not tf.executing_eagerly():
        others = [None] * (len(y.op.inputs) - 1)
        _compat.set_gradient_function(y.op, lambda _, upstream: [gradient(upstream), *others])
    return y


def in_place(x: Any, run: Callable[[], Any], gradient: Callable[[Any], Any]) -> Any:
    """Return what `run` makes of x by many operators of a graph."""
    result: Any = tf.custom_gradient(lambda _: (run(), gradient))(x)
    return result
