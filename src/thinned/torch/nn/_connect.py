"""DropConnect drops weights, by one mask for the batch or one for each sample."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn.utils import parametrize

from thinned.torch import _onnx, functional
from thinned.torch._site import MaskKey, Probability, Site, check_p

Layer = TypeVar("Layer", bound=torch.nn.Module)


class DropConnect(Site):
    """Drop single weights of any layer: a parametrization, with one mask for the whole batch.

    Each time that the layer reads its parameter in training, it gets a dropped one, and what is kept is
    multiplied by 1/(1−p); in evaluation it gets the parameter itself. Within
    `torch.nn.utils.parametrize.cached()` one mask serves all readings. A keyed layer that is called twice in
    one step has the same mask twice.

    In a `state_dict` the trained weight is called `parametrizations.weight.original`, as torch has it:
    load weights that were saved without DropConnect before it is registered, or after it is removed. Remove
    it by `remove_drop_connect`: torch's own `remove_parametrizations` in training leaves a dropped weight.
    A module with a parametrization can be copied, but not pickled: torch asks for its `state_dict`.

    Args:
        p: drop probability in [0, 1], a tensor of them that fits the weight, or a schedule.

    Raises:
        TypeError: `p must be a real number, got …`.
        ValueError: `p must be in [0, 1], got …`.

    Source:
        Wan, Zeiler, Zhang, Le Cun and Fergus, "Regularization of Neural Networks using DropConnect",
        ICML 2013; with one mask for a batch: Merity, Keskar and Socher, "Regularizing and Optimizing LSTM
        Language Models", ICLR 2018.

    Example:
        >>> layer = torch.nn.Conv2d(3, 8, 3)
        >>> _ = parametrize.register_parametrization(layer, "weight", DropConnect(0.5))
        >>> sorted(layer.state_dict())
        ['bias', 'parametrizations.weight.original']
    """

    _shown = ("p",)

    _by_call = False

    def __init__(self, p: Probability = 0.5) -> None:
        super().__init__()
        self.p = check_p(p)

    def forward(self, weight: Tensor, *, key: MaskKey = None, call: int | None = None) -> Tensor:
        """The weight of one reading."""
        if self.training:
            _onnx.refuse("dropped weights")
        return functional.dropout(
            weight, self.rate(self.p), self.training, key=self.mask_key(call, weight, key)
        )

    def right_inverse(self, weight: Tensor) -> Tensor:
        """Return the weight itself: what is assigned to the parameter is the trained one."""
        return weight


def drop_connect(module: Layer, name: str = "weight", p: Probability = 0.5) -> Layer:
    """Drop single weights of a layer in training: register `DropConnect` on a parameter.

    Args:
        module: any layer that reads the parameter in its forward pass; a recurrent layer of torch.nn does
            not (it keeps a list of its weights).
        name: of the parameter.
        p: drop probability in [0, 1], a tensor of them that fits the weight, or a schedule.

    Returns:
        The module itself, which draws no random number here.

    Raises:
        TypeError: `p must be a real number, got …`; `… keeps its weights in a list …`.
        ValueError: `p must be in [0, 1], got …`; `module has no parameter …`; `… drops already`.

    Source:
        Wan et al., "Regularization of Neural Networks using DropConnect", ICML 2013.

    Example:
        >>> layer = drop_connect(torch.nn.Linear(4, 3), p=0.5)
        >>> bool((layer.weight == 0).any()), bool((layer.eval().weight == 0).any())
        (True, False)
    """
    p = check_p(p)
    if _sites(module, name):
        raise ValueError(f"{name} of {type(module).__name__} drops already: remove_drop_connect it first")
    return register(module, name, lambda _: DropConnect(p))


def register(module: Layer, name: str, make: Callable[[Tensor], Site]) -> Layer:
    """Register the parametrization that is made of a parameter; the module itself."""
    if isinstance(module, torch.nn.RNNBase):
        raise TypeError(
            f"{type(module).__name__} keeps its weights in a list that a parametrization does not reach: "
            "use a recurrent layer of thinned.torch.nn, which drops weights itself"
        )
    if name not in dict(
        module.named_parameters(recurse=False, remove_duplicate=False)
    ) and not parametrize.is_parametrized(module, name):
        raise ValueError(f"module has no parameter {name!r}: {type(module).__name__}")
    # Safe, and without a trial run.
    parametrize.register_parametrization(module, name, make(getattr(module, name)), unsafe=True)
    return module


def remove_drop_connect(module: Layer, name: str = "weight") -> Layer:
    """Take DropConnect away: the layer has its trained parameter again, the very same.

    Args:
        module: a layer that `drop_connect`, or `register_parametrization` with a DropConnect, was called on.
        name: of the parameter.

    Returns:
        The module itself. Other parametrizations of the parameter stay.

    Raises:
        ValueError: `… has no DropConnect on …`.

    Example:
        >>> layer = torch.nn.Linear(4, 3)
        >>> weight = layer.weight
        >>> remove_drop_connect(drop_connect(layer, p=0.5)).weight is weight
        True
    """
    found = _sites(module, name)
    if not found:
        raise ValueError(f"{type(module).__name__} has no DropConnect on {name!r}")
    chain: Any = module.parametrizations[name]  # type: ignore[index]
    if len(found) == len(chain):
        parametrize.remove_parametrizations(module, name, leave_parametrized=False)
        return module
    for at in reversed(found):
        del chain[at]
    return module


class DropConnectLinear(Site, torch.nn.Linear):
    """Equivalent to `torch.nn.Linear`, of which it is a subclass, with single weights dropped per sample.

    It is the layer of the paper, and costs memory: while a pass runs, each sample has its weights (see
    `functional.drop_connect_linear`). `drop_connect(torch.nn.Linear(…))` has one mask for the batch.

    Args:
        in_features: size of each input.
        out_features: size of each output.
        bias: whether there is one; it is not dropped.
        p: drop probability in [0, 1], a tensor of them that fits (N, out_features, in_features), or a
            schedule.
        device: of the parameters.
        dtype: of the parameters.

    Raises:
        TypeError: `p must be a real number, got …`.
        ValueError: `p must be in [0, 1], got …`.

    Source:
        Wan et al., "Regularization of Neural Networks using DropConnect", ICML 2013.

    Example:
        >>> DropConnectLinear(20, 10, p=0.5)
        DropConnectLinear(in_features=20, out_features=10, bias=True, p=0.5)
    """

    _shown = ("p",)

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        p: Probability = 0.5,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(in_features, out_features, bias, device, dtype)
        self.p = check_p(p)

    def forward(self, input: Tensor, *, key: MaskKey = None, call: int | None = None) -> Tensor:
        """(N, …, in_features) to (N, …, out_features); `call` tells calls of one step apart."""
        place = self.place(input, 0, (*input.shape[:1], *self.weight.shape))
        key = self.mask_key(call, input if input.requires_grad else self.weight, key)
        return functional.drop_connect_linear(
            input, self.weight, self.bias, self.rate(self.p), self.training, key=key, **place
        )


def _sites(module: torch.nn.Module, name: str) -> list[int]:
    if not parametrize.is_parametrized(module, name):
        return []
    chain: Any = module.parametrizations[name]  # type: ignore[index]
    return [at for at, each in enumerate(chain) if isinstance(each, DropConnect)]
