"""What may stand between: functions of each element, of each channel, and of a scale."""

from __future__ import annotations

import math
import operator
from typing import Any

import torch
from torch import fx
from torch.nn import functional as F

from thinned.torch._thin._graphs import Graph

_ELEMENTS = (
    *(torch.nn.Identity, torch.nn.ReLU, torch.nn.ReLU6, torch.nn.LeakyReLU, torch.nn.ELU, torch.nn.CELU),
    *(torch.nn.SELU, torch.nn.GELU, torch.nn.SiLU, torch.nn.Mish, torch.nn.Softplus, torch.nn.Tanh),
    *(torch.nn.Sigmoid, torch.nn.Hardtanh, torch.nn.Hardswish, torch.nn.Hardsigmoid, torch.nn.LogSigmoid),
    *(torch.nn.Softsign, torch.nn.Tanhshrink, torch.nn.Softshrink, torch.nn.Hardshrink, torch.nn.Threshold),
)
_FUNCTIONS = {
    *(torch.relu, torch.tanh, torch.sigmoid, torch.square, torch.relu_, torch.tanh_, torch.sigmoid_),
    *(F.relu, F.relu6, F.leaky_relu, F.elu, F.celu, F.selu, F.gelu, F.silu, F.mish, F.softplus, F.hardtanh),
    *(F.tanh, F.sigmoid, F.hardswish, F.hardsigmoid, F.logsigmoid, F.softsign, F.tanhshrink),
    *(F.softshrink, F.hardshrink, F.threshold, F.relu_, F.leaky_relu_, F.elu_),
}
_METHODS = {"relu", "tanh", "sigmoid", "square", "relu_", "tanh_", "sigmoid_", "clone", "contiguous"}
# Of two tensors, or a tensor and a number: 0 and 0 give a finite number.
_PAIRS = {operator.mul, operator.add, operator.sub, torch.mul, torch.add, torch.sub, operator.imul}
_SCALING = (torch.nn.Identity, torch.nn.ReLU, torch.nn.LeakyReLU)
_SCALING_FUNCTIONS = {torch.relu, F.relu, F.leaky_relu, "relu", "clone", "contiguous"}
# With the number of their axes.
_POOLS: dict[Any, int] = {
    getattr(torch.nn, f"{kind}{axes}d"): axes
    for kind in ("MaxPool", "AvgPool", "AdaptiveAvgPool", "AdaptiveMaxPool")
    for axes in (1, 2, 3)
}
_POOL_FUNCTIONS: dict[Any, int] = {
    getattr(F, f"{kind}{axes}d"): axes
    for kind in ("max_pool", "avg_pool", "adaptive_avg_pool")
    for axes in (1, 2, 3)
}


def is_pointwise(graph: Graph, node: fx.Node, channels: bool) -> bool:
    """Tells whether a node computes each unit of its result from those of its arguments, or each channel."""
    module = graph.calls.get(node)
    if module is not None:
        return runs(module, _ELEMENTS + (tuple(_POOLS) if channels else ()))
    if node.op == "call_method":
        return node.target in _METHODS
    if node.target in _FUNCTIONS or (channels and node.target in _POOL_FUNCTIONS):
        return True
    return node.target in _PAIRS and all(isinstance(one, fx.Node) or _is_number(one) for one in node.args)


def keeps_scale(graph: Graph, node: fx.Node, channels: bool) -> bool:
    """Tells whether f(s·x) = s·f(x), and f(0) = 0."""
    module = graph.calls.get(node)
    if module is not None:
        return runs(module, _SCALING + (tuple(_POOLS) if channels else ()))
    return node.target in _SCALING_FUNCTIONS or (channels and node.target in _POOL_FUNCTIONS)


def pools_others(graph: Graph, node: fx.Node, axes: int) -> bool:
    """Tells whether a pool has other axes than these, and so may run along the channels."""
    module = graph.calls.get(node)
    pooled = _POOL_FUNCTIONS.get(node.target) if module is None else _POOLS.get(type(module))
    return pooled not in (None, axes)


def runs(module: torch.nn.Module, kinds: tuple[Any, ...]) -> bool:
    """Tells whether a module is of one of these classes of torch.nn, and computes what that does."""
    return type(module) in kinds and "forward" not in vars(module)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)
