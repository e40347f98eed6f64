"""One pass over a tensor runs here by the native operator or by TensorFlow's, with the same gradient.

- Eagerly, on a CPU of this process: the native operator.
- Eagerly elsewhere: a function of TensorFlow's own operators.
- In a function's graph that will run on such CPUs: a call to a function with both bodies (`_graph`).
- In any other graph, under XLA above all: TensorFlow's own operators in place.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from thinned.tensorflow import _compat, _function_bodies, _graph, _native, _philox, _plain
from thinned.tensorflow._placement import Place


def recorded(x: Any, run: Callable[[], Any], gradient: Callable[[Any], Any]) -> Any:
    """Return what `run` makes of x by one operator, on whatever tapes and accumulators there are.

    TensorFlow's own gradient of an operator would keep its input and output alive until it is computed, and
    `tf.custom_gradient` keeps the output.
    """
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


def dropout(x: Any, key: Any, drop: Any, factor: Any, place: Place) -> Any:
    """Kept → x · factor, dropped → +0.0; numbers or tensors (int64, float64) but for x and the key."""

    def of(value: Any) -> Any:
        return dropout(tf.convert_to_tensor(value), key, drop, factor, place)

    native = _at_once(x)
    if native is None and not _graph.may_call():
        return in_place(x, lambda: _plain.dropout(x, key, drop, factor, place), of)
    arguments = (x, key, _graph.constant(drop), _graph.constant(factor, tf.float64), *_tensors(place))
    if native is not None:
        return recorded(x, lambda: native.thinned_dropout(*arguments), of)
    bodies = _function_bodies.dropout(x.dtype, _function_bodies.form(place))
    return recorded(x, lambda: _graph.call(bodies, arguments, x.shape), of)


def keep_mask(shape: tuple[int, ...], key: Any, drop: Any, place: Place) -> Any:
    """True where kept."""
    native = _at_once(key)
    if native is None and not _graph.may_call():
        return _plain.keep_mask(shape, key, drop, place)
    arguments = (_graph.constant(shape), key, _graph.constant(drop), *_tensors(place))
    if native is not None:
        return native.thinned_keep_mask(*arguments)
    return _graph.call(_function_bodies.keep_mask(_function_bodies.form(place)), arguments, shape)


def fold(key: Any, data: Any) -> Any:
    """`Key.fold` of tensors."""
    native = _at_once(key)
    if native is None and not _graph.may_call():
        return _philox.fold(key, data)
    if native is not None:
        return native.thinned_fold(key, data)
    return _graph.call(_function_bodies.fold(), (key, data), (2,))


def _at_once(x: Any) -> Any:
    """The kernel's operators, where an eager tensor is theirs."""
    native = _native.operators() if tf.executing_eagerly() else None
    return native if native is not None and _graph.is_here(x) else None


def _tensors(place: Place) -> tuple[Any, Any]:
    return _graph.constant(place.base), _graph.constant(() if place.strides is None else place.strides)
