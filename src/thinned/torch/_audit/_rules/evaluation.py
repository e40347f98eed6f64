"""This rule finds two evaluations that differ where no site shows why."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from thinned._audit import Finding, _evaluation
from thinned.torch._audit._evidence import Evidence


def differs(evidence: Evidence) -> Iterator[Finding]:
    """THN401: two evaluations differ, from some module on; said where no site drops in them."""
    first, second = evidence.evaluations
    if any(True for _ in _evaluation.drops_in_evaluation(evidence)):
        return
    if all(_equal(a, b) for a, b in zip(first.outputs, second.outputs, strict=False)):
        return
    for one, other in zip(first.steps, second.steps, strict=False):
        if _all_equal(one.inputs, other.inputs) and not _all_equal(one.outputs, other.outputs):
            yield Finding(
                "THN401",
                one.name,
                f"Two evaluations of {type(one.module).__name__} with equal inputs differ.",
                "Let it draw in training only.",
            )
            return


def _all_equal(one: list[Tensor], other: list[Tensor]) -> bool:
    return len(one) == len(other) and all(_equal(a, b) for a, b in zip(one, other, strict=True))


def _equal(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    return torch.equal(one, other) or bool(((one == other) | ((one != one) & (other != other))).all())


RULES = (differs,)
