"""This file has the function `thinned.torch.audit`."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.parameter import is_lazy

from thinned._audit import Audit, report
from thinned._audit._calls import check_repeats
from thinned.torch._audit._evidence import gather
from thinned.torch._audit._rules import RULES


def audit(model: torch.nn.Module, *inputs: Any, repeats: int = 8, **kwargs: Any) -> Audit:
    """Run a model a few times, and report what is wrong with its dropout.

    It is run twice in evaluation and `repeats` times in training, once with a backward pass. Modes,
    parameters, buffers, gradients and generators are put back. Of a large input or output at most 262,144
    positions are looked at, spread over all of it.

    Args:
        model: any module.
        *inputs: what it is called with: a batch like those of its training. The larger it is, the smaller the
            faults that can be seen, up to that number.
        repeats: training passes, at least 2.
        **kwargs: keyword arguments of the model.

    Returns:
        The findings, what was seen at each site, and the share of a training step that the sites take.

    Raises:
        TypeError: `model must be a torch.nn.Module, got …`; `repeats must be an integer, got …`.
        ValueError: `repeats must be at least 2, got …`; `model has a tensor without a shape yet, …`;
            `model has no values on the device meta, …`.

    Source:
        docs/audit: a page for each rule.

    Example:
        >>> import torch
        >>> class Net(torch.nn.Module):
        ...     def forward(self, x):
        ...         return torch.nn.functional.dropout(x, 0.5)
        >>> audit(Net(), torch.ones(64, 8)).findings[0].code
        'THN401'
    """
    if not isinstance(model, torch.nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    check_repeats(repeats)
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if is_lazy(tensor):
            raise ValueError(f"model has a tensor without a shape yet, {name!r}: call the model once before")
        if tensor.is_meta:
            raise ValueError(f"model has no values on the device meta, such as {name!r}: move it elsewhere")
    evidence = gather(model, inputs, kwargs, repeats)
    return report(evidence, RULES)
