"""Functions that draw without a rule of ours get torch's numbers from a generator that the key seeds."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.fx.experimental.proxy_tensor import get_proxy_mode

from thinned.contract import Key
from thinned.torch import _compat, _key
from thinned.torch._draws._mode import Draws, Handler


def seeded(draws: Draws, func: Any, args: Any, kwargs: Any) -> Any:
    """Its numbers are a function of the key, on one device, for one version of torch."""
    tensors = [one for one in _compat.pytree.tree_leaves((args, kwargs)) if isinstance(one, Tensor)]
    shape = tensors[0].shape if tensors else ()
    name = str(getattr(func, "__name__", func)).rstrip("_")
    key = draws.site(name, math.nan, shape)
    if type(key) is not Key and (type(key) is not Tensor or get_proxy_mode() is not None):
        raise NotImplementedError(f"torch's {name} draws from a generator, which a trace cannot seed")
    options = {name: value for name, value in kwargs.items() if name != "generator"}
    devices = _on_gpus([*(one.device for one in tensors), kwargs.get("device") or "cpu"])
    seed = _key.as_words(key)[1]
    with torch.random.fork_rng(devices):
        torch.default_generator.manual_seed(seed)
        for device in devices:
            torch.cuda.default_generators[device].manual_seed(seed)
        return func(*args, **options)


def _on_gpus(devices: list[Any]) -> list[int]:
    """The numbers of the GPUs among them, whose generators are others than the CPU's."""
    gpus = [device for device in map(torch.device, devices) if device.type == "cuda"]
    return list({torch.cuda.current_device() if one.index is None else one.index for one in gpus})


def _while_training(draws: Draws, func: Any, args: Any, kwargs: Any) -> Any:
    """`rrelu(input, lower, upper, training=False)`, which has a rule for evaluation."""
    training = args[3] if len(args) > 3 else kwargs.get("training", False)
    return seeded(draws, func, args, kwargs) if draws.drops(training) else func(*args, **kwargs)


_Tensor = torch.Tensor

HANDLERS: dict[Any, Handler] = {
    **dict.fromkeys(
        (
            *(torch.multinomial, torch.normal, torch.poisson, torch.binomial, _compat.standard_gamma),
            *(_compat.sample_dirichlet, torch.randint, torch.randint_like, torch.randperm),
            *(_Tensor.multinomial, _Tensor.exponential_, _Tensor.geometric_, _Tensor.cauchy_),
            *(_Tensor.log_normal_, _Tensor.random_),
            *(F.gumbel_softmax, F.fractional_max_pool2d_with_indices, F.fractional_max_pool3d_with_indices),
        ),
        seeded,
    ),
    **dict.fromkeys((F.rrelu, torch.rrelu, torch.rrelu_), _while_training),
}
