"""Each rule of an audit finds one kind of fault in the evidence."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from thinned._audit import SHARED, Finding
from thinned.torch._audit._rules import evaluation, masks, orders

RULES: Final[tuple[Callable[[Any], Iterator[Finding]], ...]] = (
    *SHARED,
    *evaluation.RULES,
    *masks.RULES,
    *orders.RULES,
)
