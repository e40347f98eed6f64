"""What torch's functions are of a tensor of which only some heads are there: those that keep heads apart."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from thinned.torch._thin import _few_shapes
from thinned.torch._thin._few_heads import FewHeads, HeadsError

__all__ = ["FewHeads", "HeadsError"]

_AS_IT_IS = {"dtype", "device", "requires_grad", "is_cuda", "layout", "is_nested", "is_leaf", "grad_fn"}
# Of each element by itself.
_UNARY = {
    *("contiguous", "clone", "float", "double", "half", "bfloat16", "neg", "relu"),
    *("sigmoid", "tanh", "exp", "sqrt", "rsqrt", "square", "abs", "clamp", "silu", "gelu", "elu", "softplus"),
    *("relu_", "sigmoid_", "tanh_", "alias", "pow", "nan_to_num", "identity", "leaky_relu", "invert"),
    *("bitwise_not", "logical_not"),
}
_CASTS = {"to", "type", "type_as"}  # a tensor among their arguments gives its type
_PAIRS = {"add", "sub", "mul", "div", "truediv", "rsub", "radd", "rmul", "iadd", "imul", "isub", "itruediv"}
_PAIRS |= {"maximum", "minimum", "masked_fill", "masked_fill_", "where", "multiply", "add_", "mul_", "div_"}
_PAIRS |= {"gt", "lt", "ge", "le", "eq", "ne", "pow", "rpow", "rtruediv", "rdiv", "and", "or", "xor"}
_PAIRS |= {"true_divide", "mod", "remainder", "logical_and", "logical_or", "bitwise_and", "bitwise_or"}
# Along a dimension, which is their first argument or `dim`, and may not be that of the heads.
_ALONG = {"softmax", "log_softmax", "cumsum"}


def attribute(x: FewHeads, name: str) -> Any:
    """Gives what `x.name` is."""
    if name in _AS_IT_IS:
        return getattr(x.part, name)
    if name == "ndim":
        return len(x.shape)
    if name in ("mT", "T"):
        return _few_shapes.transpose(x, -1, -2)
    function = None if name.startswith("_") else getattr(Tensor, name, None)
    if name.startswith("_") or not hasattr(Tensor, name):
        raise AttributeError(name)
    if not callable(function):
        raise HeadsError(f"{name} of a tensor")
    return partial(_method, name, function, x)


def _method(name: str, function: Any, x: FewHeads, *args: Any, **kwargs: Any) -> Any:
    return call(name, function, (x, *args), kwargs)


def call(name: str, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Gives what a function makes of arguments of which one at least has few heads.

    Raises:
        HeadsError: `… may mix heads …`.
    """
    name = name.strip("_") if name.startswith("_") else name  # an operator's method
    if not args and "input" in kwargs:
        args, kwargs = (kwargs["input"],), {n: one for n, one in kwargs.items() if n != "input"}
    known = _KNOWN.get(name)
    if known is not None:
        try:
            inspect.signature(known).bind(*args, **kwargs)
        except TypeError as error:
            raise HeadsError(f"{name}(…), which {error}") from None
        return known(*args, **kwargs)
    x: Any = next((one for one in args if isinstance(one, FewHeads)), None)
    if x is None or kwargs.get("out") is not None:
        raise HeadsError(f"{name}(…) of arguments by name, or into a tensor")
    if name in _UNARY and args[0] is x:
        rest = {n: x.narrowed(one) for n, one in kwargs.items()}
        return x.of(func(x.part, *map(x.narrowed, args[1:]), **rest), x.axis, x.shape)
    if name in _CASTS:
        rest = {n: getattr(one, "part", one) for n, one in kwargs.items()}
        made = func(*(getattr(one, "part", one) for one in args), **rest)
        return x.of(made, x.axis, x.shape) if args[0] is x else made
    if name in _PAIRS:
        return _pairwise(func, x, args, kwargs)
    if name in _ALONG:
        return _along(func, x, args, kwargs)
    raise HeadsError(f"{name}(…) may mix heads")


def _pairwise(func: Any, x: FewHeads, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A function of elements that stand at one place of several tensors."""
    rank = max(len(one.shape) for one in args if isinstance(one, (Tensor, FewHeads)))
    if len(x.shape) < rank:
        raise HeadsError("a tensor with more dimensions than the heads' own")
    made = func(*(x.narrowed(one) for one in args), **{n: x.narrowed(one) for n, one in kwargs.items()})
    return x.of(made, x.axis)


def _along(func: Any, x: FewHeads, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    dim = kwargs.get("dim", (*args[1:], None)[0])
    if not isinstance(dim, int) or dim % len(x.shape) == x.axis:
        raise HeadsError("a function along the heads")
    return x.of(func(x.part, *args[1:], **kwargs), x.axis, x.shape)


def _matmul(input: Any, other: Any) -> FewHeads:
    """Of matrices, with the heads in front of them."""
    x = input if isinstance(input, FewHeads) else other
    rank = max(len(input.shape), len(other.shape))
    if len(x.shape) != rank or len(x.shape) - x.axis <= 2:
        raise HeadsError("a product of matrices along the heads")
    return x.of(torch.matmul(x.narrowed(input), x.narrowed(other)), x.axis)


def _attended(
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: Any = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
    **kwargs: Any,
) -> FewHeads:
    x = next(one for one in (query, key, value) if isinstance(one, FewHeads))
    if len(x.shape) - x.axis <= 2:
        raise HeadsError("attention along the heads")
    if kwargs.get("training", True) and dropout_p != 0:
        raise HeadsError(f"dropout of the single probabilities of all heads (dropout_p={dropout_p})")
    if enable_gqa and len({one.shape[-3] for one in (query, key, value)}) > 1:
        raise HeadsError("a head of keys that serves several of queries")
    q, k, v, mask = (x.narrowed(one) for one in (query, key, value, attn_mask))
    made = torch.nn.functional.scaled_dot_product_attention(q, k, v, mask, 0.0, is_causal, scale=scale)
    return x.of(made, x.axis)


def _mapped(input: FewHeads, weight: Tensor, bias: Tensor | None = None) -> FewHeads:
    if not isinstance(input, FewHeads) or input.axis == len(input.shape) - 1:
        raise HeadsError("a linear map that mixes heads")
    return input.of(torch.nn.functional.linear(input.part, weight, bias), input.axis)


def _normed(name: str) -> Callable[..., FewHeads]:
    def norm(input: FewHeads, normalized_shape: Any, *args: Any, **kwargs: Any) -> FewHeads:
        if len(input.shape) - len(normalized_shape) <= input.axis:
            raise HeadsError(f"{name}(…) takes its statistics from all heads")
        made = getattr(torch.nn.functional, name)(input.part, normalized_shape, *args, **kwargs)
        return input.of(made, input.axis, input.shape)

    return norm


def _dropped(input: FewHeads, p: Any = 0.5, training: bool = True, *_: Any, **__: Any) -> FewHeads:
    if training and p != 0:
        raise HeadsError(f"dropout of single elements of all heads (p={p})")
    return input


_KNOWN: dict[str, Callable[..., Any]] = {
    **_few_shapes.KNOWN,
    **dict.fromkeys(("matmul", "bmm"), _matmul),
    "rmatmul": lambda x, other: _matmul(other, x),
    "scaled_dot_product_attention": _attended,
    "linear": _mapped,
    "layer_norm": _normed("layer_norm"),
    "rms_norm": _normed("rms_norm"),
    "dropout": _dropped,
}


FewHeads.call, FewHeads.attribute = staticmethod(call), staticmethod(attribute)
