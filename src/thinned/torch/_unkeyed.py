"""This file finds what a model draws without a key: from its modules, and from a run of it."""

from __future__ import annotations

import random
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from torch.nn.parameter import is_lazy

from thinned.torch import _compat
from thinned.torch._site import Site

_RATES = (
    "dropout_p",
    "p",
    "dropout",
)  # arguments of torch's random operators that are 0 where nothing is drawn
_OWN = ("torch", "thinned", "contextlib", "functools")


def keyless(model: torch.nn.Module) -> list[str]:
    """The names of torch.nn's modules that drop, or hold the rate of a function of torch's that does."""
    return [name for name, module in model.named_modules() if not isinstance(module, Site) and _draws(module)]


def _draws(module: torch.nn.Module) -> bool:
    if isinstance(module, torch.nn.RNNBase):
        return module.num_layers > 1 and bool(module.dropout)
    if isinstance(module, torch.nn.MultiheadAttention):
        return bool(module.dropout)
    return isinstance(module, _compat.DROPOUTS)


def warn_of_draws(model: torch.nn.Module, inputs: Any) -> None:
    """Run a model once, and name in a warning what draws random numbers without a key.

    Raises:
        ValueError: `check: … has no values yet: …`, for a lazy module.
    """
    args, kwargs = _arguments(inputs)
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if is_lazy(tensor):
            raise ValueError(f"check: {name} has no values yet: run the model once before")
    recorder = _Recorder()
    eager = torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else nullcontext()
    with _put_back(model), recorder.watching(model), _generators(recorder), eager, torch.no_grad(), recorder:
        model.train()
        model(*args, **kwargs)
    if recorder.found:
        warnings.warn(
            f"{len(recorder.found)} draws of this model have no key: its masks are no function of seed, name "
            f"and step: {'; '.join(recorder.found)}. convert(model) exchanges modules; within "
            "thinned.torch.keys(model, seed, step=n) every draw has a key",
            stacklevel=3,
        )


def _arguments(inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if isinstance(inputs, dict):
        return (), inputs
    return (inputs if isinstance(inputs, tuple) else (inputs,)), {}


class _Recorder(_compat.TorchDispatchMode):
    """Notes each operator that torch knows to draw, and the module and line that it was called from."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: dict[str, None] = {}
        self._inside: list[str] = []

    @contextmanager
    def watching(self, model: torch.nn.Module) -> Iterator[None]:
        """Know which module runs."""

        def enter(module: torch.nn.Module, args: Any, name: str = "") -> None:
            self._inside.append(f"{name or 'the model'} ({type(module).__name__})")

        def leave(module: torch.nn.Module, args: Any, output: Any) -> None:
            self._inside.pop()

        with ExitStack() as stack:
            for name, module in model.named_modules():
                if isinstance(module, torch.jit.ScriptModule):
                    continue  # takes no hooks
                before = module.register_forward_pre_hook(
                    lambda module, args, name=name: enter(module, args, name), prepend=True
                )
                after = module.register_forward_hook(leave, always_call=True)
                stack.callback(before.remove)
                stack.callback(after.remove)
            yield

    def note(self, what: str) -> None:
        """A draw in the module that runs."""
        where = self._inside[-1] if self._inside else "the model"
        self.found[f"{where}: {what}"] = None

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Called by torch for each of its operators."""
        kwargs = kwargs or {}
        if torch.Tag.nondeterministic_seeded in func.tags and not _is_off(func, args, kwargs):
            self.note(f"{func.overloadpacket.__name__}{_line()}")
        return func(*args, **kwargs)


def _is_off(func: Any, args: Any, kwargs: Any) -> bool:
    """Tells whether an operator has a rate, and it is 0."""
    for at, argument in enumerate(_compat.schema_of(func).arguments):
        if argument.name in _RATES:
            given = args[at] if at < len(args) else kwargs.get(argument.name, argument.default_value)
            return isinstance(given, (int, float)) and given == 0
    return False


def _line() -> str:
    """Return where the user's code called, as far as it is not torch's or ours."""
    for frame, line in traceback.walk_stack(sys._getframe(2)):
        if frame.f_globals.get("__name__", "").partition(".")[0] not in _OWN:
            return f" at {frame.f_code.co_filename.rpartition('/')[2]}:{line}"
    return ""


@contextmanager
def _put_back(model: torch.nn.Module) -> Iterator[None]:
    """Whatever the run changes in the modules: flags, attributes, buffers and their values."""
    modules = list(model.modules())
    states = [_attributes(module) for module in modules]
    training = [module.training for module in modules]
    values = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    try:
        yield
    finally:
        for module, flag in zip(modules, training, strict=True):
            module.training = flag
        for module, state in zip(modules, states, strict=True):
            vars(module).clear()
            vars(module).update(state)
        with torch.no_grad():
            for buffer, value in values:
                buffer.copy_(value)


def _attributes(module: torch.nn.Module) -> dict[str, Any]:
    """A module's attributes, with the dictionaries of buffers and the like as they are now."""
    return {
        name: type(value)(value) if type(value) in (dict, list, set) else value
        for name, value in vars(module).items()
    }


@contextmanager
def _generators(recorder: _Recorder) -> Iterator[None]:
    """Generators are put back; one of Python's or NumPy's that has moved is a draw as well."""
    python, numpy = random.getstate(), sys.modules.get("numpy.random")
    numbers = None if numpy is None else numpy.get_state()
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices):
        try:
            yield
            if random.getstate() != python:
                recorder.note("Python's random")
            if numpy is not None and _moved(numbers, numpy.get_state()):
                recorder.note("numpy.random")
        finally:
            random.setstate(python)
            if numpy is not None:
                numpy.set_state(numbers)


def _moved(before: Any, after: Any) -> bool:
    return any(
        (one != other).any() if hasattr(one, "any") else one != other
        for one, other in zip(before, after, strict=True)
    )
