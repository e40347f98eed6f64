"""Mixout puts a parameter's elements back to their values before fine-tuning."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from thinned.torch import functional
from thinned.torch._site import MaskKey, Probability, Site, check_p
from thinned.torch.nn._connect import Layer, register


class Mixout(Site):
    """Put the pretrained value in place of a weight's with probability p: a parametrization.

    `mixout(layer)` registers it, with the parameter as it is now for the target.

    Args:
        target: the value before fine-tuning, of the parameter's shape.
        p: probability in [0, 1], a tensor that fits the parameter, or a schedule.

    Raises:
        TypeError: `p must be a real number, got …`.
        ValueError: `p must be in [0, 1], got …`; in a call, `target must be of input's shape, got …`.

    Source:
        Cheolhyoung Lee, Kyunghyun Cho and Wanmo Kang, "Mixout", ICLR 2020.

    Example:
        >>> import torch
        >>> Mixout(torch.zeros(3), 1.0)(torch.ones(3))
        tensor([0., 0., 0.])
    """

    _shown = ("p",)

    _by_call = False

    def __init__(self, target: Tensor, p: Probability = 0.5) -> None:
        super().__init__()
        self.p = check_p(p)
        self.target: Any
        self.register_buffer("target", target.detach().clone())

    def forward(self, input: Tensor, *, key: MaskKey = None, call: int | None = None) -> Tensor:
        """The parameter of one reading, by `key` if given; `call` tells calls of one step apart."""
        return functional.mixout(
            input, self.target, self.rate(self.p), self.training, key=self.mask_key(call, input, key)
        )

    def right_inverse(self, input: Tensor) -> Tensor:
        """Returns the value that is assigned to the parameter, which is the trained one."""
        return input


def mixout(module: Layer, name: str = "weight", p: Probability = 0.5) -> Layer:
    """Mix a parameter in training with its value of now: register `Mixout` on it.

    Args:
        module: any layer that reads the parameter in its forward pass.
        name: of the parameter.
        p: probability in [0, 1], a tensor that fits the parameter, or a schedule.

    Returns:
        The module itself. `torch.nn.utils.parametrize.remove_parametrizations` in evaluation takes it away.

    Raises:
        TypeError: `p must be a real number, got …`.
        ValueError: `p must be in [0, 1], got …`; `module has no parameter …`.

    Source:
        Cheolhyoung Lee, Kyunghyun Cho and Wanmo Kang, "Mixout", ICLR 2020.

    Example:
        >>> import torch
        >>> layer = mixout(torch.nn.Linear(4, 3), p=0.9)
        >>> torch.equal(layer.weight, layer.eval().weight)
        True
    """
    return register(module, name, lambda weight: Mixout(weight, p))
