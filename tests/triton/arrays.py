"""Tensors as NumPy arrays of the same bits, and a launch of the dropout kernel on them."""

import ml_dtypes
import numpy as np
import torch

import thinned
from thinned import Key
from thinned._position import positions
from thinned.torch import _key
from thinned.torch._triton import _launch

DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]


def array(tensor):
    if tensor.dtype == torch.bfloat16:
        return tensor.detach().view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return tensor.detach().numpy()


def numbers(shape, dtype=torch.float32, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def rate(p):
    return torch.as_tensor(p, dtype=torch.float64)


def launch(x, p, key, out=None, mode="inverted", **where):
    """As the operator calls it."""
    key = _key.key_to_tensor(key) if isinstance(key, Key) else key
    shapes = [where.get(name) for name in ("noise_shape", "global_shape", "start", "step")]
    base, strides = positions(tuple(x.shape[key.dim() - 1 :]), *shapes)
    p = p if isinstance(p, torch.Tensor) else rate(p)
    out = torch.empty_like(x) if out is None else out
    return _launch.dropout(x, out, key, p, mode == "inverted", base, strides)


def reference(x, p, key, **where):
    return thinned.dropout(np.ascontiguousarray(array(x)), p, key=key, training=True, **where)


def reference_from(base, x, p, key):
    """Of elements whose positions follow one another from `base` on."""
    flat = reference(x.reshape(-1), p, key, global_shape=(base + x.numel(),), start=(base,))
    return flat.reshape(x.shape)
