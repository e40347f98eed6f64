"""A pass whose calls are taken over has its state here: the running module, and what is recomputed."""

from __future__ import annotations

import dis
import functools
import inspect
import sys
import threading
import types
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from thinned.torch import _compat
from thinned.torch._conversion import _functional
from thinned.torch._draws._mode import THREAD

_lock = threading.Lock()
_open = 0
_installed = ExitStack()
_eager: list[None] = []  # whether compiled code runs so; nothing is compiled before the compiler is loaded


@contextmanager
def watching() -> Iterator[None]:
    """While any thread is in this context, modes are told of modules, and go along with checkpoints.

    Hooks are torch's global ones: a thread that has entered no mode returns from them at once, and no module
    is touched. Compiled code runs as it was written, since its functions are not called.
    """
    global _open
    with _lock:
        if not _open:
            with ExitStack() as stack:
                _install(stack)
                _installed.push(stack.pop_all())
        if "torch._dynamo" in sys.modules and not _eager:
            _eager.append(_installed.enter_context(_compat.compiled_code_runs_eagerly()))
        _open += 1
    try:
        yield
    finally:
        with _lock:
            _open -= 1
            if not _open:
                _installed.close()
                _eager.clear()


def _install(stack: ExitStack) -> None:
    hooks = torch.nn.modules.module
    stack.callback(hooks.register_module_forward_pre_hook(_enter).remove)
    stack.callback(hooks.register_module_forward_hook(_leave, always_call=True).remove)
    stack.enter_context(_compat.checkpoints_call(_again))


def _enter(module: torch.nn.Module, args: Any) -> None:
    for draws in THREAD.entered:
        draws.enter(module)


def _leave(module: torch.nn.Module, args: Any, result: Any) -> None:
    for draws in THREAD.entered:
        draws.leave(module)


def taken_over(module: torch.nn.Module) -> bool:
    """Tells whether this thread has entered a mode for a model that the module is of."""
    return any(module in draws.names for draws in THREAD.entered)


def _again(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function of a checkpoint, as it is to be called when it is computed again.

    That may be after the modes were left, or inside others, or in a thread of autograd's.
    """
    states = [draws.again() for draws in THREAD.entered]
    if not states:
        return function

    def computed_again(*args: Any, **kwargs: Any) -> Any:
        others, drew = THREAD.entered, THREAD.draws
        THREAD.entered, THREAD.draws = [], False
        try:
            with watching(), ExitStack() as stack:
                for state in states:
                    stack.enter_context(state.again())
                return function(*args, **kwargs)
        finally:
            THREAD.entered, THREAD.draws = others, drew

    return computed_again


_FUNCTIONS = {*_functional._FUNCTIONS, "scaled_dot_product_attention"}
_LOADS = {"LOAD_GLOBAL", "LOAD_NAME", "LOAD_DEREF"}
_FOLLOWS = {"LOAD_ATTR", "LOAD_METHOD"}


@functools.lru_cache(maxsize=1024)
def drops(kind: Any) -> bool:
    """Tells whether a method of the class, or of a base that is the user's, names a function that drops.

    Names are followed from where they are defined, so that `F.dropout` is found and `self.dropout` is not.
    """
    for cls in kind.__mro__:
        root = cls.__module__.partition(".")[0]
        if root in ("torch", "thinned") or (root in sys.stdlib_module_names and root != "__main__"):
            continue
        for value in vars(cls).values():
            method = inspect.unwrap(getattr(value, "__func__", value)) if callable(value) else value
            if isinstance(method, types.FunctionType) and any(_named(method, method.__code__)):
                return True
    return False


def _named(method: types.FunctionType, code: types.CodeType) -> Iterator[bool]:
    cells = zip(method.__code__.co_freevars, method.__closure__ or (), strict=True)
    known = {name: cell.cell_contents for name, cell in cells if cell.cell_contents is not method}
    current: Any = None
    for step in dis.get_instructions(code):
        if step.opname in _LOADS:
            current = known.get(step.argval, method.__globals__.get(step.argval))
        elif step.opname in _FOLLOWS:
            # Of modules alone: to ask anything else may run code.
            current = getattr(current, step.argval, None) if isinstance(current, types.ModuleType) else None
        elif step.opname not in ("CACHE", "PUSH_NULL"):
            current = None
        yield callable(current) and str(getattr(current, "__name__", "")).rstrip("_") in _FUNCTIONS
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            yield from _named(method, inner)
