"""An audit runs the model here, and puts it back as it was."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import torch
from torch import Tensor

from thinned import _audit
from thinned.torch import _compat
from thinned.torch._audit._state import kept
from thinned.torch._audit._watch import Run, Watch, is_handwritten
from thinned.torch._keyed import unnoticed


@dataclass
class Evidence(_audit.Evidence):
    """Holds what the rules look at.

    Args:
        model: the one that was run.
        quiet: a run in training mode in which nothing was dropped; None where no batch is normalised.
    """

    model: torch.nn.Module
    quiet: Run | None

    def frozen(self, name: str) -> bool:
        """Tells whether no parameter around a site is trained."""
        parts = name.split(".")
        for length in range(len(parts), 0, -1):
            parameters = list(self.model.get_submodule(".".join(parts[:length])).parameters())
            if parameters:
                return not any(one.requires_grad for one in parameters)
        return False

    def by_batch(self, name: str) -> bool:
        """Tells whether a layer says that it drops whole batches, as torchvision's does."""
        return getattr(self.model.get_submodule(name), "mode", None) == "batch"


def gather(model: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], repeats: int) -> Evidence:
    """Run a model twice in evaluation and some times in training."""
    with kept(model), torch.compiler.set_stance("force_eager"), warnings.catch_warnings():
        # Nothing is compiled here, so that hooks see what is inside.
        warnings.filterwarnings("ignore", "Using `torch.compile", UserWarning)
        model.eval()
        before = _facts(model)
        evaluations = [_evaluated(model, args, kwargs) for _ in range(2)]
        changed = _difference(before, _facts(model))
        model.train()
        trainings = [_trained(model, args, kwargs, backward=number == 0) for number in range(repeats)]
        normalises = any(step.variance is not None for step in trainings[0].steps)
        quiet = _silenced(model, args, kwargs) if normalises else None
    return Evidence(evaluations, trainings, changed, model, quiet)


def _evaluated(model: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Run:
    watch = Watch(model, copies=True)
    with torch.no_grad(), watch.watching() as run:
        run.outputs = _tensors(model(*_copied(args), **_copied(kwargs)))
    return run


def _trained(model: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], backward: bool) -> Run:
    watch = Watch(model, gradients=backward)
    with torch.enable_grad(), unnoticed(model), watch.watching() as run:
        run.outputs = _tensors(model(*_copied(args), **_copied(kwargs)))
        roots = [one for one in run.outputs if one.requires_grad and one.is_floating_point()]
        if backward and roots:
            watch.backward = run.backward = True
            # A weight of its own for each output: a plain sum has no gradient behind a softmax.
            weights = [torch.linspace(0.5, 1.5, one.numel()).to(one).view_as(one) for one in roots]
            try:
                torch.autograd.backward(roots, weights)
            except RuntimeError as error:
                run.failed = str(error).partition(".")[0]
    return run if backward else run.without_tensors()


def _silenced(model: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Run:
    for module in model.modules():
        if is_handwritten(module):
            module.eval()
    watch = Watch(model, quiet=True)
    with torch.no_grad(), watch.watching() as run:
        model(*_copied(args), **_copied(kwargs))
    return run.without_tensors()


def _tensors(value: Any) -> list[Tensor]:
    return [one for one in _leaves(value) if isinstance(one, Tensor)]


def _leaves(value: Any) -> list[Any]:
    """The leaves of an output, of a dataclass or a mapping too."""
    if isinstance(value, Tensor):
        return [value]
    if hasattr(value, "values") and not isinstance(value, dict):
        value = list(value.values())
    elif is_dataclass(value):
        value = [getattr(value, one.name) for one in fields(value)]
    leaves = _compat.pytree.tree_leaves(value)
    return [inner for one in leaves for inner in (_leaves(one) if is_dataclass(one) else [one])]


def _copied(value: Any) -> Any:
    """Inputs of which nothing that a model writes to them is left."""
    return _compat.pytree.tree_map(_copy, value)


def _copy(one: Any) -> Any:
    return one.detach().clone().requires_grad_(one.requires_grad) if isinstance(one, Tensor) else one


def _facts(model: torch.nn.Module) -> dict[str, Any]:
    """Return what an evaluation has no business to change: modes, rates, parameters, buffers."""
    facts: dict[str, Any] = {}
    for name, module in model.named_modules():
        facts[f"the mode of {name or 'the model'}"] = module.training
        for rate in ("p", "dropout", "drop_prob", "rate"):
            value = getattr(module, rate, None)
            if isinstance(value, (int, float)):
                facts[f"{name}.{rate}".lstrip(".")] = value
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        facts[name] = tensor.detach().clone()
    return facts


def _difference(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    def same(one: Any, other: Any) -> bool:
        if isinstance(one, Tensor) and isinstance(other, Tensor):
            return one.shape == other.shape and bool(
                ((one == other) | ((one != one) & (other != other))).all()
            )
        return bool(one == other)

    return [name for name, value in before.items() if name not in after or not same(value, after[name])]
