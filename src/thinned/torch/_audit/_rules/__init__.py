"""The rules: what each finds in the evidence."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from thinned.torch._audit._evidence import Evidence
from thinned.torch._audit._report import Finding
from thinned.torch._audit._rules import evaluation, masks, orders, rates

RULES: Final[tuple[Callable[[Evidence], Iterator[Finding]], ...]] = (
    *evaluation.RULES,
    *rates.RULES,
    *masks.RULES,
    *orders.RULES,
)
