"""A graph calls a function that is native where this process runs it, and plain where it is saved.

A graph refers to a function by its name. What runs is the function of that name in the process's library;
what a saved model gets is the copy in the graph's own. Here the two have different bodies, with equal bits.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from thinned.tensorflow import _compat, _native


class Bodies(NamedTuple):
    """Two ways to the same bits, and what both take."""

    plain: Callable[..., Any]
    native: Callable[..., Any]
    signature: tuple[tf.TensorSpec, ...]


_can_call = functools.cache(_compat.check_graphs)


def may_call() -> bool:
    """Tells whether the graph being built will find the native body where it runs: on CPUs of this process.

    An eager call always does.
    """
    if tf.executing_eagerly() or not _can_call():
        return _can_call()
    graph = tf.compat.v1.get_default_graph()
    return (
        tf.compat.v1.executing_eagerly_outside_functions()
        and isinstance(graph, _compat.FuncGraph)
        and not _compat.in_xla_context(graph)
        and all(device.name.startswith("/device:CPU:") for device in tf.config.list_logical_devices())
        and _native.operators() is not None
    )


def is_here(x: Any) -> bool:
    """Tells whether an eager tensor is in the memory of this process's CPU."""
    return x.device.startswith("/job:localhost/") and ":CPU:" in x.device


def constant(number: Any, dtype: Any = tf.int64) -> Any:
    """A number, or a tuple of them, as a tensor; an eager one is made once."""
    if isinstance(number, tf.Tensor):
        return number
    if tf.executing_eagerly():
        return _eager_constant(_compat.context and _compat.context(), number, dtype)
    return tf.constant(number, dtype)


@functools.lru_cache(maxsize=1024)
def _eager_constant(_: Any, number: Any, dtype: Any) -> Any:
    with tf.device("/device:CPU:0"):
        return tf.constant(number, dtype)


def call(bodies: Bodies, arguments: tuple[Any, ...], shape: Any) -> Any:
    """Return what the bodies make of the arguments, of a shape that is known."""
    in_graph = not tf.executing_eagerly()
    (result,) = _function(_compat.context(), bodies, in_graph).call_flat(*arguments)
    if in_graph:
        result.set_shape(shape)
    return result


@functools.cache
def _function(library: Any, bodies: Bodies, native: bool) -> Any:
    """Makes one of each for the life of the process: graphs know it by name only."""
    portable = _Portable(_trace(bodies.plain, bodies.signature))
    if native:
        body = _trace(bodies.native, bodies.signature).function_def
        body.signature.name = portable.cached_definition.signature.name
        library.remove_function(portable.name)
        library.add_function_def(body)
    return portable


def _trace(body: Callable[..., Any], signature: tuple[tf.TensorSpec, ...]) -> Any:
    with tf.init_scope():
        return tf.function(body, signature, autograph=False).get_concrete_function()


class _Portable(_compat.AtomicFunction):  # type: ignore[misc]
    """A function of which every graph gets the plain record, whatever the process's library holds."""

    def __init__(self, concrete: Any) -> None:
        plain = _compat.inference_function(concrete)
        about = (plain.function_type, plain.children, plain.call_options, concrete.graph)
        super().__init__(plain.name, _compat.context(), *about)
        self._concrete = concrete  # once it is gone, so is the function
        self._record = _compat.native_record(plain)
        self._cached_definition = plain.definition

    @property
    def _c_func(self) -> Any:
        return self._record
