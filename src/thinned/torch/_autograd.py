"""Operators that are diagonal, linear or affine in their first argument get derivatives and batching here.

Dropout multiplies each element by a number that its key gives: the gradient is the same operator on the
gradient, with nothing saved but the small tensors it was called with.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from thinned.torch import _compat, _inductor, _key, _mesh, _operands


def self_adjoint(
    library: torch.library.Library,
    name: str,
    run: Callable[..., Tensor],
    over_batch: Callable[..., tuple[Tensor, int]],
    derivative: Callable[[Sequence[Any]], Sequence[Any]] = tuple,
) -> None:
    """Make an operator `name(Tensor input, Tensor key, Tensor p, …)` of what runs it, alone and in vmap.

    Its derivative is the operator itself, with the constants after p that `derivative` makes of its own.
    """
    whole = f"{library.ns}::{name}"

    def checked(input: Tensor, key: Tensor, p: Tensor, *rest: Any, **named: Any) -> Tensor:
        _operands.check(whole, input, key, p)
        return run(input, key, p, *rest, **named)

    def fake(input: Tensor, key: Tensor, p: Tensor, *_: Any, **__: Any) -> Tensor:
        _inductor.tell()
        _operands.check(whole, input, key, p)
        return torch.empty_like(input)

    library.impl(name, checked, "CompositeExplicitAutograd")
    torch.library.register_fake(whole, fake, lib=library)
    torch.library.register_vmap(whole, over_batch, lib=library)
    _key.vmap_with_keys(library, name)
    _differentiate(library, name, derivative)


def _differentiate(
    library: torch.library.Library, name: str, derivative: Callable[[Sequence[Any]], Sequence[Any]]
) -> None:
    """Derivatives in both modes.

    torch's `register_autograd` refuses torch.func, since the Function that it generates has no
    `setup_context`. Here a Function is applied inside the dispatcher's autograd layer, where one level of
    grad, jvp or vmap is already taken off, as those of torch's own operators are.
    """
    operator = getattr(getattr(torch.ops, library.ns), name).default

    class Diagonal(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, layer: tuple[Any, bool], input: Tensor, *rest: Any) -> Tensor:
            key, p, *ctx.constants = rest
            ctx.save_for_backward(key, p)
            ctx.save_for_forward(key, p)
            keys, recording = layer
            with (
                torch.set_grad_enabled(recording),  # for the levels outside this one
                _compat.set_forward_grad(True),
                _compat.below_autograd(),
            ):
                result: Tensor = operator.redispatch(
                    keys & _compat.after_autograd, input, key, p, *ctx.constants
                )
            return result

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
            again = operator(grad, *ctx.saved_tensors, *derivative(ctx.constants))
            return None, again, None, None, *(None for _ in ctx.constants)

        @staticmethod
        def jvp(ctx: Any, _layer: None, tangent: Tensor, *_rest: None) -> Tensor:
            result: Tensor = operator(tangent, *ctx.saved_tensors, *derivative(ctx.constants))
            return result

    apply = _compat.direct_apply(Diagonal)

    def differentiable(keys: Any, input: Tensor, *rest: Any) -> Tensor:
        _mesh.register(input)
        watched = _compat.forward_derivatives() or _compat.transforms_active()
        if not watched and not (input.requires_grad and torch.is_grad_enabled()):
            with _compat.below_autograd():  # as compiled code comes: 13 µs of 30
                below: Tensor = operator.redispatch(keys & _compat.after_autograd, input, *rest)
            return below
        with _compat.single_level():
            result: Tensor = apply((keys, torch.is_grad_enabled()), input, *rest)
        return result

    library.impl(name, differentiable, "Autograd", with_keyset=True)
