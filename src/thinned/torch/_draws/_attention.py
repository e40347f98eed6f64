"""`nn.MultiheadAttention` holds its dropout as a number, and is handled here."""

from __future__ import annotations

import types
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from thinned.torch._draws import _dropout
from thinned.torch._draws._mode import Draws, Handler, given
from thinned.torch.nn._part_keys import is_off

_FUNCTION = F.multi_head_attention_forward


def _handler(draws: Draws, func: Any, args: Any, kwargs: Any) -> Any:
    arguments = given(func, args, kwargs)
    p = arguments["dropout_p"]
    if is_off(p) or not draws.drops(arguments["training"]):
        return func(*args, **kwargs)
    arguments["training"] = True
    before = len(draws.found)
    result = _taken_over(draws)(**arguments)
    if len(draws.found) == before:
        raise RuntimeError(
            f"dropout_p={p} of multi_head_attention_forward was not reached: this version of torch computes "
            "attention in a way that thinned does not know"
        )
    return result


def _taken_over(draws: Draws) -> Any:
    """Torch's own function, whose two calls that drop are ours.

    It asks for overrides first, and while a mode answers no mode sees what it calls. So a copy is called
    whose module-level names are others; torch's module stays as it is.
    """

    def drops(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
        how = "the number dropout of MultiheadAttention"
        return _dropout.elements(input, p, draws.site("attention", p, input.shape, how))

    def attends(*args: Any, **kwargs: Any) -> Any:
        return _dropout.attention(draws, F.scaled_dot_product_attention, args, kwargs)

    names = {
        **vars(F),
        "has_torch_function": lambda tensors: False,
        "dropout": drops,
        "scaled_dot_product_attention": attends,
    }
    copy = types.FunctionType(_FUNCTION.__code__, names, _FUNCTION.__name__, _FUNCTION.__defaults__)
    copy.__kwdefaults__ = _FUNCTION.__kwdefaults__
    return copy


HANDLERS: dict[Any, Handler] = {_FUNCTION: _handler}
