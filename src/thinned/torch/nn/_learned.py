"""These layers learn their rate, and have a term of the loss for it."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from thinned._concrete import check_inside, check_positive, check_samples, divergence
from thinned.torch import functional
from thinned.torch._site import MaskKey, Site

_CONVOLUTIONS = {torch.nn.Conv1d: 1, torch.nn.Conv2d: 2, torch.nn.Conv3d: 3}


class Learned(Site):
    """Noise before a linear or convolutional layer, whose rate is a parameter, p's logit.

    A convolution has one number for a channel of a sample.
    """

    def __init__(self, layer: torch.nn.Module, p: float, samples: int) -> None:
        super().__init__()
        rank = next((axes for kind, axes in _CONVOLUTIONS.items() if isinstance(layer, kind)), 0)
        if not rank and not isinstance(layer, torch.nn.Linear):
            raise TypeError(f"layer must be a Linear or Conv1d to Conv3d, got {type(layer).__name__}")
        p = check_inside(p)
        self.layer: Any = layer
        self.samples = check_samples(samples)
        weight: Any = layer.weight
        logit = math.log(p) - math.log1p(-p)
        self.p_logit = torch.nn.Parameter(weight.detach().new_full((), logit))
        self._axes = rank

    @property
    def p(self) -> Tensor:
        """The drop probability that has been learned so far, a tensor of no dimension."""
        return torch.sigmoid(self.p_logit)

    def noise_shape(self, input: Tensor) -> tuple[int | None, ...] | None:
        """Returns the noise shape of one number for each channel of a convolution."""
        return (None,) * (input.dim() - self._axes) + (1,) * self._axes if self._axes else None

    def extra_repr(self) -> str:
        """The rate now."""
        return f"p={self.p.item():.4g}, samples={self.samples}"


def regularization(model: torch.nn.Module) -> Tensor:
    """The sum of the `regularization()` of all layers of a model that have one: add it to a mean loss.

    Args:
        model: with `ConcreteDropout`, `VariationalDropout` or `SparseVariationalLinear` in it.

    Returns:
        A tensor of no dimension: the divergence from the prior, for one sample of the training set.

    Raises:
        ValueError: `model has no layer with a regularization()`.

    Example:
        >>> import torch, thinned
        >>> layers = [thinned.torch.nn.ConcreteDropout(torch.nn.Linear(4, 4), samples=100) for _ in range(2)]
        >>> regularization(torch.nn.Sequential(*layers)).shape
        torch.Size([])
    """
    # Asked of the class: a wrapper, such as torch.compile's, hands on what its inner module has.
    terms = [
        module.regularization()  # type: ignore[operator]
        for module in model.modules()
        if callable(getattr(type(module), "regularization", None))
    ]
    if not terms:
        raise ValueError("model has no layer with a regularization(): none of its rates is learned")
    return torch.stack(terms).sum()


def at_least_float32(parameter: Tensor) -> Tensor:
    """A divergence is a sum over a layer, which leaves float16's range."""
    return parameter.to(torch.promote_types(parameter.dtype, torch.float32))


class Standout(Site):
    """Drop a unit with probability 1 − σ(α s + β), where s is its pre-activation: strong units stand out.

    Args:
        activation: f, a module or function; training gives m · f(s), evaluation
            σ(α s + β) · f(s).
        alpha: α, a number.
        beta: β, a number: the higher, the more is kept.

    Raises:
        TypeError: `activation must be callable, got …`.

    Source:
        Ba and Frey, "Adaptive dropout for training deep neural networks", NeurIPS 2013; the belief network
        has the layer's own weights, as their section 3.3 has it. `forward(s, belief)` takes another's.

    Example:
        >>> layer = torch.nn.Sequential(torch.nn.Linear(4, 8), Standout(torch.nn.ReLU()))
        >>> layer(torch.ones(2, 4)).shape
        torch.Size([2, 8])
    """

    _shown = ("alpha", "beta")

    def __init__(
        self, activation: Callable[[Tensor], Tensor] = torch.relu, alpha: float = 1.0, beta: float = 0.0
    ) -> None:
        super().__init__()
        if not callable(activation):
            raise TypeError(f"activation must be callable, got {activation!r}")
        self.activation = activation
        self.alpha, self.beta = alpha, beta

    def forward(
        self, input: Tensor, belief: Tensor | None = None, *, key: MaskKey = None, call: int | None = None
    ) -> Tensor:
        """Of pre-activations; `belief`, of their shape, is another network's where it has one."""
        score = input if belief is None else belief
        p = torch.sigmoid(-(self.alpha * score + self.beta))
        return functional.standout(
            self.activation(input),
            p,
            self.training,
            key=self.mask_key(call, input, key),
            **self.place(input, 0),
        )


_OPERATORS = SimpleNamespace(exp=torch.exp, sigmoid=torch.sigmoid, softplus=torch.nn.functional.softplus)


class ConcreteDropout(Learned):
    """Drop the inputs of a linear or convolutional layer by a relaxed mask whose p is learned.

    Its `regularization()` belongs to the loss, or p only falls; `thinned.torch.regularization(model)` adds
    those of all layers.

    Args:
        layer: nn.Linear, or nn.Conv1d to Conv3d, whose channels are then dropped as wholes.
        p: where p begins, in (0, 1).
        samples: N, the size of the training set.
        length_scale: l, the prior's: a weight's standard deviation is 1/l.
        temperature: of the relaxed mask, positive.

    Raises:
        TypeError: `layer must be a Linear or Conv1d to Conv3d, got …`.
        ValueError: `p must be inside (0, 1), got …`; `samples must be positive, got …`; `temperature …`.

    Source:
        Gal, Hron and Kendall, "Concrete Dropout", NeurIPS 2017.

    Example:
        >>> import torch
        >>> layer = ConcreteDropout(torch.nn.Linear(8, 4), samples=1000)
        >>> layer(torch.ones(2, 8)).shape, round(layer.p.item(), 4)
        (torch.Size([2, 4]), 0.1)
    """

    def __init__(
        self,
        layer: torch.nn.Module,
        p: float = 0.1,
        *,
        samples: int,
        length_scale: float = 1e-2,
        temperature: float = 0.1,
    ) -> None:
        super().__init__(layer, p, samples)
        check_positive(length_scale=length_scale, temperature=temperature)
        self.length_scale, self.temperature = length_scale, temperature

    def forward(self, input: Tensor, *, key: MaskKey = None, call: int | None = None) -> Tensor:
        """The layer of what is kept; by `key` if given; `call` tells calls of one step apart."""
        kept = functional.concrete_dropout(
            input,
            self.p,
            self.training,
            temperature=self.temperature,
            key=self.mask_key(call, input, key),
            noise_shape=self.noise_shape(input),
            **self.place(input, 0),
        )
        return self.layer(kept)  # type: ignore[no-any-return]

    def regularization(self) -> Tensor:
        """The divergence from the prior over N: (l²/(2(1−p)) ‖W‖² − K H(p)) / N, of K inputs or channels."""
        weight, logit = at_least_float32(self.layer.weight), at_least_float32(self.p_logit)
        inputs = weight.shape[1] * getattr(self.layer, "groups", 1)
        prior = (inputs, self.samples, self.length_scale)
        return divergence(logit, weight.square().sum(), *prior, _OPERATORS)  # type: ignore[no-any-return]


# Kingma et al. 2015, appendix C: the divergence for α ≤ 1.
_CUBIC = (1.16145124, -1.50204118, 0.58629921)


class VariationalDropout(Learned):
    """Multiply the inputs of a layer by normal noise whose variance α = p/(1−p) ≤ 1 is learned.

    Args:
        layer: nn.Linear, or nn.Conv1d to Conv3d, whose channels have one number each.
        p: where p begins, in (0, 0.5].
        samples: N, the size of the training set.

    Raises:
        TypeError: `layer must be a Linear or Conv1d to Conv3d, got …`.
        ValueError: `p must be in (0, 0.5], got …`; `samples must be positive, got …`.

    Source:
        Kingma, Salimans and Welling, "Variational Dropout and the Local Reparameterization Trick",
        NeurIPS 2015.

    Example:
        >>> import torch
        >>> layer = VariationalDropout(torch.nn.Linear(8, 4), 0.2, samples=1000)
        >>> layer(torch.ones(2, 8)).shape, round(layer.p.item(), 4)
        (torch.Size([2, 4]), 0.2)
    """

    def __init__(self, layer: torch.nn.Module, p: float = 0.1, *, samples: int) -> None:
        super().__init__(layer, p, samples)
        if p > 0.5:
            raise ValueError(f"p must be in (0, 0.5], got {p}: the paper's divergence is known for α ≤ 1")

    @property
    def p(self) -> Tensor:
        """The rate that has been learned so far, at most 0.5: the parameter is log α."""
        return torch.sigmoid(self.p_logit.clamp_max(0.0))

    def forward(self, input: Tensor, *, key: MaskKey = None, call: int | None = None) -> Tensor:
        """The layer of its input with noise; by `key` if given; `call` tells calls of one step apart."""
        noisy = functional.variational_dropout(
            input,
            self.p,
            self.training,
            key=self.mask_key(call, input, key),
            noise_shape=self.noise_shape(input),
            **self.place(input, 0),
        )
        return self.layer(noisy)  # type: ignore[no-any-return]

    def regularization(self) -> Tensor:
        """The divergence of all weights from the log-uniform prior over N, but for a constant."""
        log_alpha = at_least_float32(self.p_logit).clamp_max(0.0)
        alpha, (c1, c2, c3) = log_alpha.exp(), _CUBIC
        each = 0.5 * log_alpha + alpha * (c1 + alpha * (c2 + alpha * c3))
        return -each * self.layer.weight.numel() / self.samples  # type: ignore[no-any-return]
