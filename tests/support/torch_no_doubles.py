"""A device that knows no float64, like MPS and XPU: tensors that say they are there, computed on the CPU."""

import contextlib
import functools

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

from thinned.torch import _block, _gaussian, _key, _operator
from thinned.torch._attention import _operator as _attention

DEVICE = torch.device("privateuseone", 0)

# The device's kernels of our operators: what the dispatcher would call there.
KERNELS = {
    torch.ops.thinned.dropout.default: _operator._dropout,
    torch.ops.thinned.gaussian_dropout.default: _gaussian._gaussian_dropout,
    torch.ops.thinned.drop_block.default: _block._drop_block,
    torch.ops.thinned.fold.default: _key._fold,
    torch.ops.thinned.attention.default: _attention._forward,
    torch.ops.thinned.attention_backward.default: _attention._backward,
}


class There(torch.Tensor):
    """A tensor of the device; `here` holds its values."""

    @staticmethod
    def __new__(cls, here):
        assert here.dtype not in (torch.float64, torch.complex128), "a float64 tensor was sent to the device"
        made = torch.Tensor._make_wrapper_subclass(
            cls, here.shape, strides=here.stride(), dtype=here.dtype, device=DEVICE
        )
        made.here = here
        return made

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        raise AssertionError("used outside its device")


def is_device(value):
    return isinstance(value, torch.device) and value.type == DEVICE.type


class Device(TorchDispatchMode):
    """The device itself, while it is open."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func in KERNELS:
            with self:
                return KERNELS[func](*args, **kwargs)
        values, _ = tree_flatten((args, kwargs))
        given = [value for value in values if isinstance(value, torch.Tensor)]
        if "device" in kwargs and kwargs["device"] is not None:
            there = is_device(kwargs["device"])
            kwargs = {**kwargs, "device": torch.device("cpu")}
        else:
            there = any(isinstance(one, There) for one in given)
            moves = func in (torch.ops.aten.copy_.default, torch.ops.aten._to_copy.default)
            strangers = [one for one in given if not isinstance(one, There) and one.dim()]
            assert moves or not there or not strangers, f"{func} of tensors here and on the device"
        args, kwargs = tree_map(lambda one: one.here if isinstance(one, There) else one, (args, kwargs))
        result = func(*args, **kwargs)
        if not there:
            return result
        return tree_map(lambda one: There(one) if isinstance(one, torch.Tensor) else one, result)


@functools.cache
def _known_to_torch():
    from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

    _setup_privateuseone_for_python_backend()


@contextlib.contextmanager
def device():
    """A function that moves tensors to the device, and one that moves them back."""
    _known_to_torch()
    with Device():
        yield There, lambda tensor: tensor.here
