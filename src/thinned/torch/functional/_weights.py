"""These functions change weights: DropConnect drops them, mixout puts earlier ones back."""

from __future__ import annotations

import math
from typing import Any, Unpack, overload

import torch
from torch import Tensor
from torch.nn.functional import linear

from thinned._arguments import DROP_ALL, REQUIRED, check_training
from thinned.contract import Key
from thinned.torch import _autocast, _key, _mesh, _native, _operands, _operator, _rate
from thinned.torch._overrides import overridable
from thinned.torch._placement import Place, Source, Where, as_lists
from thinned.torch.functional._dropout import dropout
from thinned.torch.functional._signatures import Rate


@overload
def drop_connect_linear(
    input: Tensor, weight: Tensor, bias: Tensor | None, p: Rate, training: bool, **source: Unpack[Source]
) -> Tensor: ...
@overload
def drop_connect_linear(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    p: Rate = 0.5,
    *,
    training: bool,
    **source: Unpack[Source],
) -> Tensor: ...
@overridable
def drop_connect_linear(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    p: float | Tensor = 0.5,
    training: bool = REQUIRED,
    *,
    key: Key | Tensor | None = None,
    generator: torch.Generator | None = None,
    **place: Unpack[Place],
) -> Tensor:
    """`torch.nn.functional.linear` where each sample has weights of its own, dropped by a mask of its own.

    The weights of all samples, N × out_features × in_features numbers, exist while the forward pass
    multiplies by them, and again, twice, during the backward pass; none of them is kept in between. One mask
    for the whole batch is far cheaper: `thinned.torch.nn.DropConnect`. The bias is not dropped.

    Args:
        input: (N, …, in_features), or (in_features) for one sample; float32, float64, float16 or bfloat16.
            What lies between the first and the last dimension shares the sample's mask.
        weight: (out_features, in_features).
        bias: (out_features), or None.
        p: drop probability in [0, 1]; or a floating tensor of no dimension, or of three that fits
            (N, out_features, in_features).
        training: True drops and multiplies what is kept by 1/(1−p), False evaluates with all weights.
            Required: a function cannot see `model.eval()`.
        key: the mask's key, or an int64 tensor of its seed and stream. The mask is that of shape
            (N, out_features, in_features).
        generator: where a key is drawn from without one; torch's default CPU generator if not given.
        **place: `global_shape`, `start` and `step` as in `dropout`, of the mask.

    Returns:
        (N, …, out_features), computed in float32 (float64 for float64) and rounded once to input's dtype,
        or to autocast's.

    Raises:
        TypeError: `training is missing: …`; `input must be float32, …, got …`.
        ValueError: `p must be in [0, 1], got …`; `weight of shape … does not fit input of shape …`.

    Source:
        Wan, Zeiler, Zhang, Le Cun and Fergus, "Regularization of Neural Networks using DropConnect",
        ICML 2013. It evaluates by moments of the sum's distribution; this, as is usual, by its mean.

    Example:
        >>> import torch, thinned
        >>> x, weight = torch.ones(2, 4), torch.ones(3, 4)
        >>> drop_connect_linear(x, weight, None, 0.5, training=True, key=thinned.Key(0))
        tensor([[6., 8., 4.],
                [4., 2., 0.]])
    """
    training = check_training(training)
    _native.check_dtype(input, training)
    if weight.dim() != 2 or not input.dim() or input.size(-1) != weight.shape[1]:
        raise ValueError(
            f"weight of shape {tuple(weight.shape)} does not fit input of shape {tuple(input.shape)}: "
            "it is (out_features, in_features), and input's last dimension is in_features"
        )
    n = input.size(0) if input.dim() > 1 else 1
    drop = _rate.threshold(p, weight.expand(n, *weight.shape))
    key = _key.check_source(key, generator)
    where = as_lists(place, (n, *weight.shape))
    if training and drop == DROP_ALL:  # the bias, and zero gradients, whatever the inputs hold
        input, weight = dropout(input, 1.0, True), dropout(weight, 1.0, True)
    if not training or drop in (0, DROP_ALL):
        return linear(input, weight, bias)
    _operands.one_device("input", input, weight=weight, bias=bias)
    _mesh.check_source(input, key, generator)
    bits, rate = _key.as_tensor(key, generator), _rate.as_tensor(p, drop)
    wide = torch.promote_types(input.dtype, torch.float32)
    rows = input.to(wide).reshape(n, math.prod(input.shape[1:-1]), input.shape[-1])
    apply: Any = (_Each if torch.compiler.is_compiling() else _EachBothModes).apply
    to = _autocast.result_type(input)
    with _autocast.off(input):
        result = apply(rows, weight.to(wide), bits, rate, where)
    if bias is not None:
        result = result + bias.to(wide)
    shaped: Tensor = result.to(to).reshape(*input.shape[:-1], weight.shape[0])
    return shaped


class _Each(torch.autograd.Function):
    """(N, T, in) by weights (out, in) that each of N samples drops by itself, masks recomputed backward."""

    generate_vmap_rule = True

    @staticmethod
    def forward(input: Tensor, weight: Tensor, key: Tensor, p: Tensor, where: Where) -> Tensor:
        return input @ _dropped(weight, input.shape[0], key, p, (True, None, *where)).mT

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        *tensors, where = inputs
        ctx.rest = (True, None, *where)
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        input, weight, key, p = ctx.saved_tensors
        of_input = of_weight = None
        if ctx.needs_input_grad[0]:
            of_input = grad @ _dropped(weight, grad.shape[0], key, p, ctx.rest)
        if ctx.needs_input_grad[1]:
            of_weight = _operator.dropout(grad.mT @ input, key, p, *ctx.rest).sum(0)
        return of_input, of_weight, None, None, None


class _EachBothModes(_Each):
    """Has forward derivatives too, which the compiler refuses to trace even if they are not used."""

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _Each.setup_context(ctx, inputs, output)
        ctx.save_for_forward(*inputs[:-1])

    @staticmethod
    def jvp(ctx: Any, input_t: Tensor, weight_t: Tensor, *_: None) -> Tensor:
        input, weight, key, p = ctx.saved_tensors
        n = input.shape[0]
        of_input: Tensor = input_t @ _dropped(weight, n, key, p, ctx.rest).mT
        of_weight: Tensor = input @ _dropped(weight_t, n, key, p, ctx.rest).mT
        return of_input + of_weight


def _dropped(weight: Tensor, n: int, key: Tensor, p: Tensor, rest: tuple[Any, ...]) -> Tensor:
    return _operator.dropout(weight.expand(n, *weight.shape), key, p, *rest)


@overridable
def mixout(
    input: Tensor,
    target: Tensor,
    p: float | Tensor,
    training: bool = REQUIRED,
    *,
    key: Key | Tensor | None = None,
    generator: torch.Generator | None = None,
    **place: Unpack[Place],
) -> Tensor:
    """Put the target's value in place of an element with probability p: dropout of the difference to it.

    target + dropout(input − target) is the paper's ((1 − m) w + m t − p t) / (1 − p); with target 0 it is
    dropout.

    Args:
        input: a parameter, of any shape; float32, float64, float16 or bfloat16.
        target: of its shape, the value that it had before fine-tuning.
        p: probability in [0, 1], a number or a tensor: see `dropout`.
        training: True mixes, False evaluates to input itself.
        key: of the mask. Without one, it is drawn from `generator`.
        generator: torch's default CPU generator if not given.
        **place: `global_shape`, `start` and `step` as in `dropout`.

    Returns:
        A tensor of input's shape and dtype; input itself in evaluation. At p = 1 the target.

    Raises:
        TypeError: as `dropout`.
        ValueError: `target must be of input's shape, got …`; else as `dropout`.

    Source:
        Cheolhyoung Lee, Kyunghyun Cho and Wanmo Kang, "Mixout: Effective Regularization to Finetune
        Large-scale Pretrained Language Models", ICLR 2020, definition 1.

    Example:
        >>> import torch, thinned
        >>> mixout(torch.full((5,), 3.0), torch.ones(5), 0.5, training=True, key=thinned.Key(0))
        tensor([5., 1., 5., 5., 5.])
    """
    if input.shape != target.shape or input.dtype != target.dtype:
        raise ValueError(
            f"target must be of input's shape and dtype, got {tuple(target.shape)} of {target.dtype} and "
            f"{tuple(input.shape)} of {input.dtype}"
        )
    apart = input - target
    mixed = dropout(apart, p, training, key=key, generator=generator, **place)
    return input if mixed is apart else target + mixed
