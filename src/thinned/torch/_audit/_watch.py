"""Each call at a model's sites is recorded here with its rate, input and output."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from thinned import _audit
from thinned._audit import ELEMENTS, OTHER, kind_of, rate_of
from thinned._audit._calls import DROPS, is_thinned, sampled
from thinned.torch import _compat
from thinned.torch._audit._verbs import ATTENTION, VERBS, Verb


@dataclass
class Call(_audit.Call):
    """One call at one site.

    Args:
        gradient: of the sum of the output, with respect to the input.
    """

    gradient: npt.NDArray[Any] | None = None


@dataclass
class Step:
    """A module's call, for who follows whom."""

    name: str
    module: torch.nn.Module
    inputs: list[Tensor]
    outputs: list[Tensor]
    variance: float | None = None  # of a batch normalisation's input


@dataclass
class Run(_audit.Run):
    """A run, with the calls of all modules, and why its backward pass failed."""

    steps: list[Step] = field(default_factory=list)
    failed: str = ""

    def without_tensors(self) -> Run:
        """This run without what it handed around, which would be kept in memory."""
        for step in self.steps:
            step.inputs, step.outputs = [], []
        super().without_tensors()
        return self


class Watch(TorchFunctionMode):
    """Record a run of a model.

    Args:
        model: its modules' names are the sites' names.
        copies: whether inputs and outputs of all modules are kept, to find the first that differs.
        quiet: whether nothing is dropped, though the model trains.
        gradients: whether each site's gradient is asked for.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        *,
        copies: bool = False,
        quiet: bool = False,
        gradients: bool = False,
    ) -> None:
        super().__init__()
        self._gradients = gradients
        self._quiet = quiet
        self.run = Run()
        self.backward = False
        self._names = {module: name for name, module in model.named_modules()}
        self._stack: list[torch.nn.Module] = []
        self._counts: dict[tuple[str, bool], int] = {}
        self._copies = copies
        self._inside: list[int] = []  # how many calls there were when each module on the stack was entered

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Record the functions that drop, and run everything."""
        kwargs = kwargs or {}
        verb = VERBS.get(func)
        if verb is None:
            return func(*args, **kwargs)
        given = args[0] if args else kwargs.get("input", kwargs.get("query"))
        if not isinstance(given, Tensor):
            return func(*args, **kwargs)
        if self._quiet:
            return (
                func(*args, **kwargs) if verb.training is None else _silent(func, verb, args, kwargs, given)
            )
        before, begin = _array(given), time.perf_counter()
        result = func(*args, **kwargs)
        seconds = 0.0 if func in ATTENTION else time.perf_counter() - begin
        output = result[0] if isinstance(result, tuple) else result
        rate = _argument(args, kwargs, verb.rate)
        training = None if verb.training is None else bool(_argument(args, kwargs, verb.training))
        p = float(rate) if isinstance(rate, (int, float)) else None
        kind = verb.kind
        if kind == ELEMENTS and kwargs.get("noise_shape") is not None:
            kind = OTHER
        self._note(self._site(), kind, p, training, before, given, output, seconds)
        return result

    def _site(self) -> str:
        return self._names.get(self._stack[-1], "") if self._stack else ""

    def _note(
        self,
        name: str,
        kind: str,
        p: float | None,
        training: bool | None,
        before: npt.NDArray[Any],
        given: Tensor,
        output: Tensor,
        seconds: float,
    ) -> None:
        number = self._counts.get((name, self.backward), 0)
        self._counts[name, self.backward] = number + 1
        call = Call(name, number, kind, p, training, before, _array(output), given=given, made=output)
        call.dtype, call.seconds = str(given.dtype).removeprefix("torch."), seconds
        call.again, call.shape = self.backward, () if given.is_nested else tuple(given.shape)
        graph = self._gradients and output.requires_grad and given.requires_grad
        if graph and output is not given and not _hooked():
            ones = torch.ones_like(output)
            [found] = torch.autograd.grad(output, given, ones, retain_graph=True, allow_unused=True)
            call.gradient = None if found is None else _array(found)
        self.run.calls.append(call)

    @contextmanager
    def watching(self) -> Iterator[Run]:
        """While it is entered the model's calls are recorded."""
        before = torch.nn.modules.module.register_module_forward_pre_hook(self._enter)
        after = torch.nn.modules.module.register_module_forward_hook(self._leave, always_call=True)
        begin = time.perf_counter()
        try:
            with self:
                yield self.run
        finally:
            self.run.seconds = time.perf_counter() - begin
            before.remove()
            after.remove()

    def _enter(self, module: torch.nn.Module, args: Any) -> None:
        # torch takes a mode off while a backward pass runs, and a checkpoint computes again in there.
        if self.backward and not self._stack:
            self.__enter__()  # type: ignore[no-untyped-call]
        self._stack.append(module)
        self._inside.append(len(self.run.calls))
        if is_handwritten(module):
            first = next((one for one in _compat.pytree.tree_leaves(args) if isinstance(one, Tensor)), None)
            module.__dict__["_thinned_before"] = None if first is None else _array(first)

    def _leave(self, module: torch.nn.Module, args: Any, result: Any) -> None:
        self._stack.pop()
        if self.backward and not self._stack:
            self.__exit__(None, None, None)  # type: ignore[no-untyped-call]
        calls = self._inside.pop()
        if module not in self._names:
            return
        inputs = [one for one in _compat.pytree.tree_leaves(args) if isinstance(one, Tensor)]
        outputs = [one for one in _compat.pytree.tree_leaves(result) if isinstance(one, Tensor)]
        before = module.__dict__.pop("_thinned_before", None)
        if before is not None and len(self.run.calls) == calls and len(outputs) == 1:
            output = outputs[0]
            if output.is_floating_point() and is_thinned(before, _array(output)):
                kind, rate = kind_of(type(module).__name__), rate_of(module)
                self._note(self._names[module], kind, rate, module.training, before, inputs[0], output, 0.0)
                self.run.calls[-1].by_function = False
        if self._copies:
            inputs = [_sample(one).clone() for one in inputs]
            outputs = [_sample(one).clone() for one in outputs]
        step = Step(self._names[module], module, inputs, outputs)
        if isinstance(module, _compat.NORMS) and inputs and inputs[0].dim() > 1:
            values = inputs[0].detach().float()
            step.variance = float(values.transpose(0, 1).flatten(1).var(1).mean())
        self.run.steps.append(step)


def _silent(
    func: Callable[..., Any], verb: Verb, args: tuple[Any, ...], kwargs: dict[str, Any], given: Tensor
) -> Any:
    """The call with nothing dropped."""
    if func is not F.multi_head_attention_forward:
        return given
    position, keyword, _ = verb.rate
    if keyword in kwargs:
        return func(*args, **{**kwargs, keyword: 0.0})
    rest: Any = (*args[:position], 0.0, *args[position + 1 :])
    return func(*rest, **kwargs)


def _sample(tensor: Tensor) -> Tensor:
    """A tensor where it is looked at, without its gradient."""
    plain = tensor.layout == torch.strided and not tensor.is_nested
    return tensor.detach()[sampled(tensor.shape)] if plain else tensor.detach()


def _array(tensor: Tensor) -> npt.NDArray[Any]:
    """A tensor's values where it is looked at; none of a tensor that is not one piece of memory."""
    if tensor.layout != torch.strided or tensor.is_nested:
        return np.zeros(0, np.float32)
    wide = torch.float64 if tensor.dtype == torch.float64 else torch.float32
    values: npt.NDArray[Any] = _sample(tensor).to("cpu", wide, copy=True).numpy()
    return values


def _hooked() -> bool:
    """Tells whether a checkpoint is around, inside which no gradient may be asked for."""
    return _compat.saved_tensors_hooks(True) is not None


def is_handwritten(module: torch.nn.Module) -> bool:
    """Tells whether a module drops by its name, and is neither torch's nor ours."""
    kind = type(module)
    if not DROPS.search(kind.__name__) or kind.__module__.startswith(("torch.nn.", "thinned.")):
        return False
    return next(module.parameters(), None) is None


def _argument(args: tuple[Any, ...], kwargs: dict[str, Any], where: tuple[int, str, Any]) -> Any:
    position, keyword, default = where
    return kwargs.get(keyword, args[position] if 0 <= position < len(args) else default)
