"""Which modules are told that they train, while everything else evaluates; and everything put back."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from thinned.mc.torch._draws import Draws
from thinned.torch._conversion import _unseen
from thinned.torch._site import Site

Also = Iterable[str | type[torch.nn.Module]]

_NORMS = (torch.nn.modules.batchnorm._NormBase,)


@contextmanager
def switched(model: torch.nn.Module, draws: Draws, also: Also = ()) -> Iterator[None]:
    """Set `training` of each module by itself, and let `draws` know whose forward pass runs.

    True are modules that ask for it before they drop: ours; those whose class calls a function that drops, or
    has "Drop" in its name; those that hold a rate; those that are named. False is all the rest, so that no
    statistics are gathered.
    """
    modules = dict(model.named_modules())
    chosen = _chosen(modules, also)
    with ExitStack() as stack:
        if "torch._dynamo" in sys.modules:  # else nothing is compiled
            stack.enter_context(torch.compiler.set_stance("force_eager"))
            stack.enter_context(torch._dynamo.config.patch(error_on_nested_fx_trace=False))
        stack.enter_context(flags_kept(model))
        for name, module in modules.items():
            # Not by `train()`, which reaches children, and which exported programs refuse.
            module.training = module in chosen
            _watch(stack, draws, name, module)
        yield


@contextmanager
def flags_kept(model: torch.nn.Module) -> Iterator[list[torch.nn.Module]]:
    """The model's modules, whose `training` is put back at the end, whatever happens."""
    was = {module: module.training for module in model.modules()}
    try:
        yield list(was)
    finally:
        for module, training in was.items():
            module.training = training


def drops_in_training(module: torch.nn.Module) -> bool:
    """Whether a module is one that asks for its `training` before it drops."""
    if isinstance(module, _NORMS):
        return False
    name = type(module).__name__
    if isinstance(module, Site) or "Drop" in name or "StochasticDepth" in name:
        return True
    if type(module).__module__.startswith("torch.nn."):
        return False
    return bool(_unseen.drops(module) or _unseen.rates(module))


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


def _watch(stack: ExitStack, draws: Draws, name: str, module: torch.nn.Module) -> None:
    def enter(module: torch.nn.Module, args: Any) -> None:
        draws.inside.append((name, module))

    def leave(module: torch.nn.Module, args: Any, result: Any) -> None:
        draws.inside.pop()

    before = module.register_forward_pre_hook(enter, prepend=True)
    after = module.register_forward_hook(leave, always_call=True)
    stack.callback(before.remove)
    stack.callback(after.remove)
