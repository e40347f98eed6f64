"""A snapshot tells whether a model is still what its trace was made from."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from thinned.torch import _autocast, _compat
from thinned.torch._counters import Clock

_PLAIN = (bool, int, float, complex, str, bytes, torch.dtype, torch.device)
_TENSORS = (Tensor, torch.nn.Parameter, torch.nn.Buffer)
_HELD = (dict, list, set)


class Snapshot:
    """A model's modules, their classes and attributes, the kinds of tensors, and what is set for all modules.

    Values of tensors are not in it, for a trace reads them where they are; their places are. Attributes are
    compared by identity, plain ones by value; dictionaries, lists and objects that a module holds by their
    own entries, one level deep. What lies deeper, and what a forward pass takes from elsewhere, is not seen.

    Args:
        model: any module.
        read: tensors that traces of it read, wherever these came from.
    """

    def __init__(self, model: torch.nn.Module, read: Iterable[Tensor]) -> None:
        self._everywhere = _everywhere()
        self._classes = [(module, _class(module)) for module in model.modules()]
        self._entries: list[tuple[Any, list[Any], list[Any]]] = []
        self._empty: list[Any] = []
        tensors = {id(one): one for one in (*model.parameters(), *model.buffers(), *read)}
        self._kinds = [(one, _kind(one)) for one in tensors.values()]
        self._clocks: dict[Tensor, int] = {}
        for module in model.modules():
            self._note(vars(module))

    def _note(self, own: dict[str, Any], deeper: bool = True) -> None:
        self._entries.append((own, *_listed(own)))
        for value in own.values() if deeper else ():
            if isinstance(value, Clock):
                self._clocks[value.step] = _compat.version_of(value.step)
            elif isinstance(value, _HELD):
                if value:
                    self._entries.append((value, *_listed(value)))
                else:
                    self._empty.append(value)
            elif hasattr(value, "__dict__") and not isinstance(value, (torch.nn.Module, Tensor, type)):
                self._note(vars(value), deeper=False)

    @property
    def places_known(self) -> bool:
        """Tells whether views of all tensors stay good as long as it holds."""
        return all(place is not None for _, (*_, place) in self._kinds)

    def holds(self) -> bool:
        """Tells whether everything is as it was."""
        return (
            not any(self._empty)
            and _everywhere() == self._everywhere
            and all(_class(module) == kind for module, kind in self._classes)
            and all(_same(*entry) for entry in self._entries)
            and all(_kind(one) == kind for one, kind in self._kinds)
            and all(_compat.version_of(step) == version for step, version in self._clocks.items())
        )


def _kind(tensor: Tensor) -> Any:
    plain = type(tensor) in _TENSORS and tensor.layout is torch.strided
    place = (tensor.data_ptr(), tensor.stride()) if plain else None
    return tensor.dtype, tensor.shape, tensor.device, place


def _class(module: torch.nn.Module) -> Any:
    """Returns the class and its forward pass, which a user may replace."""
    kind = type(module)
    return kind, kind.forward


def _everywhere() -> Any:
    """Gives what is set for all modules."""
    return _compat.global_hooks_now(), _autocast.now(), torch.get_default_dtype()


def _listed(held: Any) -> tuple[list[Any], list[Any]]:
    """Names and values."""
    return (list(held), list(held.values())) if isinstance(held, dict) else ([], list(held))


def _same(held: Any, names: list[Any], values: list[Any]) -> bool:
    if len(held) != len(values):
        return False
    now_names, now = _listed(held)
    if now_names != names:
        return False
    if all(map(operator.is_, now, values)):
        return True
    # `training` is set where samples are drawn.
    pairs = itertools.zip_longest(names, now, values)
    return all(name == "training" or _alike(a, b) for name, a, b in pairs)


def _alike(a: Any, b: Any) -> bool:
    return a is b or (type(a) is type(b) and isinstance(a, _PLAIN) and bool(a == b))
