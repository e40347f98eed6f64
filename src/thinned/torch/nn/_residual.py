"""These layers drop, add a residual, and may normalise the sum."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from thinned._position import Shape
from thinned.torch import functional
from thinned.torch._site import MaskKey, Probability, Site, check_p


class DropoutAdd(Site):
    """Equivalent to `Dropout(p)(input) + residual`, to the bit, in one pass over memory.

    Args:
        p: drop probability in [0, 1], a tensor of them that fits the input, or a schedule.

    Raises:
        TypeError: `p must be a real number, got …`.
        ValueError: `p must be in [0, 1], got …`.

    Source:
        CONTRACT.md, section 4.

    Example:
        >>> import torch
        >>> DropoutAdd(0.1).eval()(torch.ones(3), torch.ones(3))
        tensor([2., 2., 2.])
    """

    _shown = ("p",)

    def __init__(self, p: Probability = 0.5) -> None:
        super().__init__()
        self.p = check_p(p)

    def forward(
        self, input: Tensor, residual: Tensor, *, key: MaskKey = None, call: int | None = None
    ) -> Tensor:
        """Drop the input in training and add the residual; `call` tells calls of one step apart."""
        return functional.dropout_add(
            input,
            residual,
            self.rate(self.p),
            self.training,
            key=self.mask_key(call, input, key),
            **self.place(input),
        )


class DropoutAddLayerNorm(Site, torch.nn.LayerNorm):
    """`DropoutAdd(p)` and `torch.nn.LayerNorm` of the sum, of which it is a subclass; on CUDA in one pass.

    Args:
        normalized_shape: the last dimensions' sizes, over which each norm goes.
        p: drop probability in [0, 1], a tensor of one, or a schedule.
        eps: added to the variance, at least 0.
        elementwise_affine: whether there is a weight, and a bias.
        bias: whether there is a bias beside a weight.
        device: of the parameters.
        dtype: of the parameters.

    Raises:
        TypeError: `p must be a real number, got …`.
        ValueError: `p must be in [0, 1], got …`.

    Source:
        CONTRACT.md, section 4; Ba, Kiros, Hinton, "Layer Normalization", arXiv 1607.06450, 2016.

    Example:
        >>> import torch
        >>> normed, total = DropoutAddLayerNorm(2, 0.1).eval()(torch.ones(2), torch.tensor([0.0, 2.0]))
        >>> total
        tensor([1., 3.])
    """

    _shown = ("p",)

    def __init__(
        self,
        normalized_shape: Shape,
        p: Probability = 0.5,
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(normalized_shape, eps, elementwise_affine, bias, device, dtype)
        self.p = check_p(p)

    def forward(  # type: ignore[override]
        self, input: Tensor, residual: Tensor, *, key: MaskKey = None, call: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """The normed sum, and the sum; `call` tells calls of one step apart."""
        return functional.dropout_add_layer_norm(
            *(input, residual, self.normalized_shape, self.weight, self.bias, self.eps),
            *(self.rate(self.p), self.training),
            key=self.mask_key(call, input, key),
            **self.place(input),
        )


class DropoutAddRMSNorm(Site, torch.nn.RMSNorm):
    """`DropoutAdd(p)` and `torch.nn.RMSNorm` of the sum, of which it is a subclass; on CUDA in one pass.

    Args:
        normalized_shape: the last dimensions' sizes, over which each norm goes.
        p: drop probability in [0, 1], a tensor of one, or a schedule.
        eps: added to the mean square, at least 0; the machine epsilon of the input's dtype if not given.
        elementwise_affine: whether there is a weight.
        device: of the weight.
        dtype: of the weight.

    Raises:
        TypeError: `p must be a real number, got …`.
        ValueError: `p must be in [0, 1], got …`.

    Source:
        CONTRACT.md, section 4; Zhang, Sennrich, "Root Mean Square Layer Normalization", NeurIPS 2019.

    Example:
        >>> import torch
        >>> normed, total = DropoutAddRMSNorm(2, 0.1).eval()(torch.ones(2), torch.tensor([0.0, 6.0]))
        >>> total
        tensor([1., 7.])
    """

    _shown = ("p",)

    def __init__(
        self,
        normalized_shape: Shape,
        p: Probability = 0.5,
        eps: float | None = None,
        elementwise_affine: bool = True,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(normalized_shape, eps, elementwise_affine, device, dtype)
        self.p = check_p(p)

    def forward(  # type: ignore[override]
        self, input: Tensor, residual: Tensor, *, key: MaskKey = None, call: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """The normed sum, and the sum; `call` tells calls of one step apart."""
        return functional.dropout_add_rms_norm(
            *(input, residual, self.normalized_shape, self.weight, self.eps),
            *(self.rate(self.p), self.training),
            key=self.mask_key(call, input, key),
            **self.place(input),
        )
