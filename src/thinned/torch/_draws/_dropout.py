"""Dropout functions of torch, of exported programs and of ours are handled here."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from thinned.torch import _compat, _fixed, _key, _rate, flex, functional
from thinned.torch._draws._mode import Draws, Handler, given
from thinned.torch.nn._part_keys import call_key, is_off

_aten = torch.ops.aten
_thinned = torch.ops.thinned
_LAYERS = _compat.DROPOUTS


def elements(input: Tensor, p: Any, key: Any) -> Tensor:
    """`F.dropout`."""
    return functional.dropout(input, p, True, key=key)


def channels(input: Tensor, p: Any, key: Any) -> Tensor:
    """`F.dropout2d` and whatever else takes (N, C, …) and drops channels."""
    noise = (None, None, *(1,) * (input.dim() - 2))
    return functional.dropout(input, p, True, key=key, noise_shape=noise)


def channels_1d(input: Tensor, p: Any, key: Any) -> Tensor:
    """`F.dropout1d`, which takes (C, L) too."""
    return channels(input if input.dim() == 3 else input.unsqueeze(0), p, key).reshape(input.shape)


def channels_3d(input: Tensor, p: Any, key: Any) -> Tensor:
    """`F.dropout3d`, which takes (C, D, H, W) too."""
    return channels(input if input.dim() == 5 else input.unsqueeze(0), p, key).reshape(input.shape)


def alpha(input: Tensor, p: Any, key: Any) -> Tensor:
    """`F.alpha_dropout`."""
    return functional.alpha_dropout(input, p, True, key=key)


def channels_alpha(input: Tensor, p: Any, key: Any) -> Tensor:
    """`F.feature_alpha_dropout`."""
    return functional.feature_alpha_dropout(input, p, True, key=key)


def _torchs(kind: str, drop: Any) -> Handler:
    """A function `(input, p, training, inplace=False)`, by whatever names."""

    def handler(draws: Draws, func: Any, args: Any, kwargs: Any) -> Any:
        input = args[0] if args else kwargs["input"]
        p = args[1] if len(args) > 1 else kwargs.get("p", 0.5)
        training = args[2] if len(args) > 2 else kwargs.get("training", kwargs.get("train", True))
        if not draws.drops(training):
            return func(*args, **kwargs)
        if is_off(p):
            return input
        result = drop(input, p, draws.site(kind, p, input.shape, _how(draws)))
        inplace = str(getattr(func, "__name__", func)).split(".")[0].endswith("_")
        if inplace or kwargs.get("inplace") or (len(args) > 3 and args[3]):
            return input.copy_(result)
        return result

    return handler


def _how(draws: Draws) -> str:
    """A dropout layer's own call, torch's or ours; else nothing, which is a call in a forward pass."""
    module = draws.inside[-1][1] if draws.inside else None
    own = type(module).__module__.startswith("thinned.") or isinstance(module, _LAYERS)
    return f"the module {type(module).__name__}" if own else ""


def _native(draws: Draws, func: Any, args: Any, kwargs: Any) -> Any:
    """`torch.native_dropout`: the result and its mask."""
    input, p = args[0], args[1] if len(args) > 1 else kwargs["p"]
    training = args[2] if len(args) > 2 else kwargs["train"]
    if not draws.drops(training is not False):
        return func(*args, **kwargs)
    if is_off(p):
        return input, torch.ones_like(input, dtype=torch.bool)
    key = draws.site("dropout", p, input.shape)
    mask = functional.dropout(torch.ones_like(input), p, True, key=key, mode="classic") != 0
    return elements(input, p, key), mask


def attention(draws: Draws, func: Any, args: Any, kwargs: Any) -> Any:
    """`scaled_dot_product_attention`, torch's or an exported program's."""
    names = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")
    values = {**dict(zip(names, args, strict=False)), **kwargs}
    p = values.get("dropout_p", 0.0)
    if is_off(p):
        return func(*args, **kwargs)
    query, key = values["query"], values["key"]
    shape = (*query.shape[:-1], key.shape[-2])
    site = draws.site("attention", p, shape, "dropout_p of scaled_dot_product_attention")
    return functional.scaled_dot_product_attention(**values, training=True, dropout_key=site)


def _ours(draws: Draws, func: Any, args: Any, kwargs: Any) -> Any:
    """A function of `thinned.torch.functional`."""
    arguments = given(func, args, kwargs)
    attends = "dropout_p" in arguments
    if "drop_prob" in arguments:
        arguments["p"] = _rate.p_of_timm(arguments.get("p"), arguments.pop("drop_prob"))
    p = arguments["dropout_p"] if attends else arguments.get("p", math.nan)
    names = ("dropout_key", "generator") if attends else ("key", "generator")
    if is_off(p) or not draws.takes(arguments["training"], arguments.get(names[0])):
        return func(*args, **kwargs)
    first = next(iter(arguments.values()))
    shape = getattr(first, "shape", ()) if isinstance(first, Tensor) else first.data.shape
    arguments["training"] = True
    arguments[names[1]] = None
    arguments[names[0]] = draws.site(func.__name__, p, shape, _how(draws))
    return func(**arguments)


def _parts(draws: Draws, func: Any, args: Any, kwargs: Any) -> Any:
    """The key of a call of a layer of ours with several parts."""
    return draws.key_of_parts(*args, **kwargs)


def _operator(draws: Draws, func: Any, args: Any, kwargs: Any) -> Any:
    """An operator of ours in an exported program, with input, key and p in front."""
    if not draws.always:  # its key may be one that was given
        return func(*args, **kwargs)
    input, _, p, *rest = args
    key = draws.site("dropout", p, input.shape, "an operator of the program")
    return func(input, _key.as_tensor(key), p, *rest, **kwargs)


# By kind: torch's functions that evaluate to their input, those of exported programs among them, and what is
# drawn in their place.
_KINDS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "dropout": (
        elements,
        (F.dropout, torch.dropout, torch.dropout_, _aten.dropout.default, _aten.dropout_.default),
    ),
    "dropout1d": (channels_1d, (F.dropout1d,)),
    "dropout2d": (channels, (F.dropout2d,)),
    "dropout3d": (channels_3d, (F.dropout3d,)),
    "feature_dropout": (
        channels,
        (
            *(torch.feature_dropout, torch.feature_dropout_),
            *(_aten.feature_dropout.default, _aten.feature_dropout_.default),
        ),
    ),
    "alpha_dropout": (
        alpha,
        (
            *(F.alpha_dropout, torch.alpha_dropout, torch.alpha_dropout_),
            *(_aten.alpha_dropout.default, _aten.alpha_dropout_.default),
        ),
    ),
    "feature_alpha_dropout": (
        channels_alpha,
        (
            *(F.feature_alpha_dropout, torch.feature_alpha_dropout, torch.feature_alpha_dropout_),
            *(_aten.feature_alpha_dropout.default, _aten.feature_alpha_dropout_.default),
        ),
    ),
}

# What is taken over, for drawing here and for weight scaling elsewhere.
DROPOUTS = tuple(func for _, functions in _KINDS.values() for func in functions)
NATIVE = (torch.native_dropout, _aten.native_dropout.default)
ATTENTION = (F.scaled_dot_product_attention, _aten.scaled_dot_product_attention.default)
OURS = (
    *(getattr(functional, name) for name in functional.__all__ if name != "keep_mask"),
    flex.flex_attention,
    _fixed.fixed_dropout,
)

HANDLERS: dict[Any, Handler] = {
    **{func: _torchs(kind, drop) for kind, (drop, functions) in _KINDS.items() for func in functions},
    **dict.fromkeys(NATIVE, _native),
    **dict.fromkeys(ATTENTION, attention),
    **dict.fromkeys(OURS, _ours),
    **dict.fromkeys((_thinned.dropout.default, _thinned.gaussian_dropout.default), _operator),
    call_key: _parts,
}
