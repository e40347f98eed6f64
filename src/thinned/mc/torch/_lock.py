"""One thread at a time may turn a model's dropout on; no other may call the model meanwhile.

Whether a module trains is noted in the module, which all threads share: a plain call in another would drop.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from thinned.torch._draws import taken_over


@dataclass(frozen=True)
class _Holder:
    thread: int
    by: str
    ends: bool  # by itself, so that one can wait for it


_changed = threading.Condition()
_holders: dict[torch.nn.Module, list[_Holder]] = {}


@contextmanager
def exclusive(model: torch.nn.Module, by: str, ends: bool) -> Iterator[None]:
    """Have a model for this thread.

    Args:
        model: with all its modules.
        by: who asks, for the message.
        ends: whether it comes to an end whatever the caller does: then others wait for it.

    Raises:
        RuntimeError: where another thread has it, for an unknown time.
    """
    modules, own = list(model.modules()), _Holder(threading.get_ident(), by, ends)
    with _changed:
        while (other := _other(modules)) is not None:
            if not other.ends:
                raise RuntimeError(
                    f"{type(model).__name__} is inside thinned.mc.{other.by} in another thread, for as long "
                    f"as that thread likes: let {by} have a copy, copy.deepcopy(model)"
                )
            _changed.wait()
        for module in modules:
            _holders.setdefault(module, []).append(own)
        hook = torch.nn.modules.module.register_module_forward_pre_hook(_check)
    try:
        yield
    finally:
        hook.remove()
        with _changed:
            for module in modules:
                _holders[module].remove(own)
                if not _holders[module]:
                    del _holders[module]
            _changed.notify_all()


def _other(modules: list[torch.nn.Module]) -> _Holder | None:
    """Another thread that has one of them."""
    own = threading.get_ident()
    found = (holder for module in modules for holder in _holders.get(module, ()))
    return next((holder for holder in found if holder.thread != own), None)


def _check(module: torch.nn.Module, args: Any) -> None:
    """Runs before each module's call, in whatever thread."""
    other = _other([module])
    if other is not None and not taken_over(module):
        raise RuntimeError(
            f"{type(module).__name__} is called while thinned.mc.{other.by} has its dropout on in another "
            "thread: call a copy, copy.deepcopy(model), or wait until it is done"
        )
