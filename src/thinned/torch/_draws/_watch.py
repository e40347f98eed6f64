"""State of a pass whose calls are taken over: which module runs, and what is computed again later."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from thinned.torch import _compat
from thinned.torch._draws._mode import THREAD

_lock = threading.Lock()
_open = 0
_installed = ExitStack()
_eager: list[None] = []  # whether compiled code runs so; nothing is compiled before the compiler is loaded


@contextmanager
def watching() -> Iterator[None]:
    """While anybody is in it, in any thread, modes hear of modules, and go along with checkpoints.

    Hooks are torch's global ones: a thread that has entered no mode returns from them at once, and no module
    is touched. Compiled code runs as it was written, since its functions are called by nobody.
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
