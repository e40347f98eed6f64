"""Variational dropout in front of a layer, and a linear layer whose weights have noise of their own."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import softplus

from thinned.torch import functional
from thinned.torch._site import MaskKey, Site
from thinned.torch.nn._learned import Learned, check_samples

# Kingma et al. 2015, appendix C: the divergence for α ≤ 1.
_CUBIC = (1.16145124, -1.50204118, 0.58629921)
# Molchanov et al. 2017, equation 14: for all α.
_K1, _K2, _K3 = 0.63576, 1.87320, 1.48695


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
        log_alpha = self.p_logit.clamp_max(0.0)
        alpha, (c1, c2, c3) = log_alpha.exp(), _CUBIC
        each = 0.5 * log_alpha + alpha * (c1 + alpha * (c2 + alpha * c3))
        return -each * self.layer.weight.numel() / self.samples  # type: ignore[no-any-return]


class SparseVariationalLinear(Site, torch.nn.Linear):
    """Equivalent to `torch.nn.Linear` whose weights have normal noise, of a variance that each learns.

    In training outputs are drawn; evaluation takes the means of weights that are not pruned: those with
    log α = log(σ²/w²) of the threshold or more are as good as noise.

    Args:
        in_features: size of each input.
        out_features: size of each output.
        bias: whether there is one; it has no noise.
        samples: N, the size of the training set.
        threshold: of log α; the paper's 3 is a rate of 0.95.
        device: of the parameters.
        dtype: of the parameters.

    Raises:
        ValueError: `samples must be positive, got …`.

    Source:
        Molchanov, Ashukha and Vetrov, "Variational Dropout Sparsifies Deep Neural Networks", ICML 2017.

    Example:
        >>> layer = SparseVariationalLinear(8, 4, samples=1000)
        >>> layer(torch.ones(2, 8)).shape, layer.sparsity()
        (torch.Size([2, 4]), 0.0)
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        samples: int,
        threshold: float = 3.0,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(in_features, out_features, bias, device, dtype)
        self.samples, self.threshold = check_samples(samples), threshold
        self.log_sigma2 = torch.nn.Parameter(torch.full_like(self.weight, -10.0))

    @property
    def log_alpha(self) -> Tensor:
        """Log α of each weight."""
        return self.log_sigma2 - 2.0 * self.weight.abs().clamp_min(1e-16).log()

    @property
    def p(self) -> Tensor:
        """The rate of each weight, α/(1+α)."""
        return torch.sigmoid(self.log_alpha)

    def kept(self) -> Tensor:
        """True where a weight is not pruned."""
        return self.log_alpha < self.threshold

    def sparsity(self) -> float:
        """The share of weights that are pruned."""
        return 1.0 - self.kept().double().mean().item()

    def forward(self, input: Tensor, *, key: MaskKey = None, call: int | None = None) -> Tensor:
        """(…, in_features) to (…, out_features), by `key` if given; `call` tells calls of one step apart."""
        shape = (*input.shape[:-1], self.out_features)
        kept = self.kept() if not self.training else None
        return functional.variational_linear(
            input,
            self.weight if kept is None else torch.where(kept, self.weight, 0.0),
            self.log_sigma2.exp() if kept is None else torch.where(kept, self.log_sigma2.exp(), 0.0),
            self.bias,
            self.training,
            key=self.mask_key(call, input if input.requires_grad else self.weight, key),
            **self.place(input, 0, shape),
        )

    def regularization(self) -> Tensor:
        """The divergence of all weights from the log-uniform prior over N, but for a constant."""
        log_alpha = self.log_alpha
        negative = _K1 * torch.sigmoid(_K2 + _K3 * log_alpha) - 0.5 * softplus(-log_alpha) - _K1
        return -negative.sum() / self.samples

    def extra_repr(self) -> str:
        """torch's, and the threshold."""
        return f"{super().extra_repr()}, samples={self.samples}, threshold={self.threshold}"
