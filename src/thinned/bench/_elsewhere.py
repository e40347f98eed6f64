"""Dropout of other frameworks is raced here, each in its own process.

Two frameworks in one process would have two sets of threads, of which the idle one still looks for work; and
Keras has one backend a process. The process prints the seconds as JSON.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from thinned._process import answer
from thinned.bench._timing import Race, Settings, race

P = 0.1
MI = 1 << 20

Competitors = Mapping[str, Callable[[], object]]


def jax(settings: Settings) -> Competitors:
    """16 Mi float32 elements, jitted; flax gets its key in the same program."""
    import jax
    from flax import nnx

    import thinned.jax

    x = jax.random.normal(jax.random.key(0), (settings.size(16 * MI),))
    layer = nnx.Dropout(P, deterministic=False)
    programs = {
        "x + 1": jax.jit(lambda x, key: x + 1),
        "thinned": jax.jit(lambda x, key: thinned.jax.dropout(x, P, key=key, training=True)),
        "flax.nnx.Dropout": jax.jit(lambda x, key: layer(x, rngs=nnx.Rngs(dropout=key))),
    }
    key = jax.random.key(2014)

    def call(program: Any) -> Callable[[], object]:
        return lambda: jax.block_until_ready(program(x, key))

    return {name: call(program) for name, program in programs.items()}


def tensorflow(settings: Settings, compiled: bool = False) -> Competitors:
    """16 Mi float32 elements."""
    import tensorflow as tf

    import thinned.tensorflow

    x = tf.random.normal((settings.size(16 * MI),))
    calls = {
        "x + 1": lambda x: x + 1.0,
        "thinned": lambda x: thinned.tensorflow.nn.dropout(x, P),
        "tf.nn.dropout": lambda x: tf.nn.dropout(x, P),
    }

    def call(function: Any) -> Callable[[], object]:
        return lambda: function(x)

    return {name: call(tf.function(made) if compiled else made) for name, made in calls.items()}


def tensorflow_function(settings: Settings) -> Competitors:
    """The same in a graph."""
    return tensorflow(settings, compiled=True)


def keras(settings: Settings) -> Competitors:
    """A layer in training on 1 Mi float32 elements, as its backend runs it eagerly."""
    import keras

    import thinned.keras

    x = keras.random.normal((settings.size(MI),), seed=0)
    layers = {"thinned": thinned.keras.Dropout(P), "keras.layers.Dropout": keras.layers.Dropout(P)}
    if keras.backend.backend() == "jax":
        import jax

        finish: Callable[[Any], object] = jax.block_until_ready
    else:
        finish = id  # done when it returns

    def call(layer: Any) -> Callable[[], object]:
        return lambda: finish(layer(x, training=True))

    return {name: call(layer) for name, layer in layers.items()}


FRAMEWORKS = {f.__name__: f for f in (jax, tensorflow, tensorflow_function, keras)}


def race_elsewhere(name: str, settings: Settings, **environment: str) -> Race:
    """Race a framework's competitors in a process with these variables set besides.

    Raises:
        RuntimeError: what the process said, where it failed.
    """
    seconds = answer(__name__, f"the benchmark of {name}", name, json.dumps(asdict(settings)), **environment)
    return Race({who: tuple(each) for who, each in seconds.items()})


def main() -> None:
    """Gives what the process does."""
    name, settings = sys.argv[1:]
    chosen = Settings(**json.loads(settings))
    print(json.dumps(race(FRAMEWORKS[name](chosen), chosen).seconds))
