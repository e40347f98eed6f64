"""Weight scaling: the model in evaluation, with whatever would drop all the same turned off."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

from thinned.mc.torch import _dropout
from thinned.mc.torch._draws import given
from thinned.torch import functional

_aten, _thinned = torch.ops.aten, torch.ops.thinned
_NONE: Any = None  # these handlers draw nothing

Handler = Callable[[Any, tuple[Any, ...], dict[str, Any]], Any]


@contextmanager
def evaluating(model: torch.nn.Module) -> Iterator[None]:
    """Evaluate all of a model: its modules, calls with `training=True`, programs exported in training.

    What was set is put back, whatever happens inside.
    """
    was = {module: vars(module)["training"] for module in model.modules() if "training" in vars(module)}
    try:
        for module in was:
            module.__dict__["training"] = False  # not by `eval()`, which exported programs refuse
        with torch.no_grad(), _Evaluation():
            yield
    finally:
        for module, training in was.items():
            module.__dict__["training"] = training


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


_HANDLERS: dict[Any, Handler] = {
    **dict.fromkeys((F.dropout, torch.dropout, torch.dropout_), _itself),
    **dict.fromkeys(
        (F.dropout1d, F.dropout2d, F.dropout3d, torch.feature_dropout, torch.feature_dropout_), _itself
    ),
    **dict.fromkeys((F.alpha_dropout, torch.alpha_dropout, torch.alpha_dropout_), _itself),
    **dict.fromkeys(
        (F.feature_alpha_dropout, torch.feature_alpha_dropout, torch.feature_alpha_dropout_), _itself
    ),
    **dict.fromkeys((_aten.dropout.default, _aten.dropout_.default), _itself),
    **dict.fromkeys((_aten.feature_dropout.default, _aten.feature_dropout_.default), _itself),
    **dict.fromkeys((_aten.alpha_dropout.default, _aten.alpha_dropout_.default), _itself),
    **dict.fromkeys((_aten.feature_alpha_dropout.default, _aten.feature_alpha_dropout_.default), _itself),
    **dict.fromkeys((torch.native_dropout, _aten.native_dropout.default), _native),
    **dict.fromkeys((F.scaled_dot_product_attention, _aten.scaled_dot_product_attention.default), _attention),
    _thinned.dropout.default: _operator,
    _thinned.gaussian_dropout.default: _itself,
    **dict.fromkeys(
        (F.batch_norm, torch.batch_norm, _aten.batch_norm.default),
        lambda func, args, kwargs: _dropout.HANDLERS[func](_NONE, func, args, kwargs),
    ),
    **{getattr(functional, name): _ours for name in functional.__all__ if name != "keep_mask"},
}
