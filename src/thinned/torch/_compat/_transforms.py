"""torch keeps these names about calls to itself: dispatch, modes and transforms of torch.func."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.autograd import forward_ad

from thinned.torch._compat._room import private

# What is at work around a call: only a call without any of these may go the short way.
transforms_active = private(
    "torch._C._are_functorch_transforms_active", "see whether torch.func transforms the call"
)
dispatch_modes = private("torch._C._len_torch_dispatch_stack", "see whether a dispatch mode is on")
function_modes = private("torch._C._len_torch_function_stack", "see whether a function mode is on")
tracing_state = private("torch._C._get_tracing_state", "see whether torch.jit traces the call")
set_tracing_state = private(
    "torch._C._set_tracing_state", "read a shape while torch.jit traces the call", lambda _: None
)

# The dispatcher's layers, in which the operators' derivatives and their rule for vmap are registered.
below_autograd = private("torch._C._AutoDispatchBelowAutograd", "call an operator below autograd's layer")
after_autograd = private("torch._C._after_autograd_keyset", "call an operator below autograd's layer")
single_level = private(
    "torch._functorch.utils.enable_single_level_autograd_function", "differentiate one level of torch.func"
)
set_forward_grad = private(
    "torch.autograd.forward_ad._set_fwd_grad_enabled", "keep the outer levels of forward derivatives"
)
without_keys = private("torch._C._ExcludeDispatchKeyGuard", "call an operator below vmap's mode")
interpreter = private(
    "torch._functorch.pyfunctorch.retrieve_current_functorch_interpreter", "read vmap's randomness"
)
_key_set = private("torch._C.DispatchKeySet", "call an operator below vmap's mode")
_key = private("torch._C.DispatchKey", "call an operator below vmap's mode")
vmap_mode = _key_set(_key.FuncTorchVmapMode)
leaves_allowed: Callable[[bool], Any] = private(
    "torch._functorch.eager_transforms.enable_inplace_requires_grad",
    "differentiate forward within torch.func",
)
is_batched = private("torch._C._functorch.is_batchedtensor", "see which tensors vmap maps over")
level_of = private("torch._C._functorch.maybe_get_level", "see which tensors vmap maps over")
add_batch_dim = private("torch._C._functorch._add_batch_dim", "give each example of vmap its key")


def forward_derivatives() -> bool:
    """Tells whether a level of forward derivatives is open."""
    return getattr(forward_ad, "_current_level", -1) >= 0


def direct_apply(function: type[torch.autograd.Function]) -> Any:
    """`function.apply` without torch's Python wrapper, which serves torch.func alone.

    The wrapper takes 3.4 of the 11 µs of a call. Without the class beneath it, the wrapper itself.
    """
    try:
        return super(torch.autograd.Function, function).apply  # type: ignore[misc]
    except AttributeError:
        return function.apply


interpreters = private(
    "torch._C._functorch.get_interpreter_stack", "see whether vmap is on in a backward pass"
)
transform_type = private("torch._C._functorch.TransformType", "see whether vmap is on in a backward pass")


def vmap_is_on() -> bool:
    """Tells whether one of the open transforms of torch.func is vmap."""
    return any(one.key() == transform_type.Vmap for one in interpreters() or ())


function_mode_stack = private(
    "torch.overrides._get_current_function_mode_stack", "see whether thinned.mc is at work", list
)
