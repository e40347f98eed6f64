"""This file tells whether dropped values have to be computed, as masks or samples are wanted."""

from __future__ import annotations

import threading

from thinned.torch import _compat


class _Switch(threading.local):
    masks = 0


SWITCH = _Switch()


def masks_are_wanted() -> bool:
    """Tells whether `thinned.torch.masked` is entered."""
    return SWITCH.masks > 0


def samples_are_drawn() -> bool:
    """Tells whether Monte Carlo prediction is at work, in which sites drop in evaluation."""
    return any(getattr(mode, "always", False) for mode in _compat.function_mode_stack())
