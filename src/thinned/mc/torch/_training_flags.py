"""`training` is set here on modules that drop, cleared on all others, and put back at the end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F

from thinned.mc.torch._lock import exclusive
from thinned.torch import _compat
from thinned.torch._conversion import _functional
from thinned.torch._draws import Draws, Handler, _watch
from thinned.torch._site import Site

Also = Iterable[str | type[torch.nn.Module]]

_NORMS = (_compat.NORMS,)


@contextmanager
def switched(model: torch.nn.Module, also: Also = (), by: str = "predict") -> Iterator[None]:
    """Set `training` of each module by itself.

    True are modules that ask for it before they drop: ours; those whose class calls a function that drops, or
    has "Drop" in its name; those that hold a rate; those that are named. False is all the rest, so that no
    statistics are gathered.
    """
    modules = dict(model.named_modules())
    chosen = _chosen(modules, also)
    with flags_kept(model, by):
        for module in modules.values():
            # Not by `train()`, which reaches children, and which exported programs refuse.
            module.training = module in chosen
        yield


@contextmanager
def flags_kept(model: torch.nn.Module, by: str = "compare") -> Iterator[list[torch.nn.Module]]:
    """The model's modules, for this thread alone; `training` is put back at the end, whatever happens."""
    with exclusive(model, by, ends=by != "active"):
        was = {module: module.training for module in model.modules()}
        try:
            yield list(was)
        finally:
            for module, training in was.items():
                module.training = training


def drops_in_training(module: torch.nn.Module) -> bool:
    """Tells whether a module is one that asks for its `training` before it drops."""
    if isinstance(module, _NORMS):
        return False
    name = type(module).__name__
    if isinstance(module, Site) or "Drop" in name or "StochasticDepth" in name:
        return True
    if type(module).__module__.startswith("torch.nn."):
        return False
    kind: Any = type(module)
    if _functional.asks_transformers(kind):
        return True
    return bool(_functional.drops(module) or _functional.rates(module) or _watch.drops(kind))


def _chosen(modules: dict[str, torch.nn.Module], also: Also) -> set[torch.nn.Module]:
    chosen = {module for module in modules.values() if drops_in_training(module)}
    for one in [also] if isinstance(also, (str, type)) else also:
        if isinstance(one, str):
            found = [module for name, module in modules.items() if name == one]
        else:
            found = [module for module in modules.values() if isinstance(module, one)]
        if not found:
            known = ", ".join(sorted(name for name in modules if name)) or "none"
            raise ValueError(f"also={one!r} is no module of the model: its modules are {known}")
        chosen.update(found)
    return chosen


_TRAINING = 5  # the place of `training`, in all of them


def _evaluates(statistics: int) -> Handler:
    """A batch normalisation, which evaluates whatever its module was told: no buffer moves.

    `statistics` is the place of the running mean. Without one there is nothing to evaluate with.
    """

    def handler(draws: Draws, func: Any, args: Any, kwargs: Any) -> Any:
        mean = args[statistics] if len(args) > statistics else kwargs.get("running_mean")
        if mean is None:
            return func(*args, **kwargs)
        if len(args) > _TRAINING:
            return func(*args[:_TRAINING], False, *args[_TRAINING + 1 :], **kwargs)
        return func(*args, **{**kwargs, "training": False})

    return handler


NORMS: dict[Any, Handler] = {
    F.batch_norm: _evaluates(1),
    **dict.fromkeys((torch.batch_norm, torch.ops.aten.batch_norm.default), _evaluates(3)),
}
