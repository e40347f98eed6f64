"""A block that `keras.remat` computes again for its gradient keeps the key of its call.

A layer numbers its calls. Where a backend runs a block twice, the second run has to have the keys of the
first, and the number must not move on. `Drawn` is the note that the first run leaves for the second; where
it is kept, a backend knows (`active.blocks`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any, NamedTuple

from thinned.keras._backend import active


class Drawn:
    """The keys of one block, layer by layer in the order of their calls."""

    def __init__(self) -> None:
        self._keys: defaultdict[int, list[Any]] = defaultdict(list)
        self._used: defaultdict[tuple[Any, int], int] = defaultdict(int)

    def add(self, site: Any, key: Any) -> None:
        """Note a key that was drawn."""
        self._keys[id(site)].append(key)

    def again(self, site: Any, run: Any) -> Any:
        """The next key that the layer had, for a run that may be one of several."""
        used = self._used[run, id(site)]
        self._used[run, id(site)] = used + 1
        keys = self._keys[id(site)]
        if used >= len(keys):
            raise RuntimeError(
                f"layer {site.name!r} drops in a block that is computed again for its gradient, and its mask "
                "of the first time is not known: the block called it less often then, or is not one of "
                "keras.remat, keras.RematScope, torch.utils.checkpoint.checkpoint or tf.recompute_grad"
            )
        return keys[used]


class Blocks(NamedTuple):
    """The blocks around a call.

    Attributes:
        first: notes of those that run for the first time, inside the one that does not.
        again: note of the innermost block that is computed again, and which of its runs this is; None if
            there is none.
    """

    first: list[Drawn]
    again: tuple[Drawn, Any] | None


def key_of_call(site: Any, draw: Callable[[], Any]) -> Any:
    """The key that `draw` makes; in a block that is computed again, the one that it made the first time."""
    blocks = active.blocks(Drawn)
    if blocks is None:
        return draw()
    first, again = blocks
    key = draw() if again is None else again[0].again(site, again[1])
    for drawn in first:
        drawn.add(site, key)
    return key
