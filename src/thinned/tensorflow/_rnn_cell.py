"""TensorFlow's protocol of recurrent cells is read here: sizes, first state, a call's arguments."""

from __future__ import annotations

import inspect
from typing import Any

import tensorflow as tf

from thinned.tensorflow import _rnn_masks

_PROTOCOL = ("state_size", "output_size", "__call__")


def check(cell: Any) -> None:
    """Refuse what is no cell.

    Raises:
        TypeError: `cell must have state_size, output_size, __call__, got … without …`.
    """
    lacking = [name for name in _PROTOCOL if not hasattr(cell, name)]
    if lacking:
        raise TypeError(f"cell must have {', '.join(_PROTOCOL)}, got {cell!r} without {', '.join(lacking)}")


def taken(cell: Any, arguments: dict[str, Any]) -> dict[str, Any]:
    """Those of the arguments that are given and that the cell names in its call."""
    named = {*_named(cell), *(_named(cell.call) if hasattr(cell, "call") else ())}
    return {name: value for name, value in arguments.items() if value is not None and name in named}


def sizes(input_size: Any) -> tuple[Any, ...]:
    """Shapes without the batch, in the inputs' order.

    Raises:
        TypeError: `input_size must be an integer, a shape or a structure of these, got …`.
    """
    nested = isinstance(input_size, dict) or (
        isinstance(input_size, (tuple, list)) and not all(isinstance(one, int) for one in input_size)
    )
    if nested:
        parts = input_size.values() if isinstance(input_size, dict) else input_size
        return tuple(shape for part in parts for shape in sizes(part))
    try:
        return (tf.TensorShape(input_size),)
    except (TypeError, ValueError):
        raise TypeError(
            f"input_size must be an integer, a shape or a structure of these, got {input_size!r}"
        ) from None


def check_inputs(inputs: Any, input_size: tuple[Any, ...] | None, dtype: Any) -> None:
    """Refuse what differs from what was announced.

    Raises:
        TypeError: `inputs must be of dtype …, as given, got …`.
        ValueError: `inputs must be of input_size …, as given, got shape …`.
    """
    leaves = _rnn_masks.leaves(inputs)
    for x in leaves:
        if dtype is not None and tf.as_dtype(x.dtype) != dtype:
            got = tf.as_dtype(x.dtype).name
            raise TypeError(f"inputs must be of dtype {dtype.name}, as given, got {got}")
    if input_size is None:
        return
    shapes = [tf.TensorShape(x.shape) for x in leaves]
    fits = len(shapes) == len(input_size) and all(
        shape.rank is None or shape[1:].is_compatible_with(size)
        for shape, size in zip(shapes, input_size, strict=True)
    )
    if not fits:
        announced, got = (", ".join(str(each) for each in some) for some in (input_size, shapes))
        raise ValueError(f"inputs must be of input_size {announced}, as given, got shape {got}")


def zero_state(cell: Any, batch_size: Any, dtype: Any) -> Any:
    """The cell's, or zeros of its state_size."""
    if hasattr(cell, "zero_state"):
        return cell.zero_state(batch_size, dtype)
    if hasattr(cell, "get_initial_state"):
        return initial_state(cell, None, batch_size, dtype)
    dtype = dtype or getattr(cell, "compute_dtype", None) or tf.float32
    known = tf.get_static_value(batch_size) if tf.is_tensor(batch_size) else batch_size

    def zeros(size: Any) -> Any:
        shape = [batch_size, *tf.TensorShape(size).as_list()]
        return tf.ensure_shape(tf.zeros(tf.stack(shape), dtype), [known, *shape[1:]])

    state_size = cell.state_size
    if isinstance(state_size, tf.TensorShape):  # a structure, to tf.nest
        return zeros(state_size)
    return tf.nest.map_structure(zeros, state_size)


def initial_state(cell: Any, inputs: Any, batch_size: Any, dtype: Any) -> Any:
    """The cell's first state: by its own method, told what that asks for, or `zero_state`."""
    own = getattr(cell, "get_initial_state", None)
    if own is None:
        return zero_state(cell, batch_size, dtype)
    named = _named(own)
    given = {"inputs": inputs, "batch_size": batch_size, "dtype": dtype}
    return own(**{name: value for name, value in given.items() if name in named})


def _named(function: Any) -> list[str]:
    return list(inspect.signature(function).parameters)
