"""These layers have weights with normal noise, and learn a variance for each."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import softplus

from thinned._concrete import check_samples
from thinned.torch import functional
from thinned.torch._site import MaskKey, Site
from thinned.torch.nn._learned import at_least_float32

# Molchanov et al. 2017, equation 14: for all α.
_K1, _K2, _K3 = 0.63576, 1.87320, 1.48695


class Sparse(Site):
    """A mixin in front of a layer of torch's: its weights' variances, their divergence and what is pruned."""

    weight: Tensor
    log_sigma2: Tensor

    def learn(self, samples: int, threshold: float) -> None:
        """Make the variances, after torch's constructor."""
        self.samples, self.threshold = check_samples(samples), threshold
        self.log_sigma2 = torch.nn.Parameter(torch.full_like(self.weight, -10.0))

    @property
    def log_alpha(self) -> Tensor:
        """Log α of each weight; float16 has no 1e-16, and no room for a sum over a layer."""
        return (
            at_least_float32(self.log_sigma2)
            - 2.0 * at_least_float32(self.weight).abs().clamp_min(1e-16).log()
        )

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

    def regularization(self) -> Tensor:
        """The divergence of all weights from the log-uniform prior over N, but for a constant."""
        log_alpha = self.log_alpha
        negative = _K1 * torch.sigmoid(_K2 + _K3 * log_alpha) - 0.5 * softplus(-log_alpha) - _K1
        return -negative.sum() / self.samples

    def weights(self) -> tuple[Tensor, Tensor]:
        """Means and variances: in evaluation of those alone that are not pruned."""
        variance = at_least_float32(self.log_sigma2).exp()
        if self.training:
            return self.weight, variance
        kept = self.kept()
        return torch.where(kept, self.weight, 0.0), torch.where(kept, variance, 0.0)

    def key_of(self, call: int | None, input: Tensor, key: MaskKey) -> MaskKey:
        """The key of a call's noise."""
        return self.mask_key(call, input if input.requires_grad else self.weight, key)

    def extra_repr(self) -> str:
        """torch's, and the threshold."""
        return f"{super().extra_repr()}, samples={self.samples}, threshold={self.threshold}"


class SparseVariationalLinear(Sparse, torch.nn.Linear):
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
        >>> layer(torch.ones(2, 8)).shape, layer.sparsity() < 0.2
        (torch.Size([2, 4]), True)
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
        self.learn(samples, threshold)

    def forward(self, input: Tensor, *, key: MaskKey = None, call: int | None = None) -> Tensor:
        """(…, in_features) to (…, out_features), by `key` if given; `call` tells calls of one step apart."""
        shape = (*input.shape[:-1], self.out_features)
        return functional.variational_linear(
            input,
            *self.weights(),
            self.bias,
            self.training,
            key=self.key_of(call, input, key),
            **self.place(input, 0, shape),
        )


class SparseVariationalConv2d(Sparse, torch.nn.Conv2d):
    """Equivalent to `torch.nn.Conv2d` whose weights have normal noise, of a variance that each learns.

    As `SparseVariationalLinear`; each element of the output has noise of its own.

    Args:
        in_channels: of the input.
        out_channels: of the output.
        kernel_size: of the kernel, a number, or height and width.
        samples: N, the size of the training set.
        threshold: of log α; the paper's 3 is a rate of 0.95.
        **options: torch's: `stride`, `padding`, `dilation`, `groups`, `bias`, `device` and `dtype`.

    Raises:
        ValueError: `samples must be positive, got …`; `padding_mode must be 'zeros', got …`.

    Source:
        Molchanov, Ashukha and Vetrov, "Variational Dropout Sparsifies Deep Neural Networks", ICML 2017.

    Example:
        >>> layer = SparseVariationalConv2d(3, 4, 3, samples=1000, padding=1)
        >>> layer(torch.ones(2, 3, 8, 8)).shape, layer.sparsity() < 0.1
        (torch.Size([2, 4, 8, 8]), True)
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        *,
        samples: int,
        threshold: float = 3.0,
        **options: Any,
    ) -> None:
        if options.get("padding_mode", "zeros") != "zeros":
            raise ValueError(
                f"padding_mode must be 'zeros', got {options['padding_mode']!r}: pad before the layer, with "
                "torch.nn.ReflectionPad2d or CircularPad2d"
            )
        super().__init__(in_channels, out_channels, kernel_size, **options)
        self.learn(samples, threshold)

    def forward(self, input: Tensor, *, key: MaskKey = None, call: int | None = None) -> Tensor:
        """(N, C, H, W), by `key` if given; `call` tells calls of one step apart."""
        weight, variance = self.weights()
        return functional.variational_conv(
            input,
            weight,
            variance,
            self.bias,
            self.training,
            *self._options(),
            key=self.key_of(call, input, key),
            **self._place(input),
        )

    def _options(self) -> tuple[Any, ...]:
        return self.stride, self.padding, self.dilation, self.groups

    def _place(self, input: Tensor) -> Any:
        """The place of the output, where `set_rows` says that of the rows."""
        if not self.training or not self.has_rows:
            return {}
        there, weight = (each.detach().to("meta") for each in (input, self.weight))
        output = torch.nn.functional.conv2d(there, weight, None, *self._options())
        return self.place(input, 0, tuple(output.shape))
