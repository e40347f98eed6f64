"""One pass over a tensor, by whatever may do it where it runs, and its gradient: the same pass again.

- Eagerly, on a CPU of this process: the native operator.
- Eagerly elsewhere: a function of TensorFlow's own operators.
- In a function's graph that will run on such CPUs: a call to a function with both bodies (`_graph`).
- In any other graph, under XLA above all: TensorFlow's own operators in place.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from thinned.tensorflow import _function_bodies, _gradient, _graph, _native, _philox, _plain
from thinned.tensorflow._place import Place


def dropout(x: Any, key: Any, drop: Any, factor: Any, place: Place) -> Any:
    """Kept → x · factor, dropped → +0.0; numbers or tensors (int64, float64) but for x and the key."""

    def of(value: Any) -> Any:
        return dropout(tf.convert_to_tensor(value), key, drop, factor, place)

    native = _at_once(x)
    if native is None and not _graph.may_call():
        return _gradient.in_place(x, lambda: _plain.dropout(x, key, drop, factor, place), of)
    arguments = (x, key, _graph.constant(drop), _graph.constant(factor, tf.float64), *_tensors(place))
    if native is not None:
        return _gradient.recorded(x, lambda: native.thinned_dropout(*arguments), of)
    bodies = _function_bodies.dropout(x.dtype, _function_bodies.form(place))
    return _gradient.recorded(x, lambda: _graph.call(bodies, arguments, x.shape), of)


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
