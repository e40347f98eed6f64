"""`nn.LSTM`, `nn.GRU` and `nn.RNN` are handled here, with an operator that vmap can batch.

torch's fused kernels have no batching rule; here a mapped dimension becomes part of the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import get_proxy_mode

from thinned.torch import functional
from thinned.torch._draws._mode import Draws, Handler
from thinned.torch.nn._part_keys import is_off

_library = torch.library.Library("thinned", "FRAGMENT")
_library.define(
    "recurrent(Tensor input, Tensor[] state, Tensor[] weights, str kind, bool bias, bool bidirectional, "
    "bool batch_first) -> Tensor[]"
)


def _run(
    input: Tensor,
    state: Sequence[Tensor],
    weights: Sequence[Tensor],
    kind: str,
    bias: bool,
    bidirectional: bool,
    batch_first: bool,
) -> list[Tensor]:
    layers = len(weights) // _each(kind, weights, bias, bidirectional, state)
    states = [s.contiguous() for s in state]
    hx = states if kind == "lstm" else states[0]
    training = torch.is_grad_enabled()  # without which cuDNN has no backward pass
    rest = (list(weights), bias, layers, 0.0, training, bidirectional, batch_first)
    return list(getattr(torch, kind)(input, hx, *rest))


def _each(
    kind: str, weights: Sequence[Tensor], bias: bool, bidirectional: bool, state: Sequence[Tensor]
) -> int:
    """Counts the weights of one layer: two matrices and two biases a direction, and LSTM's projection."""
    projected = kind == "lstm" and state[0].shape[-1] != state[1].shape[-1]
    return (2 + 2 * bias + projected) * (1 + bidirectional)


def _batched(info: Any, in_dims: Any, input: Tensor, state: Any, weights: Any, *how: Any) -> Any:
    at_input, at_state, at_weights, *_ = in_dims
    size, batch = info.batch_size, 0 if how[-1] else 1
    if any(at is not None for at in at_weights):
        return _one_by_one(size, in_dims, input, state, weights, how)

    def joined(x: Tensor, at: int | None, axis: int) -> Tensor:
        x = (
            x.movedim(at, axis)
            if at is not None
            else x.unsqueeze(axis).expand(*x.shape[:axis], size, *x.shape[axis:])
        )
        return x.flatten(axis, axis + 1)

    out, *last = torch.ops.thinned.recurrent(
        joined(input, at_input, batch),
        [joined(s, at, 1) for s, at in zip(state, at_state, strict=True)],
        weights,
        *how,
    )
    parts = [out.unflatten(batch, (size, -1)), *(s.unflatten(1, (size, -1)) for s in last)]
    return parts, [batch, *(1 for _ in last)]


def _one_by_one(size: int, in_dims: Any, input: Tensor, state: Any, weights: Any, how: Any) -> Any:
    """Return where each example has weights of its own."""

    def one(x: Tensor, at: int | None, k: int) -> Tensor:
        return x if at is None else x.select(at, k)

    results = [
        torch.ops.thinned.recurrent(
            one(input, in_dims[0], k),
            [one(s, at, k) for s, at in zip(state, in_dims[1], strict=True)],
            [one(w, at, k) for w, at in zip(weights, in_dims[2], strict=True)],
            *how,
        )
        for k in range(size)
    ]
    parts = [torch.stack(found) for found in zip(*results, strict=True)]
    return parts, [0] * len(parts)


_library.impl("recurrent", _run, "CompositeExplicitAutograd")
torch.library.register_vmap("thinned::recurrent", _batched, lib=_library)


def _handler(draws: Draws, func: Any, args: Any, kwargs: Any) -> Any:
    kind = str(getattr(func, "__name__", func)).split(".")[0]
    is_packed = isinstance(args[2], (list, tuple)) and isinstance(args[3], (list, tuple))
    is_packed = is_packed or (isinstance(args[1], Tensor) and isinstance(args[2], Tensor))
    if is_packed:
        data, sizes, hx, weights, bias, layers, p, training, bidirectional = args
        batch_first = False
    else:
        data, hx, weights, bias, layers, p, training, bidirectional, batch_first = args
        sizes = None
    nothing = layers == 1 or is_off(p)
    if not draws.drops(training) or (nothing and get_proxy_mode() is None):
        return func(*args, **kwargs)
    state = list(hx) if isinstance(hx, (list, tuple)) else [hx]
    run = (
        _packed(func, sizes, kind, bias, bidirectional)
        if is_packed
        else _whole(kind, bias, bidirectional, batch_first)
    )
    if nothing:
        out, *last = run(data, state, list(weights))
        return out, *last
    return _by_layer(draws, kind, run, data, state, list(weights), layers, p, 1 + bidirectional)


def _by_layer(
    draws: Draws,
    kind: str,
    run: Any,
    data: Tensor,
    state: list[Tensor],
    weights: list[Tensor],
    layers: int,
    p: float,
    directions: int,
) -> Any:
    each = len(weights) // layers
    last = []
    for k in range(layers):
        if k:
            how = f"the number dropout, behind layer {k - 1}"
            data = functional.dropout(data, p, True, key=draws.site(kind, p, data.shape, how))
        first = [s[k * directions : (k + 1) * directions] for s in state]
        data, *after = run(data, first, weights[k * each : (k + 1) * each])
        last.append(after)
    return data, *(torch.cat(parts) for parts in zip(*last, strict=True))


def _whole(kind: str, bias: bool, bidirectional: bool, batch_first: bool) -> Any:
    # Outside a trace torch's own function, which has a gradient.
    fused = _run if get_proxy_mode() is None else torch.ops.thinned.recurrent

    def run(data: Tensor, state: list[Tensor], weights: list[Tensor]) -> Any:
        return fused(data, state, weights, kind, bias, bidirectional, batch_first)

    return run


def _packed(func: Any, sizes: Tensor, kind: str, bias: bool, bidirectional: bool) -> Any:
    def run(data: Tensor, state: list[Tensor], weights: list[Tensor]) -> Any:
        hx = state if kind == "lstm" else state[0]
        layers = len(weights) // _each(kind, weights, bias, bidirectional, state)
        training = torch.is_grad_enabled()
        return func(data, sizes, hx, weights, bias, layers, 0.0, training, bidirectional)

    return run


_aten = torch.ops.aten

HANDLERS: dict[Any, Handler] = dict.fromkeys(
    (
        *(torch.lstm, torch.gru, torch.rnn_tanh, torch.rnn_relu),
        *(_aten.lstm.input, _aten.gru.input, _aten.rnn_tanh.input, _aten.rnn_relu.input),
        *(_aten.lstm.data, _aten.gru.data, _aten.rnn_tanh.data, _aten.rnn_relu.data),
    ),
    _handler,
)
