"""The wrapper becomes a layer of the Keras that its cell belongs to, with a configuration.

Keras 3 and tf_keras take for a cell, and look for weights in, what is a layer of their own. Neither is
imported before it is needed: who has a cell of one has imported it.
"""

from __future__ import annotations

import functools
import importlib
from typing import Any

import tensorflow as tf

from thinned.contract import Key

_KERAS = ("keras", "tf_keras")
_WEIGHTS = ("weights", "trainable_weights", "non_trainable_weights")
_VARIABLES = ("variables", "trainable_variables", "non_trainable_variables")


@functools.cache
def subclass(wrapper: Any, cell: Any) -> Any:
    """The wrapper's class with a base for its cell's: Keras's `Layer`, or `tf.Module`."""
    layer = _layer(cell)
    base = layer or tf.Module
    if issubclass(wrapper, base):
        return wrapper
    about = {
        "__module__": wrapper.__module__,
        "__qualname__": wrapper.__qualname__,
        "__doc__": wrapper.__doc__,
    }
    found = {} if layer else {name: _of_cell(name) for name in (*_WEIGHTS, *_VARIABLES)}
    made = type(wrapper.__name__, (wrapper, base), {**about, **found})
    return made if layer is None else _keras(cell).saving.register_keras_serializable("thinned")(made)


def stored(value: Any, cell: Any) -> Any:
    """A cell or a function as the cell's Keras stores it: Keras 2 in TensorFlow's form, of cells only."""
    keras = _keras(type(cell))
    if value is None or keras is None:
        return value
    if keras.__name__ == "tf_keras":
        return keras.layers.serialize(value, use_legacy_format=True) if value is cell else value
    return keras.saving.serialize_keras_object(value)


def seed_config(seed: Any) -> Any:
    """Return what a configuration holds of a seed: None, an integer, or the two of a key."""
    if isinstance(seed, Key):
        return {"seed": seed.seed, "stream": seed.stream}
    return seed.numpy().tolist() if hasattr(seed, "numpy") else seed


def restored(config: dict[str, Any], custom_objects: Any) -> dict[str, Any]:
    """The arguments that a configuration stands for: a cell, its visitor and its key are made again."""
    config = dict(config)
    for name in ("cell", "dropout_state_filter_visitor"):
        value = config.get(name)
        if isinstance(value, dict) and "module" in value:
            keras = importlib.import_module("keras")
            config[name] = keras.saving.deserialize_keras_object(value, custom_objects=custom_objects)
        elif isinstance(value, dict):
            layers = importlib.import_module("tf_keras").layers
            config[name] = layers.deserialize(value, custom_objects=custom_objects, use_legacy_format=True)
    if isinstance(config.get("seed"), dict):
        config["seed"] = Key(**config["seed"])
    return config


def _keras(cell: type) -> Any:
    """The module that a cell is a layer of; None for another's."""
    layer = _layer(cell)
    return None if layer is None else importlib.import_module(layer.__module__.partition(".")[0])


def _layer(cell: type) -> type | None:
    """The base of all layers of the cell's Keras."""
    layers = [
        one for one in cell.__mro__ if one.__name__ == "Layer" and one.__module__.partition(".")[0] in _KERAS
    ]
    return layers[-1] if layers else None


def _of_cell(name: str) -> property:
    """The cell's weights, which `tf.Module` would look for among its modules only."""

    def read(self: Any) -> Any:
        found = getattr(self.cell, name, None)
        if found is None and hasattr(tf.Module, name):
            return getattr(tf.Module, name).fget(self)
        return [] if found is None else found

    return property(read)
