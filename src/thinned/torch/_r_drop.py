"""R-Drop compares two passes of a batch with two masks."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import kl_div, log_softmax


def twice(model: torch.nn.Module, *inputs: Any) -> tuple[Any, Any]:
    """Run a batch twice through a model, with two masks: as one batch of twice the size.

    The two halves stand at different positions of one mask, so that they differ at every step, keyed or not,
    with no second key to say; two calls of a keyed model in one step would have the same mask twice. What a
    layer decides once for the whole batch (LayerDrop, a weight's mask, mode "batch") is common to both.

    Args:
        model: any module whose output's first dimension is the batch's.
        inputs: tensors (N, …), each repeated; what is no tensor is handed on.

    Returns:
        The outputs of the first and of the second pass.

    Raises:
        ValueError: `inputs must be tensors of one batch, got …`; `the model's output must be a tensor …`.

    Source:
        Liang et al., "R-Drop: Regularized Dropout for Neural Networks", NeurIPS 2021, section 2.3.

    Example:
        >>> import torch, thinned
        >>> model = thinned.torch.keyed(thinned.torch.nn.Dropout(0.5), seed=1)
        >>> one, other = twice(model, torch.ones(4, 100))
        >>> torch.equal(one, other)
        False
    """
    tensors = [each for each in inputs if isinstance(each, Tensor)]
    rows = {each.shape[:1] for each in tensors}
    if len(rows) != 1 or not min(rows):
        raise ValueError(
            f"inputs must be tensors of one batch, got shapes {[tuple(each.shape) for each in tensors]}: "
            "bind to the model what has no dimension of the batch"
        )
    doubled = [torch.cat([each, each]) if isinstance(each, Tensor) else each for each in inputs]
    output = model(*doubled)
    if not isinstance(output, Tensor) or output.shape[:1] != torch.Size([2 * min(rows)[0]]):
        got = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise ValueError(f"the model's output must be a tensor (2N, …) of two passes, got {got}")
    one, other = output.chunk(2)
    return one, other


def r_drop(one: Tensor, other: Tensor) -> Tensor:
    """The mean over two directions of the Kullback-Leibler divergence of two passes' logits.

    Add it to the mean of the two losses, times the paper's α, 1 to 5.

    Args:
        one: (N, classes), or (N, …, classes): logits of the first pass.
        other: those of the second.

    Returns:
        A tensor of no dimension: the mean over the samples, of half the sum of both directions.

    Raises:
        ValueError: `one and other must be of one shape, got …`.

    Source:
        Liang et al., "R-Drop: Regularized Dropout for Neural Networks", NeurIPS 2021, equation 2.

    Example:
        >>> import torch
        >>> bool(r_drop(torch.tensor([[0.0, 1.0]]), torch.tensor([[1.0, 0.0]])) > 0)
        True
    """
    if one.shape != other.shape:
        raise ValueError(
            f"one and other must be of one shape, got {tuple(one.shape)} and {tuple(other.shape)}"
        )
    p, q = (log_softmax(each.flatten(0, -2), -1) for each in (one, other))
    # A class that both passes hide by −inf has no share; ∞ − ∞ would be NaN.
    hidden = (p == -torch.inf) & (q == -torch.inf)
    p, q = p.masked_fill(hidden, 0.0), q.masked_fill(hidden, 0.0)
    forth = kl_div(p, q, reduction="batchmean", log_target=True)
    back = kl_div(q, p, reduction="batchmean", log_target=True)
    return (forth + back) / 2
