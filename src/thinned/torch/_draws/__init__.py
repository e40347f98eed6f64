"""Functions that draw are given keys here: in evaluation by `thinned.mc`, in training by `keys`.

`_mode` is the context that sees every call; the files beside it say what each family of functions does with
a key. `_watch` knows which module runs, `_generators` what moved a generator all the same.
"""

from typing import Any

from thinned.torch._draws import _attention, _dropout, _noise, _recurrent, _seeded
from thinned.torch._draws._generators import Watched, moved, states
from thinned.torch._draws._mode import Draw, Draws, Handler, given
from thinned.torch._draws._watch import taken_over, watching

# From all functions that are taken over to what is drawn in their place.
HANDLERS: dict[Any, Handler] = {
    **_dropout.HANDLERS,
    **_attention.HANDLERS,
    **_recurrent.HANDLERS,
    **_noise.HANDLERS,
    **_seeded.HANDLERS,
}

__all__ = [
    "HANDLERS",
    "Draw",
    "Draws",
    "Handler",
    "Watched",
    "given",
    "moved",
    "states",
    "taken_over",
    "watching",
]
