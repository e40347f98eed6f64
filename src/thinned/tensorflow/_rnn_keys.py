"""A wrapped cell's steps get their keys here; a variational one has a key for the sequence."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from thinned.tensorflow import _arguments, _key

_UNSEEN = (
    "variational_recurrent=True, and no sequence was seen to begin: one mask serves all steps from now on. A "
    "sequence begins where wrapper.get_initial_state or wrapper.zero_state is called, in wrapper.unroll, and "
    "in `with wrapper.sequence():`"
)


class Keys:
    """Holds what `seed` makes of steps and sequences.

    Attributes:
        held: the key of a sequence whose extent is known, a `Key` or a tensor; None outside one.
    """

    def __init__(self, seed: Any, variational: bool) -> None:
        self._seed, self._variational = seed, variational
        self.held = _arguments.key_of(seed) if variational and not tf.executing_eagerly() else None
        self._begun: tuple[Any, Any] | None = None  # the graph that a sequence began in, and its key

    def of_sequence(self, key: Any) -> Any:
        """The key of a sequence: the one that is given, or one of the seed's if all steps share it."""
        if key is not None:
            return _arguments.pair(key, "key")
        return _arguments.key_of(self._seed) if self._variational else None

    def begin(self) -> None:
        """A first state was asked for: a driver such as `dynamic_rnn` starts a sequence."""
        if self._variational and not _arguments.is_key(self._seed):
            graph = None if tf.executing_eagerly() else weakref.ref(tf.compat.v1.get_default_graph())
            self._begun = graph, _key.draw(self._seed)

    def of_step(self, time: Any) -> Any:
        """The key of a step's masks.

        Raises:
            TypeError: `a key as seed needs the number of the step, …`.
        """
        held = self._seed if self.held is None and _arguments.is_key(self._seed) else self.held
        if self._variational:
            return self._begun_here() if held is None else held
        if held is None:
            return _key.draw(self._seed)
        if time is None:
            raise TypeError(
                "a key as seed needs the number of the step, else all would have the same masks: call "
                "wrapper(inputs, state, time=t) or wrapper.unroll(inputs); an integer seed draws one at each"
            )
        return _key.fold(held, time)

    def _begun_here(self) -> Any:
        """The key of the sequence that began in this graph, or in one around it."""
        graph, key = self._begun or (None, None)
        if self._begun is None or (None if graph is None else graph()) not in [*_graphs()]:
            warnings.warn(_UNSEEN, RuntimeWarning, stacklevel=4)
            with tf.init_scope():  # not in the body of a loop, which would draw at each step
                key = _key.draw(self._seed)
                self._begun = None, key
        return key


def _graphs() -> Iterator[Any]:
    """The graph being built and those around it; None for eager code."""
    if tf.executing_eagerly():
        yield None
        return
    graph = tf.compat.v1.get_default_graph()
    while graph is not None:
        yield graph
        graph = getattr(graph, "outer_graph", None)
