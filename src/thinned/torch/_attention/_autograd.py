"""An operator of several tensors gets its derivatives here: the first by an operator, others by a formula."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from thinned.torch import _compat

Results = tuple[Any, ...]
_vjp: Any = torch.func.vjp


def differentiable(
    library: torch.library.Library,
    name: str,
    tensors: int,
    beside: int,
    backward: Callable[..., Results] | None,
    formula: Callable[..., Results],
) -> None:
    """Register derivatives in the dispatcher's autograd layer, for the reason that `_autograd.py` gives.

    Args:
        library: where the operator is defined.
        name: the operator's.
        tensors: how many of its arguments are tensors, the first ones.
        beside: how many of its results have no gradient, the last ones; they are saved with the others.
        backward: of a context, with `saved_tensors` (arguments, then results), `constants` and `needs`, and
            the results' gradients, the gradients of the tensors; without one, they are the formula's.
        formula: of the same arguments the results that have a gradient, by operators that have derivatives.
    """
    operator = getattr(getattr(torch.ops, library.ns), name).default

    class Several(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, layer: tuple[Any, bool], *args: Any) -> Any:
            keys, recording = layer
            with (
                torch.set_grad_enabled(recording),  # for the levels outside this one
                _compat.set_forward_grad(True),
                _compat.below_autograd(),
            ):
                results = operator.redispatch(keys & _compat.after_autograd, *args)
            ctx.constants = args[tensors:]
            ctx.needs = ctx.needs_input_grad[1 : tensors + 1]
            ctx.save_for_backward(*args[:tensors], *(results if backward is not None else ()))
            ctx.save_for_forward(*args[:tensors])
            if beside:
                ctx.mark_non_differentiable(*results[-beside:])
            return tuple(results)

        @staticmethod
        def backward(ctx: Any, *grads: Any) -> Results:
            found = backward(ctx, *grads) if backward is not None else _by_formula(ctx, grads)
            return None, *found, *(None for _ in ctx.constants)

        @staticmethod
        def jvp(ctx: Any, _layer: None, *tangents: Any) -> Results:
            watched = [at for at in range(tensors) if isinstance(tangents[at], Tensor)]
            run, primals = _of(formula, ctx.saved_tensors, ctx.constants, watched)
            found = _forward(run, primals, tuple(tangents[at] for at in watched))
            return (*found, *(None for _ in range(beside)))

    def _by_formula(ctx: Any, grads: Any) -> Results:
        watched = [at for at, needed in enumerate(ctx.needs) if needed]
        run, primals = _of(formula, ctx.saved_tensors, ctx.constants, watched)
        results, vjp = _vjp(run, *primals)
        found = dict(zip(watched, vjp(tuple(grads[: len(results)])), strict=True))
        return tuple(found.get(at) for at in range(tensors))

    apply = _compat.direct_apply(Several)

    def call(keys: Any, *args: Any) -> Any:
        watched = _compat.forward_derivatives() or _compat.transforms_active()
        wanted = any(isinstance(each, Tensor) and each.requires_grad for each in args[:tensors])
        if not watched and not (wanted and torch.is_grad_enabled()):
            with _compat.below_autograd():
                return operator.redispatch(keys & _compat.after_autograd, *args)
        with _compat.single_level():
            return apply((keys, torch.is_grad_enabled()), *args)

    library.impl(name, call, "Autograd", with_keyset=True)


def _forward(run: Callable[..., Results], primals: Any, tangents: Any) -> Results:
    """The forward derivative: the gradient of the gradient, which is linear.

    torch does not nest forward derivatives, and in the rule of one opens no new level of `torch.func`.
    """
    with torch.enable_grad(), _compat.leaves_allowed(True), _compat.set_forward_grad(True):
        # Without this level's tangents alone, and views, as to detach would detach from the outer levels too.
        bare = [forward_ad.unpack_dual(x).primal for x in primals]
        each = [x.view_as(x) if x.requires_grad else x.view_as(x).requires_grad_() for x in bare]
        results = run(*each)
        depend = [one for one in results if one.requires_grad]
        ones = [torch.zeros_like(one).requires_grad_() for one in depend]
        back = torch.autograd.grad(depend, each, ones, create_graph=True, materialize_grads=True)
        found = iter(torch.autograd.grad(back, ones, tangents, create_graph=True, materialize_grads=True))
    return tuple(next(found) if one.requires_grad else torch.zeros_like(one) for one in results)


def _of(
    formula: Callable[..., Results], tensors: Any, constants: Any, watched: list[int]
) -> tuple[Callable[..., Results], tuple[Tensor, ...]]:
    """The formula as a function of some of its tensors, and these."""

    def run(*some: Tensor) -> Results:
        args = list(tensors)
        for at, one in zip(watched, some, strict=True):
            args[at] = one
        return formula(*args, *constants)

    return run, tuple(tensors[at] for at in watched)
