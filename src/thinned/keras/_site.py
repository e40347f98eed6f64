"""Every layer of this package is a site too, for which masks are drawn."""

from __future__ import annotations

import functools
import inspect
import operator
import threading
from typing import Any, Final, TypeAlias

import keras
import numpy as np

from thinned import _kernel
from thinned.contract import Key, check_integer, check_probability, fold_number
from thinned.keras import _compat
from thinned.keras._backend import active
from thinned.keras._recompute import key_of_call

Seed: TypeAlias = "int | Key | keras.random.SeedGenerator | None"


RATES: Final = ("dropout", "recurrent_dropout")  # of Keras's layers that drop inside

_KEYS = 2**64
_COUNTING = threading.Lock()  # two threads' calls have two numbers
_HELD = 2**31  # the seeds that a SeedGenerator can hold on every backend


def held(seed: Any) -> int | None:
    """The seed that Keras's own constructor gets: a small integer as it is, 0 for every other seed.

    Raises:
        TypeError: `seed must be None, an integer, a keras.random.SeedGenerator or a thinned.Key, got …`.
        ValueError: `seed must be in [0, 2^64), got …`.
    """
    if seed is None or isinstance(seed, (Key, keras.random.SeedGenerator)):
        return None if seed is None else 0
    number = check_integer("seed", seed, "None, an integer, a keras.random.SeedGenerator or a thinned.Key")
    if not 0 <= number < _KEYS:
        raise ValueError(f"seed must be in [0, 2^64), got {number}")
    return number if number < _HELD else 0


def checked(constructor: Any, args: Any, kwargs: Any) -> tuple[Any, Any, Any]:
    """Arguments for Keras's constructor, with rates checked, and the seed that it cannot have."""
    bound = inspect.signature(constructor).bind(*args, **kwargs)
    for name in RATES:
        if name in bound.arguments:
            bound.arguments[name] = check_probability(bound.arguments[name], name)
    seed = bound.arguments.get("seed")
    bound.arguments["seed"] = held(seed)
    return bound.args, bound.kwargs, seed


class Seeded:
    """A mixin in front of a Keras class. It writes a seed into the configuration as JSON can hold it."""

    seed: Any

    def rematerialized_call(self, layer_call: Any, *args: Any, **kwargs: Any) -> Any:
        """Call Keras's without flags: JAX would trace them, and TensorFlow's graphs take no keywords."""

        def call(*args: Any, **kwargs: Any) -> Any:
            flags = {
                name: value for name, value in kwargs.items() if value is None or isinstance(value, bool)
            }
            rest = {name: value for name, value in kwargs.items() if name not in flags}
            bound = functools.wraps(layer_call)(functools.partial(layer_call, **flags))
            return super(Seeded, self).rematerialized_call(bound, *args, **rest)(*args, **rest)  # type: ignore[misc]

        return call

    def get_config(self) -> dict[str, Any]:
        """Keras's, with the seed."""
        config: dict[str, Any] = super().get_config()  # type: ignore[misc]
        seed = self.seed
        if isinstance(seed, Key):
            seed = {"seed": seed.seed, "stream": seed.stream}
        elif isinstance(seed, keras.random.SeedGenerator):
            seed = keras.saving.serialize_keras_object(seed)
        return {**config, "seed": seed}

    @classmethod
    def from_config(cls, config: dict[str, Any], **kwargs: Any) -> Any:
        """Keras's, of what `get_config` made."""
        seed = config.get("seed")
        if isinstance(seed, dict):
            stored = "class_name" in seed
            seed = keras.saving.deserialize_keras_object(seed) if stored else Key(**seed)
        return super().from_config({**config, "seed": seed}, **kwargs)  # type: ignore[misc]


class Site(Seeded):
    """A mixin, in front of a Keras class that makes itself a `seed_generator`.

    Call n has the key `Key(seed).fold(name).fold(n)`; with a `Key` for a seed, `seed.fold(n)`. Seed and n are
    the two numbers of the generator's state, so that whatever Keras does with that holds for masks.
    """

    name: str
    seed_generator: Any

    def settle(self, seed: Seed) -> None:
        """Take the seed, after Keras's constructor has had what `held` lets through."""
        own = getattr(self, "seed_generator", None)
        if isinstance(seed, keras.random.SeedGenerator) and own is not None:
            _compat.tracker_of(self).replace_tracked_value("seed_generators", own, seed)
            self.seed_generator = seed
        if seed is not None and not isinstance(seed, (Key, keras.random.SeedGenerator)):
            seed = operator.index(seed)
        # An assignment would have a generator tracked, which a layer that is built already refuses.
        self.__dict__["seed"] = seed
        self._name_number()

    @property
    def mask_name(self) -> str:
        """The name that tells this layer's masks from those of others with the same seed."""
        return self.name

    def mask_key(self) -> Any:
        """The key of this call's mask: a `Key`, or the tensor of one where the code is being traced."""
        return key_of_call(self, self._next_key)

    def _next_key(self) -> Any:
        generator, name, base = self.seed_generator, self._name_number(), self._base()
        replica, replicas = active.replica()
        if not active.is_eager(generator.state.value):
            state = active.advance(generator)
            return active.derive(state, base, name, replica, replicas)
        # 55 µs on PyTorch; `generator.next` and a fold in the graph are 110.
        with _COUNTING:
            state = active.numbers(generator.state.value)
            active.assign(generator.state, state + np.array([0, 1], state.dtype))
        seed, number = state.view(f"u{state.itemsize}").tolist()
        own = _fold(Key(seed), name) if base is None else base
        return _fold(own, (number & (2**32 - 1)) * replicas + replica)

    def _base(self) -> Key | None:
        """The key before the number of the call, where the state does not hold its seed."""
        if isinstance(self.seed, Key):
            return self.seed
        wide = isinstance(self.seed, int) and self.seed >= _HELD
        return _fold(Key(self.seed), self._name_number()) if wide else None

    def _name_number(self) -> int:
        """Return what the name is folded as. It is kept, because torch.compile cannot trace a hash."""
        known = self.__dict__.get("_named")
        if known is None or known[0] != self.mask_name:
            known = self.__dict__["_named"] = self.mask_name, fold_number(self.mask_name)
        return int(known[1])


def _fold(key: Key, number: int) -> Key:
    """`Key.fold` of a number by the kernel, in 1 µs instead of 8."""
    return Key(key.seed, _kernel.fold(key.seed, key.stream, number))
