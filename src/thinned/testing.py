"""These assertions are for the tests of a project that uses dropout."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

__all__ = ["assert_dropout_healthy"]


def assert_dropout_healthy(model: Any, *inputs: Any, ignore: Collection[str] = (), **options: Any) -> None:
    """Assert that `thinned.torch.audit` finds nothing wrong with a model.

    Args:
        model: a torch.nn.Module.
        *inputs: what it is called with.
        ignore: codes of rules, such as `THN411`, that are no fault in this model.
        **options: `repeats`, and keyword arguments of the model.

    Raises:
        AssertionError: with the findings, a line each.
        ValueError: `ignore must hold codes such as THN411, got …`.

    Source:
        docs/audit.

    Example:
        >>> import torch
        >>> assert_dropout_healthy(torch.nn.Sequential(torch.nn.Dropout(0.5)), torch.ones(64, 8))
    """
    from thinned.torch import audit

    for code in ignore:
        if not (isinstance(code, str) and code.startswith("THN4")):
            raise ValueError(f"ignore must hold codes such as THN411, got {code!r}")
    found = [str(one) for one in audit(model, *inputs, **options).findings if one.code not in ignore]
    if found:
        raise AssertionError("\n".join(["dropout is not healthy:", *found]))
