"""The calls of a model's stochastic layers are replaced here for a while, so that they draw by our keys."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import keras

from thinned.keras import DropConnect, _compat
from thinned.keras._added_layer import Own
from thinned.keras._cells import Cell
from thinned.keras._scores import Scored
from thinned.mc.keras._draws import Draws

_MISSING: Any = object()
_OWN = ("keras", "thinned")


@contextmanager
def patched(model: Any, draws: Draws) -> Iterator[None]:
    """Every stochastic layer of the model draws by `draws`, whatever `training` says.

    Instances and Keras's `random.dropout` are put back at the end, whatever happens.
    """
    names: dict[int, str] = {}

    def random_dropout(inputs: Any, rate: Any, noise_shape: Any = None, seed: Any = None) -> Any:
        return draws.dropout(names.get(id(seed), "keras.random.dropout"), inputs, rate, noise_shape)

    with ExitStack() as stack:
        stack.enter_context(_held(vars(_compat.backend.random), {"dropout": random_dropout}))
        for layer in layers(model):
            names[id(getattr(layer, "seed_generator", None))] = layer.name
            stack.enter_context(_held(vars(layer), _replacements(layer, draws)))
        yield


@contextmanager
def watched(model: Any) -> Iterator[list[int]]:
    """The bytes of what each innermost layer gives, in a list that grows."""
    seen: list[int] = []

    def watch(call: Callable[..., Any]) -> Callable[..., Any]:
        def watching(*args: Any, **kwargs: Any) -> Any:
            out = call(*args, **kwargs)
            seen.extend(size(x) for x in keras.tree.flatten(out) if keras.ops.is_tensor(x))
            return out

        return watching

    with ExitStack() as stack:
        for layer in layers(model):
            if len(layers(layer)) == 1:
                stack.enter_context(_held(vars(layer), {"call": watch(layer.call)}))
        yield seen


def size(tensor: Any) -> int:
    """Its bytes."""
    bits = re.search(r"\d+", keras.backend.standardize_dtype(tensor.dtype))
    width = int(bits[0]) // 8 if bits else 1
    return width * math.prod(int(n) for n in tensor.shape)


def layers(model: Any) -> list[Any]:
    """The model's layers, and theirs."""
    return list(_compat.layers_of(model)())


def stochastic(layer: Any) -> bool:
    """Tells whether the layer itself is one that is taken over."""
    return bool(_replacements(layer, Draws()))


@contextmanager
def _held(attributes: dict[str, Any], changed: dict[str, Any]) -> Iterator[None]:
    """Attributes of an instance or module replaced, and put back."""
    before = {name: attributes.get(name, _MISSING) for name in changed}
    attributes.update({name: value for name, value in changed.items() if value is not _MISSING})
    try:
        yield
    finally:
        for name, value in before.items():
            if value is _MISSING:
                attributes.pop(name, None)
            else:
                attributes[name] = value


def _replacements(layer: Any, draws: Draws) -> dict[str, Any]:
    """Attributes of the instance under which it draws; none where it does not."""
    if isinstance(layer, (DropConnect, Own)) and layer.rate_now():
        kind, key, rate = type(layer).__name__, draws.single, layer.rate_now()
        return {"call": _training(layer.call), "mask_key": lambda: key(layer.name, kind, rate)}
    if isinstance(layer, _compat.DropoutRNNCell) and (layer.dropout or layer.recurrent_dropout):
        return _cell(layer, draws)
    if isinstance(layer, keras.layers.RNN) and any(map(_drops, _cells(layer.cell))):
        return {"call": _training(layer.call)}
    if isinstance(layer, Scored) and layer.dropout:
        drop, name = draws.dropout, layer.name
        return {
            "call": _training(layer.call),
            "drop_probabilities": lambda weights: drop(name, weights, layer.dropout, None),
        }
    if isinstance(layer, keras.layers.Attention) and layer.dropout:
        return {"call": _training(layer.call)}
    drawn = _elementwise(layer, draws)
    if drawn is None:
        return {}
    # A subclass's own call may do more: it runs, in training, and what it draws is taken over.
    custom = type(layer).call.__module__.partition(".")[0] not in _OWN
    return {"call": _training(layer.call) if custom else drawn}


def _training(call: Callable[..., Any]) -> Callable[..., Any]:
    def train(*args: Any, **kwargs: Any) -> Any:
        return call(*args, **{**kwargs, "training": True})

    return train


def _elementwise(layer: Any, draws: Draws) -> Callable[..., Any] | None:
    """Gives what a layer without variables does, by the kind that it is."""
    name = layer.name
    if isinstance(layer, keras.layers.GaussianNoise) and layer.stddev:
        return lambda inputs, **_: draws.noise(name, inputs, layer.stddev)
    if not getattr(layer, "rate", 0):
        return None
    if isinstance(layer, keras.layers.GaussianDropout):
        return lambda inputs, **_: draws.gaussian(name, inputs, layer.rate)
    if isinstance(layer, keras.layers.AlphaDropout):
        return lambda inputs, **_: draws.alpha(name, inputs, layer.rate, layer.noise_shape)
    if not isinstance(layer, keras.layers.Dropout):
        return None
    of_channels = _compat.noise_shape_of(layer)

    def drop(inputs: Any, **_: Any) -> Any:
        noise = layer.noise_shape if of_channels is None else of_channels(inputs)
        return draws.dropout(name, inputs, layer.rate, noise)

    return drop


def _cells(cell: Any) -> list[Any]:
    return list(getattr(cell, "cells", [cell]))


def _drops(cell: Any) -> bool:
    return isinstance(cell, _compat.DropoutRNNCell) and bool(cell.dropout or cell.recurrent_dropout)


def _cell(cell: Any, draws: Draws) -> dict[str, Any]:
    """Masks of inputs and states; those that the cell keeps for a sequence are forgotten at the end."""
    ours = isinstance(cell, Cell)
    name = cell.mask_name if ours else cell.name
    make = draws.exact_mask if ours else draws.mask

    def create(step_input: Any, rate: float) -> Any:
        if ours and not cell.draws:
            return None
        count = getattr(cell, "dropout_mask_count", None)
        masks = [make(name, step_input, rate) for _ in range(count or 1)]
        return masks[0] if count is None else masks

    held = dict.fromkeys(("_dropout_mask", "_recurrent_dropout_mask"))
    return {
        **held,
        "draws": vars(cell).get("draws", _MISSING),
        "_create_dropout_mask": create,
        "drop_sequences": lambda x: draws.dropout(name, x, cell.dropout, (None, 1, None)),
    }
