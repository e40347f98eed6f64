"""Weight scaling is computed here: the model evaluates, and nothing in it drops."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from thinned.mc.torch import _training_flags
from thinned.mc.torch._training_flags import flags_kept
from thinned.torch._draws import _dropout, given

_thinned = torch.ops.thinned
_NONE: Any = None  # a norm's handler draws nothing

Handler = Callable[[Any, tuple[Any, ...], dict[str, Any]], Any]


@contextmanager
def evaluating(model: torch.nn.Module) -> Iterator[None]:
    """Evaluate all of a model: its modules, calls with `training=True`, programs exported in training.

    What was set is put back, whatever happens inside.
    """
    with flags_kept(model) as modules, torch.no_grad(), _Evaluation():
        for module in modules:
            module.training = False  # not by `eval()`, which exported programs refuse
        yield


class _Evaluation(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        handler = _HANDLERS.get(func)
        return func(*args, **(kwargs or {})) if handler is None else handler(func, args, kwargs or {})


def _itself(func: Any, args: Any, kwargs: Any) -> Any:
    return args[0] if args else kwargs["input"]


def _native(func: Any, args: Any, kwargs: Any) -> Any:
    return args[0], torch.ones_like(args[0], dtype=torch.bool)


def _attention(func: Any, args: Any, kwargs: Any) -> Any:
    """Its fifth argument is the probability, and without `training` beside it."""
    if len(args) > 4:
        return func(*args[:4], 0.0, *args[5:], **kwargs)
    return func(*args, **{**kwargs, "dropout_p": 0.0})


def _operator(func: Any, args: Any, kwargs: Any) -> Any:
    """`thinned::dropout(input, key, p, inverted=True, …)` of a program exported in training."""
    inverted = args[3] if len(args) > 3 else kwargs.get("inverted", True)
    if not inverted:
        raise ValueError(
            "a program exported in training has classic or alpha dropout of thinned's, which cannot be "
            "turned to evaluation: pass the model itself"
        )
    return args[0]


def _ours(func: Any, args: Any, kwargs: Any) -> Any:
    return func(**{**given(func, args, kwargs), "training": False})


def _norm(func: Any, args: Any, kwargs: Any) -> Any:
    return _training_flags.NORMS[func](_NONE, func, args, kwargs)


_HANDLERS: dict[Any, Handler] = {
    **dict.fromkeys(_dropout.DROPOUTS, _itself),
    **dict.fromkeys(_dropout.NATIVE, _native),
    **dict.fromkeys(_dropout.ATTENTION, _attention),
    **dict.fromkeys(_dropout.OURS, _ours),
    **dict.fromkeys(_training_flags.NORMS, _norm),
    _thinned.dropout.default: _operator,
    _thinned.gaussian_dropout.default: _itself,
}
