"""What torch's functions are of a tensor of which only some heads are there: those that keep heads apart."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

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
    """What `x.name` is."""
    if name in _AS_IT_IS:
        return getattr(x.part, name)
    if name == "ndim":
        return len(x.shape)
    if name in ("mT", "T"):
        return _transpose(x, -1, -2)
    function = None if name.startswith("_") else getattr(Tensor, name, None)
    if name.startswith("_") or not hasattr(Tensor, name):
        raise AttributeError(name)
    if not callable(function):
        raise HeadsError(f"{name} of a tensor")
    return partial(_method, name, function, x)


def _method(name: str, function: Any, x: FewHeads, *args: Any, **kwargs: Any) -> Any:
    return call(name, function, (x, *args), kwargs)


def call(name: str, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What a function makes of arguments of which one at least has few heads.

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


def _transpose(x: FewHeads, dim0: int, dim1: int) -> FewHeads:
    order = list(range(len(x.shape)))
    order[dim0], order[dim1] = order[dim1], order[dim0]
    return _permute(x, order)


def _permute(x: FewHeads, *sizes: Any, dims: Any = None) -> FewHeads:
    rank = len(x.shape)
    several = len(sizes) == 1 and isinstance(sizes[0], (tuple, list))
    given = dims if dims is not None else sizes[0] if several else sizes
    order = [dim % rank for dim in given]
    shape = [x.shape[dim] for dim in order]
    return x.of(x.part.permute(order), order.index(x.axis), shape)


def _pieces(x: FewHeads, sizes: list[int], dim: int) -> tuple[FewHeads, ...]:
    dim %= len(x.shape)
    shapes = [[*x.shape[:dim], size, *x.shape[dim + 1 :]] for size in sizes]
    if dim != x.axis:
        return tuple(
            x.of(piece, x.axis, shape) for piece, shape in zip(x.part.split(sizes, dim), shapes, strict=True)
        )
    each = x.heads * x.inner
    if any(size % each or not size for size in sizes):
        raise HeadsError("pieces that divide the heads")
    outers = [size // each for size in sizes]
    width = x.part.shape[dim] // x.outer
    parts = x.part.split([outer * width for outer in outers], dim)
    return tuple(
        x.of(piece, dim, shape, outer) for piece, shape, outer in zip(parts, shapes, outers, strict=True)
    )


def _split(x: FewHeads, sizes: Any, dim: int = 0) -> tuple[FewHeads, ...]:
    if isinstance(sizes, int):
        count, rest = divmod(x.shape[dim], sizes)
        sizes = [sizes] * count + ([rest] if rest else [])
    return _pieces(x, list(sizes), dim)


def _chunk(x: FewHeads, chunks: int, dim: int = 0) -> tuple[FewHeads, ...]:
    return _split(x, -(-x.shape[dim] // chunks), dim)


def _unbind(x: FewHeads, dim: int = 0) -> tuple[FewHeads, ...]:
    return tuple(_without(x, dim, index) for index in range(x.shape[dim]))


def _without(x: FewHeads, dim: int, index: int) -> FewHeads:
    dim %= len(x.shape)
    if dim == x.axis:
        raise HeadsError("a single head")
    shape = [*x.shape[:dim], *x.shape[dim + 1 :]]
    return x.of(x.part.select(dim, index), x.axis - (dim < x.axis), shape)


def _item(x: FewHeads, index: Any) -> FewHeads:
    """An index of whole numbers, slices and None, whole along the heads."""
    given = list(index) if isinstance(index, tuple) else [index]
    if not all(one is None or one is Ellipsis or isinstance(one, (int, slice)) for one in given):
        raise HeadsError("an index that is no slice")
    missing = len(x.shape) - sum(one is not None and one is not Ellipsis for one in given)
    at = next((n for n, one in enumerate(given) if one is Ellipsis), len(given))
    given[at : at + 1] = [slice(None)] * missing
    axis, place, at = -1, 0, 0
    for one in given:
        if one is not None:
            if place == x.axis:
                if one != slice(None):
                    raise HeadsError("some of the heads")
                axis = at
            place += 1
        at += not isinstance(one, int)
    return x.of(x.part[tuple(given)], axis)


def _unsqueeze(x: FewHeads, dim: int) -> FewHeads:
    dim %= len(x.shape) + 1
    return x.of(x.part.unsqueeze(dim), x.axis + (dim <= x.axis))


def _squeeze(x: FewHeads, dim: int) -> FewHeads:
    dim %= len(x.shape)
    return x if x.shape[dim] != 1 or dim == x.axis else _without(x, dim, 0)


def _flatten(x: FewHeads, start_dim: int = 0, end_dim: int = -1) -> FewHeads:
    start, end = start_dim % len(x.shape), end_dim % len(x.shape)
    return x.reshaped(*x.shape[:start], x.shape[start : end + 1].numel(), *x.shape[end + 1 :])


def _unflatten(x: FewHeads, dim: int, sizes: Any) -> FewHeads:
    dim %= len(x.shape)
    return x.reshaped(*x.shape[:dim], *_known(sizes, x.shape[dim]), *x.shape[dim + 1 :])


def _known(sizes: Any, size: int) -> list[int]:
    missing = size
    for one in sizes:
        missing = missing if one == -1 else missing // one
    return [missing if one == -1 else one for one in sizes]


def _expand(x: FewHeads, *sizes: Any) -> FewHeads:
    given = sizes[0] if len(sizes) == 1 and isinstance(sizes[0], (tuple, list)) else sizes
    axis = x.axis + len(given) - len(x.shape)
    if given[axis] not in (-1, x.shape[x.axis]):
        raise HeadsError("expanded heads")
    return x.of(x.part.expand(*given[:axis], -1, *given[axis + 1 :]), axis)


def _joined(tensors: Any, dim: int = 0, *, axis: int | None = None) -> FewHeads:
    """`torch.cat`, as rotations of the halves of each head need it."""
    x = next(one for one in tensors if isinstance(one, FewHeads))
    dim = (dim if axis is None else axis) % len(x.shape)
    same = all(isinstance(one, FewHeads) and one.axis == x.axis for one in tensors)
    if dim == x.axis or not same:
        raise HeadsError("tensors that are joined along the heads")
    return x.of(torch.cat([x.narrowed(one) for one in tensors], dim), x.axis)


def _stacked(tensors: Any, dim: int = 0) -> FewHeads:
    x = next(one for one in tensors if isinstance(one, FewHeads))
    return _joined([_unsqueeze(one, dim % (len(x.shape) + 1)) for one in tensors], dim)


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
    **dict.fromkeys(("view", "reshape"), FewHeads.reshaped),
    "view_as": lambda x, like: x.reshaped(*like.shape),
    **dict.fromkeys(("transpose", "swapaxes", "swapdims"), _transpose),
    "permute": _permute,
    "size": lambda x, dim=None: x.shape if dim is None else x.shape[dim],
    "dim": lambda x: len(x.shape),
    "numel": lambda x: x.shape.numel(),
    "is_contiguous": lambda x: x.part.is_contiguous(),
    "split": _split,
    "chunk": _chunk,
    "tensor_split": lambda x, parts, dim=0: _chunk(x, parts, dim),
    "unbind": _unbind,
    "select": _without,
    "getitem": _item,
    "narrow": lambda x, dim, start, length: _item(
        x, (*(slice(None),) * (dim % len(x.shape)), slice(start, start + length))
    ),
    "unsqueeze": _unsqueeze,
    "squeeze": _squeeze,
    "flatten": _flatten,
    "unflatten": _unflatten,
    "expand": _expand,
    **dict.fromkeys(("cat", "concat"), _joined),
    "stack": _stacked,
    **dict.fromkeys(("matmul", "bmm"), _matmul),
    "rmatmul": lambda x, other: _matmul(other, x),
    "scaled_dot_product_attention": _attended,
    "linear": _mapped,
    "layer_norm": _normed("layer_norm"),
    "rms_norm": _normed("rms_norm"),
    "dropout": _dropped,
}


FewHeads.call, FewHeads.attribute = staticmethod(call), staticmethod(attribute)
