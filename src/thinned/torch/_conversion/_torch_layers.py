"""Layers of ours that are more than a mask become the torch.nn layers that they derive from."""

from __future__ import annotations

from typing import Any, Final

import torch

from thinned.torch import nn
from thinned.torch._conversion._walk import OF_SITES
from thinned.torch._site import Site

_TWINS: Final[dict[type[Site], Any]] = {
    nn.LSTM: torch.nn.LSTM,
    nn.GRU: torch.nn.GRU,
    nn.MultiheadAttention: torch.nn.MultiheadAttention,
    nn.DropConnectLinear: torch.nn.Linear,
}


def has_plain(module: torch.nn.Module) -> bool:
    """Tells whether torch.nn has a layer that evaluates as this one does."""
    return type(module) in _TWINS


def plain(module: Any) -> torch.nn.Module:
    """torch.nn's layer with the same parameters, hooks and flags, and no dropout."""
    kind = _TWINS[type(module)]
    twin: torch.nn.Module = kind.__new__(kind)
    vars(twin).update(_held(module))
    return twin


def become_plain(module: Any) -> None:
    """Make a module torch.nn's in its own place."""
    kind, held = _TWINS[type(module)], _held(module)
    vars(module).clear()
    vars(module).update(held)
    module.__class__ = kind


def _held(module: Any) -> dict[str, Any]:
    """Return what torch.nn's layer holds, and what others put on the module."""
    ours: Any = type(module)
    # On no device: to be looked at for their names, without a random number drawn.
    own = set(vars(ours(1, 1, device="meta"))) - set(vars(_TWINS[ours](1, 1, device="meta")))
    held = {name: value for name, value in vars(module).items() if name not in own and name not in OF_SITES}
    return {**held, "dropout": 0.0} if "dropout" in held else held
