"""Whether a class's own code refers to a function that drops: read from its bytecode, without a source."""

from __future__ import annotations

import dis
import functools
import inspect
import sys
import types
from collections.abc import Iterator
from typing import Any

from thinned.torch._conversion import _functional

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
