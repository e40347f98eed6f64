"""Each function that a graph calls has two bodies here, one pair for every kind of argument."""

from __future__ import annotations

import functools
from typing import Any

import tensorflow as tf

from thinned.tensorflow import _native, _philox, _plain
from thinned.tensorflow._graph import Bodies
from thinned.tensorflow._placement import Place

_NUMBER, _KEY = tf.TensorSpec((), tf.int64), tf.TensorSpec((2,), tf.int64)


@functools.cache
def dropout(dtype: Any, form: tuple[bool, int | None]) -> Bodies:
    """Takes x of any shape, key, drop threshold, factor, base and strides."""

    def plain(x: Any, key: Any, drop: Any, factor: Any, base: Any, strides: Any) -> Any:
        return _plain.dropout(x, key, drop, factor, _place(form, base, strides))

    def native(*arguments: Any) -> Any:
        return _native.operators().thinned_dropout(*arguments)

    first, factor = tf.TensorSpec(None, dtype), tf.TensorSpec((), tf.float64)
    return Bodies(plain, native, (first, _KEY, _NUMBER, factor, _NUMBER, _strides(form)))


@functools.cache
def keep_mask(form: tuple[bool, int | None]) -> Bodies:
    """Takes a shape, key, drop threshold, base and strides."""

    def plain(shape: Any, key: Any, drop: Any, base: Any, strides: Any) -> Any:
        return _plain.keep_mask(shape, key, drop, _place(form, base, strides))

    def native(*arguments: Any) -> Any:
        return _native.operators().thinned_keep_mask(*arguments)

    return Bodies(plain, native, (tf.TensorSpec((None,), tf.int64), _KEY, _NUMBER, _NUMBER, _strides(form)))


@functools.cache
def fold() -> Bodies:
    """Takes a key and a number."""

    def native(*arguments: Any) -> Any:
        return _native.operators().thinned_fold(*arguments)

    return Bodies(_philox.fold, native, (_KEY, _NUMBER))


def form(place: Place) -> tuple[bool, int | None]:
    """Tells whether the mask is dense, and its number of strides: 0 for row-major, None if unknown."""
    if place.strides is None:
        return True, 0
    strides = place.strides
    return place.dense, strides.shape[0] if isinstance(strides, tf.Tensor) else len(strides)


def _strides(form: tuple[bool, int | None]) -> Any:
    return tf.TensorSpec((form[1],), tf.int64)


def _place(form: tuple[bool, int | None], base: Any, strides: Any) -> Place:
    return Place(base, None if form[1] == 0 else strides, form[0])
