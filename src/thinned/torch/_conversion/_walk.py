"""The modules of a model are visited here by all their names, and exchanged in place."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, Final

import torch

from thinned.torch import _compat
from thinned.torch._conversion._report import Model
from thinned.torch._counters import Clock
from thinned.torch._site import Site

OF_TORCH: Final[tuple[type[Any], ...]] = (
    *(torch.nn.Dropout, torch.nn.Dropout1d, torch.nn.Dropout2d, torch.nn.Dropout3d),
    *(torch.nn.AlphaDropout, torch.nn.FeatureAlphaDropout),
)

# They hold a rate beside much else, and so do ours of the same name: the class alone is exchanged.
HOLDERS: Final[tuple[type[Any], ...]] = (torch.nn.MultiheadAttention,)

# What any site may hold and no module of torch.nn does.
OF_SITES: Final = ("key", "_bits", "_clock", "_name", "rows")


def foreign_hooks(module: torch.nn.Module) -> Iterator[str]:
    """A module's hooks, each by its kind and its name, but for those of a keyed model's clock."""
    for kind, hooks_of in _compat.HOOKS.items():
        for hook in hooks_of(module).values():
            if not isinstance(getattr(hook, "__self__", None), Clock):
                what = getattr(hook, "__qualname__", type(hook).__name__)
                yield f"{kind.replace('_', ' ')} hook, {what}"


def named(model: torch.nn.Module) -> Iterator[tuple[str, torch.nn.Module]]:
    """Every module by every name that it has."""
    for name, module in model.named_modules(remove_duplicate=False):
        yield name or "(the model)", module


def copied(model: Model, shared: dict[int, Any] | None = None) -> Model:
    """A deep copy, with what is `shared` by its id.

    torch copies no tensor that has a history, such as the weight that an old weight norm or pruning computes:
    its value is copied here, and computed anew by the module's hook.
    """
    memo: dict[int, Any] = {
        id(value): value.detach().clone()
        for module in model.modules()
        for value in vars(module).values()
        if isinstance(value, torch.Tensor) and not value.is_leaf
    }
    return copy.deepcopy(model, memo | (shared or {}))


def become(module: torch.nn.Module, fresh: torch.nn.Module) -> None:
    """Make a module what `fresh` is, in its own place.

    Exchanging the class and not the object keeps what any other way loses: shared modules, references that
    are in no module's registry, hooks and the handles that remove them.
    """
    if not isinstance(fresh, Site):
        for name in ("noise_shape", "mode"):
            vars(module).pop(name, None)
    common = vars(torch.nn.Module())
    vars(module).update((name, value) for name, value in vars(fresh).items() if name not in common)
    turn(module, type(fresh))


def turn(module: torch.nn.Module, kind: type[Any]) -> None:
    """Give a module the class of ours, or of torch.nn, whose modules hold what it holds."""
    if not issubclass(kind, Site):
        for name in OF_SITES:
            vars(module).pop(name, None)
    module.__class__ = kind


def torch_class(module: torch.nn.Module, kinds: tuple[type[Any], ...] = OF_TORCH) -> Any:
    """The class of torch.nn, one of dropout if not said, that a module is of, exactly or by inheritance."""
    return next((cls for cls in type(module).__mro__ if cls in kinds), None)


def foreign(module: torch.nn.Module, torchs: type) -> str | None:
    """Tells why a module of a class that derives from one of torch's is not simply one."""
    kind = type(module)
    between = kind.__mro__[: kind.__mro__.index(torchs)]
    own = {n for cls in between for n, v in vars(cls).items() if callable(v) or isinstance(v, property)}
    own -= {"__init__", "__repr__", "extra_repr"}
    if "forward" in vars(module):
        own.add("forward")
    if own:
        names = ", ".join(sorted(own))
        return f"{kind.__name__} is a torch.nn.{torchs.__name__} with its own {names}: exchange it by hand"
    return None
